"""Several concepts of one prompt, one a seed, which are kept on disk and shown while they are learnt."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import torch
from torch import Tensor

from ...density.base.errors import RarityError
from ...density.estimators.gaussian import GaussianDensity
from ...density.files.store import numbered
from ...density.steering.guardrails import Guardrail
from ...density.steering.trajectory import Trajectory
from ..kandinsky.decoder import Decoder
from ..kandinsky.prior import Prior, Progress
from .concept import Concept
from .concept_files import save_concept
from .learn import learn_concept

SHOWN = 4  # samples in a preview
STEPS = 20  # of their decoding, at most


def learn_concepts(
    prior: Prior,
    density: GaussianDensity,
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
    """A concept for each of several seeds: how far one comes differs from seed to seed.

    Parameters
    ----------
    prior, density, prompt, word, one_in, guardrails : as `learn_concept`; `settings` are its kind and all that follows.
    seed, seeds : the first seed, and how many: seed, seed + 1, ...
    keep : a file that holds what was learnt so far, from the first checkpoint at which something was learnt: should
        learning be cancelled, it is there. With several seeds one file each, numbered from 1. Files of these names are replaced.
    decoder, preview : draws the first samples at every checkpoint, and is called with them as one picture [1, H, W, 3].
    progress : called with (done, total), iterations of all seeds.

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
        keep_it(concept)  # once more: its notes come last
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
