"""How separate a picture is from those seen, measured against how near unrelated pictures come to each other."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

from ..base.embeddings import Embeddings
from ..base.errors import RarityError
from ..base.keys import member
from ..base.tensors import generator
from ..calibration.surprisal import MIN_SCORES
from ..estimators.contract import Density
from ..estimators.nearest import nearest
from .exposure import SAME, ExposureMemory

# A larger value recognises copies at a larger distance. It also costs a new picture more that happens to lie nearer to
# a seen picture than to all others: at 64, a picture that is a hundredth nearer loses half.
SHARPNESS = 64
OTHERS = 20_000  # unseen pictures that show how near the next picture usually is
SOME = 2000  # of these, the pictures whose own neighbours are measured
CANDIDATES = 10  # neighbours that are measured for each of them
CHANCE = 10_000  # one of so many pairs of unrelated pictures is taken for a picture and its copy


def separation(distance: Tensor, elsewhere: Tensor) -> Tensor:
    """The distance of a picture to a seen one, reduced where the seen one is nearer than all unrelated pictures.

        t = d min(1, d / b)^SHARPNESS,    the shape of `distance`

    d is the distance to the nearest picture seen, b the distance to the nearest of many unseen pictures. A picture that
    is changed a little moves away from its original and from all other pictures, so d alone soon says nothing. But its
    original is still by far the nearest picture, and d / b shows this. (d / b)^m is the ratio of two nearest-neighbour
    estimates of density in m dimensions, of unseen pictures over seen ones (Loftsgaarden & Quesenberry 1965). Lowe
    (2004) recognises matches by d / b alone. A picture far from everything has a d / b near 1, so it is not taken for a
    copy; if no seen picture is nearer than the unseen ones, t is d.

    Parameters
    ----------
    distance : d.   elsewhere : b, broadcast with d; if b is 0, t is d.
    """
    ratio = torch.where(elsewhere > 0, distance / elsewhere, 1.0)
    return distance * ratio.clamp_max(1.0).pow(SHARPNESS)


def elsewhere(
    x: Tensor, others: Tensor, keys: tuple[Tensor, Tensor] | None = None, tick: Callable[[], None] | None = None
) -> Tensor:
    """Distance of each row of x [N, d] to the nearest of the others [m, d]; to the second if the nearest is the row itself.

    keys : of x [N] and of the others [m]. A row of the same key within SAME is the row itself, rounded; so is, of any key, a
        row at the distance 0.
    """
    found, index = nearest(x, others, min(2, len(others)), tick)
    itself = found[:, 0] == 0
    if keys is not None:
        itself |= (keys[0] == keys[1][index[:, 0]]) & (found[:, 0] <= SAME * x.double().norm(dim=1))
    return torch.where(itself, found[:, -1], found[:, 0])


class Unseen:
    """Unseen pictures, which show how near two unrelated pictures come to each other by chance.

    Only in one of CHANCE pairs of unrelated pictures is the separation below `chance`. So with a memory of n pictures
    at most a share of n / CHANCE of all fresh pictures is below `chance` and loses a part of its novelty.

    Parameters
    ----------
    density : its samples serve if there is no baseline.   memory : what was seen.
    baseline : unseen pictures, 50 or more; those that the memory holds are left out.
    seed : of the choice if there are more than needed.   tick : called several times a second, and may raise.

    Attributes
    ----------
    others : [m, d], the unseen pictures.   chance : a separation, in units of the embedding.

    Raises
    ------
    RarityError : different spaces; a baseline of fewer than 50 pictures.
    """

    def __init__(
        self,
        density: Density,
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
        keys = (density.statistics if baseline is None else baseline).keys[: len(rows)]
        if len(rows) < MIN_SCORES:
            raise RarityError(
                f"A baseline needs at least {MIN_SCORES} pictures to say how near is too near, got {len(rows):,}. Draw "
                "more, or leave it out: the samples of the density serve then."
            )
        order = torch.randperm(len(rows), generator=generator(seed))
        unseen = order[~member(keys[order], memory.keys.sort().values)]
        chosen = (unseen if len(unseen) >= MIN_SCORES else order)[:OTHERS]
        self._tick = tick
        self._memory, self.others, self._keys = memory.vectors, rows[chosen], keys[chosen]
        self.chance = self._nearest_by_chance()

    def measure(self, items: Embeddings) -> tuple[Tensor, Tensor, Tensor]:
        """Clearness of each picture, distance to the nearest remembered picture, and index of that picture, [N] each.

        A clearness of 0 is a repeat; 1 is a separation of at least `chance`.
        """
        distance, index = (found[:, 0] for found in nearest(items.vectors, self._memory, tick=self._tick))
        apart = separation(distance, elsewhere(items.vectors, self.others, (items.keys, self._keys), self._tick))
        return (apart / self.chance).clamp_max(1.0), distance, index

    def _nearest_by_chance(self) -> float:
        """The separation that one in CHANCE pairs of the unseen pictures does not reach.

        Only the pairs of a picture with its nearest neighbours are candidates. For the nearest neighbour b is the
        distance to the second nearest, for all other neighbours the distance to the nearest.
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
