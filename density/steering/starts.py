"""Where to set out from: samples of a baseline, any of them or those that are rare already."""

from __future__ import annotations

import math
from collections.abc import Callable

import torch

from ..base.embeddings import Embeddings
from ..base.errors import RarityError
from ..base.keys import shuffled
from ..base.progress import in_parts, waiting
from ..estimators.gaussian import GaussianDensity
from ..estimators.own_samples import calibration_for
from .guardrails import Guardrail
from .optimize import check_spaces


def check_starts(count: int, embeddings: int) -> None:
    """Raise RarityError unless so many starts can be taken from so many embeddings."""
    if not 1 <= count <= embeddings:
        raise RarityError(
            f"The count must be 1 to {embeddings:,}, for there are {embeddings:,} embeddings to start from, got {count:,}. "
            "Draw more samples, or make fewer."
        )


def choose_starts(
    baseline: Embeddings,
    density: GaussianDensity,
    count: int,
    kind: str = "usual",
    seed: int = 0,
    guardrails: tuple[Guardrail, ...] = (),
    *,
    progress: Callable[[int, int], None] | None = None,
) -> Embeddings:
    """Pick different rows of the baseline to set out from, at random: each by its own key and the seed (`shuffled`).

    So where rounding brings another row into the rarest tenth, only that row is another start, and the rest stay.

    Parameters
    ----------
    baseline : N samples of the density's space.   density : says how rare they are.   count : 1 to N.
    kind : "usual" takes any rows, "rarer" those of the naturally rarest tenth. These have less far to go, in directions the
        model itself takes; measured side by side in benchmarks/valid_rare.py.
    seed : of the choice: the same rows in another order give the same starts.
    guardrails : "rarer" rows are taken from those inside all of these, or, where they are too few, the nearest to inside:
        what is rare because it fails is no good start.
    progress : called with (0, 1) several times a second; what it raises ends the choice.

    Returns
    -------
    `count` embeddings.

    Raises
    ------
    RarityError : more rows asked for than there are, another kind, another space.
    """
    check_spaces(density, baseline, guardrails, ())
    check_starts(count, len(baseline))
    if kind not in ("usual", "rarer"):
        raise RarityError(f'Starts are "usual" or "rarer", got {kind!r}.')
    pool = torch.arange(len(baseline))
    if kind == "rarer":
        most = max(count, math.ceil(len(baseline) / 10))
        tick = waiting(progress)
        bits = calibration_for(density, baseline, tick).bits(in_parts(density.score, baseline.vectors, tick))
        pool = bits.argsort(descending=True, stable=True)[:most]
        if guardrails:
            penalty = torch.stack([rail.penalty(baseline.vectors[pool]) for rail in guardrails]).sum(dim=0)
            inside = max(count, int((penalty <= 0).sum()))
            pool = pool[penalty.argsort(stable=True)[:inside]]
    return baseline.select(pool[shuffled(baseline.keys[pool], seed)[:count]])
