"""From a baseline to rare embeddings: choose the samples to start from, or vary a picture, and move them."""

from __future__ import annotations

import math

import torch

from ..base.embeddings import Embeddings
from ..base.errors import RarityError
from ..base.keys import shuffled
from ..base.progress import Progress, in_parts, waiting
from ..estimators.contract import Density
from ..estimators.own_samples import calibration_for
from .guardrails import Guardrail
from .optimize import check_spaces, optimize
from .trajectory import Trajectory
from .variation import variations


def check_starts(count: int, embeddings: int) -> None:
    """Raise RarityError unless so many starts can be taken from so many embeddings."""
    if not 1 <= count <= embeddings:
        raise RarityError(
            f"The count must be 1 to {embeddings:,}, for there are {embeddings:,} embeddings to start from, got {count:,}. "
            "Draw more samples, or make fewer."
        )


def choose_starts(
    baseline: Embeddings,
    density: Density,
    count: int,
    kind: str = "usual",
    seed: int = 0,
    guardrails: tuple[Guardrail, ...] = (),
    *,
    progress: Progress | None = None,
) -> Embeddings:
    """Pick different rows of the baseline as starts, at random.

    A row's own key and the seed decide whether it is picked (`shuffled`). If rounding on another processor exchanges
    one row of the rarest tenth, at most that one start changes.

    Parameters
    ----------
    baseline : N samples of the density's space.   density : says how rare they are.   count : 1 to N.
    kind : "usual" takes any rows, "rarer" those of the naturally rarest tenth. Rarer rows have a shorter way, in
        directions that the model itself takes; benchmarks/valid_rare.py measures both kinds side by side.
    seed : of the choice. The same rows in another order give the same starts.
    guardrails : "rarer" rows are taken from those inside all of these; if these are too few, the rows nearest to inside
        are added. A row that is rare because it is not the subject is a bad start.
    progress : called with (0, 1) several times a second. An exception that it raises ends the choice.

    Returns
    -------
    `count` embeddings.

    Raises
    ------
    RarityError : more starts than rows, an unknown kind, another space.
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


def make_rare(
    density: Density,
    baseline: Embeddings,
    one_in: float,
    count: int,
    guardrails: tuple[Guardrail, ...] = (),
    *,
    start_from: str = "rarer",
    picture: Embeddings | None = None,
    how_far: float = 0.4,
    seed: int = 0,
    progress: Progress | None = None,
    **settings,
) -> tuple[Trajectory, Embeddings]:
    """Rare embeddings, and as many usual samples to set beside them.

    Parameters
    ----------
    density, one_in, guardrails, progress : as for `optimize`.   settings : its other settings.
    baseline : the samples to start from, and to take usual ones from.   count : of rare embeddings, and of usual ones.
    start_from : "usual" or "rarer" samples, as in `choose_starts`.
    picture : embeddings to vary instead of samples, as in `variations`; `start_from` then does not matter.
    how_far : from the picture.   seed : of the choice of samples and of the steps.

    Returns
    -------
    The trajectory; `count` usual samples.

    Raises
    ------
    RarityError : as `choose_starts`, `variations` and `optimize`.
    """
    usual = choose_starts(baseline, density, count, "usual", seed)
    settings |= {"seed": seed, "progress": progress}
    if picture is not None:
        return variations(density, picture, count, how_far, one_in, guardrails, **settings), usual
    starts = choose_starts(baseline, density, count, start_from, seed, guardrails, progress=progress)
    return optimize(density, starts, one_in, guardrails, **settings), usual
