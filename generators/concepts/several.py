"""Learn several concepts of one prompt, one for each seed; save and show them while they are learnt."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import torch
from torch import Tensor

from ...density.base.errors import RarityError
from ...density.base.progress import Progress
from ...density.estimators.contract import Density
from ...density.files.store import numbered
from ...density.steering.guardrails import Guardrail
from ...density.steering.trajectory import Trajectory
from ..kandinsky.decoder import Decoder
from ..kandinsky.prior import Prior
from .concept import Concept
from .concept_files import save_concept
from .learn import learn_concept

SHOWN = 4  # samples in a preview
STEPS = 20  # most steps of a preview's decoding


def learn_concepts(
    prior: Prior,
    density: Density,
    prompt: str,
    word: str = "",
    one_in: float = 1000,
    guardrails: tuple[Guardrail, ...] = (),
    *,
    seed: int = 0,
    seeds: int = 1,
    keep: str | Path | None = None,
    decoder: Decoder | None = None,
    preview: Callable[[Tensor], None] | None = None,
    progress: Progress | None = None,
    **settings,
) -> list[Concept]:
    """A concept for each of several seeds. Learning comes further with some seeds than with others.

    Parameters
    ----------
    prior, density, prompt, word, one_in, guardrails : as `learn_concept`; `settings` are its other parameters, from
        kind on.
    seed, seeds : the first seed, and their number: seed, seed + 1, ...
    keep : a file to which what was learnt so far is written at every checkpoint after the first, so that it survives a
        cancel. With several seeds there is one file for each, numbered from 1. Files of these names are replaced.
    decoder, preview : at every checkpoint the decoder draws the first samples, and preview is called with them as one
        picture [1, H, W, 3].
    progress : called with (done, total), in iterations of all seeds.

    Returns
    -------
    The concepts, in the order of their seeds.

    Raises
    ------
    RarityError : as `learn_concept`; no seeds; a decoder of another model; a file that cannot be written.
    """
    if seeds < 1:
        raise RarityError(f"The seeds must be at least 1, got {seeds}.")
    if decoder is not None:
        decoder.space.require_same(prior.space, "prior")
    learnt: list[Concept] = []
    at = (0, 1)

    def moved(done: int, total: int) -> None:
        nonlocal at
        at = len(learnt) * total + done, seeds * total
        if progress:
            progress(*at)

    def keep_it(concept: Concept) -> None:
        if keep is not None and len(concept.steps) > 1:
            save_concept(concept, numbered(keep, len(learnt) + 1, seeds))

    def watch(concept: Concept) -> None:
        keep_it(concept)
        if decoder is not None and preview is not None:
            preview(_drawn(decoder, concept, lambda *_: progress and progress(*at)))

    for one in range(seed, seed + seeds):
        concept = learn_concept(
            prior, density, prompt, word, one_in, guardrails, seed=one % 2**64, progress=moved, watch=watch, **settings
        )
        keep_it(concept)  # once more, because the last notes are added at the end
        learnt.append(concept)
    return learnt


def _drawn(decoder: Decoder, concept: Concept, progress: Progress) -> Tensor:
    """The first samples of the last checkpoint, beside each other in one picture [1, H, W, 3]."""
    last = concept.trajectory.final
    rows = last.select(range(min(SHOWN, len(last))))
    pictures = decoder.decode(rows, steps=min(STEPS, decoder.defaults.steps), progress=progress)
    return torch.cat(list(pictures), dim=1)[None]


def columns(concepts: list[Concept]) -> tuple[list[Concept], list[Trajectory], list[str]]:
    """The concepts, their trajectories and their reports."""
    return concepts, [one.trajectory for one in concepts], [one.report() for one in concepts]
