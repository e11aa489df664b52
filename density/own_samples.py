"""Samples that a density has learnt from, and results that began in them: calibrated beside each other, not beside new ones.

A fit follows its samples: towards each of them it has learnt more spread than there is, the more so the fewer they are. Seen
beside new samples they look usual, and one that was moved until it looks like a new one of 1 in 1,000 is truly far rarer.
`benchmarks/starts.py` measures it where the truth is known.
"""

from __future__ import annotations

import torch
from torch import Tensor

from .calibration import Calibration
from .embeddings import Embeddings
from .gaussian import GaussianDensity
from .keys import member, row_keys

BEGAN = "began_in"  # key of a source: the samples that all rows were moved from, as `name_of` names them


class RowCalibration:
    """A calibration for every row: that of the density's own samples, or that of new ones.

    Parameters
    ----------
    density : what is usual.   own : [N] bool, the rows that count as its own samples.
    """

    def __init__(self, density: GaussianDensity, own: Tensor):
        self.own, self._own, self._new = own, density.own_calibration, density.calibration

    def bits(self, score: Tensor) -> Tensor:
        """Surprisal of each row's score [N], as `Calibration.bits`."""
        return torch.where(self.own, self._own.bits(score), self._new.bits(score))

    def interval(self, score: Tensor) -> tuple[Tensor, Tensor]:
        """90 % interval of the bits of each row's score [N], as `Calibration.interval`."""
        own, new = self._own.interval(score), self._new.interval(score)
        return torch.where(self.own, own[0], new[0]), torch.where(self.own, own[1], new[1])

    def score_at(self, bits: float) -> Tensor:
        """The score of a wanted rarity for each row, [N, 1]."""
        return torch.where(self.own, self._own.score_at(bits), self._new.score_at(bits)).double()[:, None]


def calibration_for(density: GaussianDensity, embeddings: Embeddings) -> Calibration | RowCalibration:
    """What makes scores of these embeddings bits: where all are the density's own, or all new, a plain calibration."""
    own = are_own(density, embeddings)
    if not own.any():
        return density.calibration
    return density.own_calibration if own.all() else RowCalibration(density, own)


def are_own(density: GaussianDensity, embeddings: Embeddings) -> Tensor:
    """Which rows the density has learnt from, or were moved from such rows by `optimize`, [N] bool.

    None for a density of nearest neighbours: a sample's own distance to itself says nothing.
    """
    if density.estimator == "neighbours":
        return torch.zeros(len(embeddings), dtype=torch.bool)
    if embeddings.source.get(BEGAN) == name_of(density):
        return torch.ones(len(embeddings), dtype=torch.bool)
    return member(row_keys(embeddings.vectors), density.statistics.keys)


def name_of(density: GaussianDensity) -> str:
    """A name for the samples a density has learnt from, kept by larger sets of them as often as not: their first key."""
    return f"{int(density.statistics.keys[0]) & (1 << 64) - 1:016x}"
