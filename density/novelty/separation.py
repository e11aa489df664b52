"""How clear a picture stands of those seen: near to one of them, or only where pictures lie close together anyway."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

from ..base.embeddings import Embeddings
from ..base.errors import RarityError
from ..base.keys import member, row_keys
from ..base.tensors import generator
from ..calibration.surprisal import MIN_SCORES
from ..estimators.gaussian import GaussianDensity
from ..estimators.nearest import nearest
from .exposure import ExposureMemory

# The larger, the farther off a copy is still told from a new picture, and the more a new picture loses that happens to
# lie nearer to a seen one than to all others: at 64 one a hundredth nearer loses half.
SHARPNESS = 64
OTHERS = 20_000  # unseen pictures that say how near one usually finds another
SOME = 2000  # of them, those whose own neighbours are looked at
CANDIDATES = 10  # nearest others of each of them
CHANCE = 10_000  # pairs of unrelated pictures, one of which is taken for a picture and its copy


def separation(distance: Tensor, elsewhere: Tensor) -> Tensor:
    """How far a picture stands from something, less where unrelated pictures are no nearer, the shape of `distance`.

        t = d min(1, d / b)^SHARPNESS

    d is the distance to the nearest picture seen, b that to the nearest of many unseen ones. A picture moved a little
    leaves both its original and all others, so d alone soon says nothing; yet the original stays the nearest by far.
    (d / b)^m is the ratio of two nearest-neighbour estimates of density in m dimensions, of unseen pictures over seen
    ones (Loftsgaarden & Quesenberry 1965); Lowe (2004) tells matches by d / b alone. Where no seen picture is nearer
    than the unseen ones, t is d: what lies far from everything has a ratio near 1 and is not a copy for that.

    Parameters
    ----------
    distance : d.   elsewhere : b, broadcast with d; where it is 0, too, t is d.
    """
    ratio = torch.where(elsewhere > 0, distance / elsewhere, 1.0)
    return distance * ratio.clamp_max(1.0).pow(SHARPNESS)


def without(rows: Tensor, seen: Tensor) -> Tensor:
    """The float32 rows that are not, bit for bit, among those seen."""
    return rows[~member(row_keys(rows), row_keys(seen).sort().values)]


def elsewhere(x: Tensor, others: Tensor, tick: Callable[[], None] | None = None) -> Tensor:
    """Distance of each row of x [N, d] to the nearest of the others [m, d]; to the second where it is one itself."""
    found = nearest(x, others, min(2, len(others)), tick)[0]
    return torch.where(found[:, 0] > 0, found[:, 0], found[:, -1])


class Unseen:
    """Pictures that were not seen, to compare with: how near do two pictures come that have nothing to do with each other?

    Two such pictures stand less clear of each other than `chance` in one pair of CHANCE only. So of fresh pictures and a
    memory of n, at most n / CHANCE are less clear of it than chance, and have less than all of their novelty.

    Parameters
    ----------
    density : its samples serve where there is no baseline.   memory : what was seen.
    baseline : unseen pictures, 50 or more; those that the memory holds are left out.
    seed : of the choice among more than are needed.   tick : called several times a second, and may raise.

    Attributes
    ----------
    others : [m, d], the unseen pictures.   chance : a separation, in units of the embedding.

    Raises
    ------
    RarityError : different spaces; a baseline of fewer than 50 pictures.
    """

    def __init__(
        self,
        density: GaussianDensity,
        memory: ExposureMemory,
        *,
        baseline: Embeddings | None = None,
        seed: int = 0,
        tick: Callable[[], None] | None = None,
    ):
        density.space.require_same(memory.space, "memory")
        if baseline is not None:
            density.space.require_same(baseline.space, "baseline")
        rows = density.statistics.rows if baseline is None else baseline.vectors
        if len(rows) < MIN_SCORES:
            raise RarityError(
                f"A baseline needs at least {MIN_SCORES} pictures to say how near is too near, got {len(rows):,}. Draw "
                "more, or leave it out: the samples of the density serve then."
            )
        rows = rows[torch.randperm(len(rows), generator=generator(seed))]
        unseen = without(rows, memory.vectors)
        self._tick = tick
        self._memory, self.others = memory.vectors, (unseen if len(unseen) >= MIN_SCORES else rows)[:OTHERS]
        self.chance = self._nearest_by_chance()

    def measure(self, items: Embeddings) -> tuple[Tensor, Tensor, Tensor]:
        """How clear of the memory each picture stands, 0 a repeat, 1 as chance brings it; distance to the nearest
        remembered picture and its index. [N] each."""
        distance, index = (found[:, 0] for found in nearest(items.vectors, self._memory, tick=self._tick))
        apart = separation(distance, elsewhere(items.vectors, self.others, self._tick))
        return (apart / self.chance).clamp_max(1.0), distance, index

    def _nearest_by_chance(self) -> float:
        """The separation that one in CHANCE pairs of the unseen pictures does not reach.

        Of a picture's pairs, only those with its nearest others are candidates. The nearest has the second as its b, all
        others have the nearest.
        """
        some = self.others[:SOME]
        d = nearest(some, self.others, min(CANDIDATES + 1, len(self.others)), self._tick)[0][:, 1:]  # the first is itself
        b = torch.cat([d[:, 1:2], d[:, :1].expand(-1, d.shape[1] - 1)], dim=1)
        pairs = separation(d, b).flatten().sort().values
        pairs = pairs[pairs > 0]
        if len(pairs) == 0:
            raise RarityError("The unseen pictures are all the same. Draw a baseline with more than one seed.")
        rank = round(len(some) * (len(self.others) - 1) / CHANCE)
        return float(pairs[min(max(rank, 1), len(pairs)) - 1])
