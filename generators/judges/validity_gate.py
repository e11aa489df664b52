"""The validity gate: it draws embeddings while they are steered, and a judge looks at the pictures."""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING

from torch import Tensor

from ...density.base.embeddings import Embeddings
from ...density.base.errors import RarityError, quoted
from ...density.base.progress import Progress
from ...density.steering.gates import Gate
from ..eyes.contrast_sources import for_the_prompt
from .vlm import Vlm, VlmJudge
from .zero_shot import ContrastJudge, Eye, Judge

if TYPE_CHECKING:
    from ..kandinsky.decoder import Decoder


class ValidityGate(Gate):
    """A gate for loops such as `optimize` and `learn_concept`: a judge says whether a picture still is the subject.

    Parameters
    ----------
    judge : looks at pictures. If it has `notes`, the gate has the same notes.
    decoder : draws embeddings, always with the same noise. None if the loop gives pictures itself.
    every, threshold, on_no : as `Gate`.

    Raises
    ------
    RarityError : as `Gate`.
    """

    def __init__(
        self,
        judge: Judge,
        decoder: Decoder | None = None,
        every: int = 25,
        threshold: float = 0.5,
        on_no: str = "step back",
    ):
        super().__init__(self._draw_and_ask, judge.subject, every, threshold, on_no)
        self.judge, self.decoder, self.notes = judge, decoder, getattr(judge, "notes", ())

    def validity(self, pictures: Tensor, progress: Progress | None = None) -> Tensor:
        """The judge's P(yes) for pictures [N, H, W, 3], 0 to 1. The result is [N] float64."""
        return self.judge.probability(pictures, progress=progress)

    def _draw_and_ask(self, embeddings: Embeddings, progress: Progress | None) -> Tensor:
        if self.decoder is None:
            raise RarityError(
                f"The gate of {quoted(self.subject)} has no decoder, so it cannot see what these embeddings look like. "
                "Give it the decoder that belongs to them."
            )
        return self.validity(self.decoder.decode(embeddings, seed=0, progress=progress), progress)


def choose_judge(
    subject: str,
    eye: Eye | None = None,
    alternatives: Iterable[str] = (),
    *,
    model: Vlm | None = None,
    baseline: Embeddings | None = None,
) -> Judge:
    """Make a judge: a vision-language model, or an eye that tells the subject from alternatives.

    Parameters
    ----------
    subject, eye, alternatives : see `ContrastJudge`.   model : see `VlmJudge`.
    baseline : if it is given, an empty subject means its prompt. The judge's `notes` say so if the prompt does not speak of
        the subject.

    Raises
    ------
    RarityError : neither a model nor an eye is given, or both; the errors of the two judges.
    """
    said: tuple[str, ...] = ()
    if baseline is not None:
        subject, alternatives, said = for_the_prompt("gate", subject, alternatives, baseline)
    judge = _judge(subject, eye, alternatives, model)
    judge.notes = (*judge.notes, *said)
    return judge


def _judge(subject: str, eye: Eye | None, alternatives: Iterable[str], model: Vlm | None) -> Judge:
    if (model is None) == (eye is None):
        raise RarityError(
            "The gate needs exactly one that sees pictures and reads words: connect a prior or the encoder of Load OpenCLIP to eye, or a "
            f"vision-language model of Load Judge to judge. Got {'none' if eye is None else 'both'}."
        )
    return VlmJudge(model, subject) if eye is None else ContrastJudge(eye, subject, alternatives)
