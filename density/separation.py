"""How clear a picture stands of those seen: near to one of them, or only where pictures lie close together anyway."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

from .calibration import MIN_SCORES, Calibration
from .embeddings import Embeddings
from .errors import RarityError
from .exposure import ExposureMemory
from .gaussian import GaussianDensity
from .keys import member, row_keys
from .neighbours import nearest
from .tensors import generator

# The larger, the farther off a copy is still told from a new picture, and the more a new picture loses that happens to
# lie nearer to a seen one than to all others: at 64 one a hundredth nearer loses half.
SHARPNESS = 64
OTHERS = 20_000  # unseen pictures that say how near one usually finds another
UNSEEN = 2000  # of them, those whose own separation is measured


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
    """Pictures that were not seen, to compare with: what separation from a memory they have.

    Parameters
    ----------
    memory : at least one remembered picture.
    baseline : pictures of the same kind; without it, the samples that the density was learnt from. Those in the memory
        are left out; where fewer than 50 remain, all serve, and each is compared with what it is not itself.
    seed : of the choice among more than OTHERS, and of the calibration.
    tick : called after each part, now and while measuring, and may raise.

    Attributes
    ----------
    others : [m, d], at most OTHERS.   calibration : of the separation that UNSEEN of them have from the memory.

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
        some = self.others[:UNSEEN]
        usual = separation(elsewhere(some, self._memory, tick), elsewhere(some, self.others, tick))
        self.calibration = Calibration.fit(usual, seed)

    def measure(self, items: Embeddings) -> tuple[Tensor, Tensor, Tensor]:
        """Separation, distance to the nearest remembered picture and its index, [N] each."""
        distance, index = (found[:, 0] for found in nearest(items.vectors, self._memory, tick=self._tick))
        return separation(distance, elsewhere(items.vectors, self.others, self._tick)), distance, index
