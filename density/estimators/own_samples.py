"""Calibrations of a density's own samples. Own samples, and results that started from them, are compared with each other.

A fit adapts to its own samples: in the direction of each of them it learns more spread than there is, and the more so the
fewer samples there are. Compared with new samples, own samples therefore look too usual. An own sample that is moved until
it looks like a new sample of 1 in 1,000 is really far rarer. For a covariance of all directions it can be the other way
round: a few samples lie almost equally far out, and what is rare among them is really less rare (`doubts`).
`benchmarks/starts.py` measures both where the truth is known.
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

# With this many samples for each dimension results are about as rare as asked (8 to 11 bits where 10 were asked), if they
# start from own samples, and if they start from new ones.
ENOUGH_OWN, ENOUGH_NEW = 4, 16


class RowCalibration:
    """A calibration for each row: that of own samples if the row is one, otherwise that of new samples.

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
    """The calibration that turns the scores of these embeddings into bits.

    If all rows are the density's own samples, or if all are new, it is a plain calibration.

    tick : called while the calibration of the own samples is learnt, and may raise.
    """
    own = are_own(density, embeddings)
    if not own.any():
        return density.calibration
    return density.learn_own_calibration(tick) if own.all() else RowCalibration(density, own, tick)


def are_own(density: Density, embeddings: Embeddings) -> Tensor:
    """Which rows are own samples of the density, or were moved from own samples by `optimize`, [N] bool; keys decide.

    For a density without an own calibration all rows are new.
    """
    if not density.has_own_calibration:
        return torch.zeros(len(embeddings), dtype=torch.bool)
    return member(embeddings.keys, density.statistics.keys)


def doubts(density: Density, own: Tensor) -> tuple[str, ...]:
    """Notes for the user if the samples are too few for results to be as rare as dialled.

    own : [N] bool, which of the starts are own samples of the density.
    """
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
