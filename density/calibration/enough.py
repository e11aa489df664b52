"""How many samples a density needs: some are left out of its fits, and each fit must still have enough of them."""

from __future__ import annotations

import math

from ..base.errors import RarityError
from ..base.keys import FOLDS
from .surprisal import MIN_SCORES


def check_enough(n: int, components: int = 0) -> None:
    """Raise a RarityError where n samples are too few for any density, or for any with so many components.

    Which samples share a fold is known only when they are there. Here the folds are taken to be equal, which leaves a
    fit the most samples.
    """
    check_samples(n)
    check_directions(n, n * (FOLDS - 2) // FOLDS, components)


def check_samples(n: int) -> None:
    """Raise a RarityError where so many samples are too few for any density."""
    if n < MIN_SCORES:
        raise _too_few("at all", MIN_SCORES, n)


def check_directions(n: int, left: int, components: int) -> None:
    """Raise a RarityError if a fit of `left` of the n samples, without two folds, is too small for so many components.

    For ppca, fits of three fifths show how scores change with the number of samples. They need as many directions, too.
    """
    if components and left < components + 2:
        raise _too_few(f"with {components} components", _enough(n, components + 2, 2), n, "choose fewer components")


def check_full(n: int, left: int, width: int) -> None:
    """Raise a RarityError if a fit of `left` of the n samples, without one fold, is too small for a full covariance."""
    if left < width + 1:
        raise _too_few(f"in full, {width} dimensions wide", _enough(n, width + 1, 1), n, "use ledoit-wolf")


def _enough(n: int, needed: int, left_out: int) -> int:
    """How many samples leave `needed` ones to a fit without so many folds; those may be larger than the others."""
    return max(n + 1, math.ceil(needed * FOLDS / (FOLDS - left_out) + 2 * left_out * math.sqrt(needed)))


def _too_few(what: str, needed: int, n: int, instead: str = "") -> RarityError:
    """The error about n samples where `needed` are the least for `what`, which begins with "with", "in" or "at"."""
    return RarityError(
        f"Too few samples to learn a density {what}: at least {needed:,} different ones are needed, got {n:,}. "
        f"Draw more samples{', or ' + instead if instead else ''}."
    )
