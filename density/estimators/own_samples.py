"""Samples that a density has learnt from, and results that began in them: calibrated beside each other, not beside new ones.

A fit follows its samples: towards each of them it has learnt more spread than there is, the more so the fewer they are. Seen
beside new samples they look usual, and one that was moved until it looks like a new one of 1 in 1,000 is truly far rarer.
Under a covariance of all directions a few samples lie nearly equally far out, so that there what is as rare among them is
truly less rare (`doubts`). `benchmarks/starts.py` measures both where the truth is known.
"""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

from ..base.embeddings import Embeddings
from ..base.keys import member
from ..calibration.surprisal import Calibration
from .contract import Density
from .cross_fit import ESTIMATORS

# Samples a dimension from which on results are about as rare as asked, 8 to 11 bits for 10: begun in own samples, in new ones.
ENOUGH_OWN, ENOUGH_NEW = 4, 16


class RowCalibration:
    """A calibration for every row: that of the density's own samples, or that of new ones.

    Parameters
    ----------
    density : what is usual.   own : [N] bool, the rows that count as its own samples.
    tick : called while the calibration of the own samples is learnt, and may raise.
    """

    def __init__(self, density: Density, own: Tensor, tick: Callable[[], None] | None = None):
        self.own, self._own, self._new = own, density.learn_own_calibration(tick), density.calibration

    def bits(self, score: Tensor) -> Tensor:
        """Surprisal of each row's score [N], as `Calibration.bits`."""
        return torch.where(self.own, self._own.bits(score), self._new.bits(score))

    def interval(self, score: Tensor) -> tuple[Tensor, Tensor]:
        """90 % interval of the bits of each row's score [N], as `Calibration.interval`."""
        own, new = self._own.interval(score), self._new.interval(score)
        return torch.where(self.own, own[0], new[0]), torch.where(self.own, own[1], new[1])

    def score_at(self, bits: float) -> Tensor:
        """The score of a wanted rarity for each row, [N, 1]."""
        own, new = (torch.tensor(one.score_at(bits), dtype=torch.float64) for one in (self._own, self._new))
        return torch.where(self.own, own, new)[:, None]


def calibration_for(
    density: Density, embeddings: Embeddings, tick: Callable[[], None] | None = None
) -> Calibration | RowCalibration:
    """What makes scores of these embeddings bits: where all are the density's own, or all new, a plain calibration.

    tick : called while the calibration of the own samples is learnt, and may raise.
    """
    own = are_own(density, embeddings)
    if not own.any():
        return density.calibration
    return density.learn_own_calibration(tick) if own.all() else RowCalibration(density, own, tick)


def are_own(density: Density, embeddings: Embeddings) -> Tensor:
    """Which rows the density has learnt from, or were moved from such rows by `optimize`: their keys say it, [N] bool.

    To a density of nearest neighbours all are new: a sample's own distance to itself says nothing.
    """
    if not density.has_own_calibration:
        return torch.zeros(len(embeddings), dtype=torch.bool)
    return member(embeddings.keys, density.statistics.keys)


def doubts(density: Density, own: Tensor) -> tuple[str, ...]:
    """In words, where the samples are too few for what is moved from rows [N], own ones or not, to be as rare as dialled."""
    d = density.space.width
    few = f"{density.count:,} samples say little about {d:,} dimensions"
    said = ()
    if own.any() and density.count < ENOUGH_OWN * d:
        how = "less rare" if density.estimator in ESTIMATORS[1:] else "rarer"
        said += (f"{few}: what begins in these may truly be {how} than dialled; take {ENOUGH_OWN * d:,} samples.",)
    if not own.all() and density.count < ENOUGH_NEW * d:
        instead = f"begin in these, or take {ENOUGH_NEW * d:,} samples"
        said += (f"{few}: what begins in others may truly be rarer than dialled; {instead}.",)
    return said
