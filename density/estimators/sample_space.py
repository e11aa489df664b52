"""Few samples of many dimensions span only as many directions as there are samples; learning happens in these alone."""

from __future__ import annotations

import torch
from torch import Tensor

from ..base.keys import FOLDS
from ..base.tensors import generator
from ..statistics.shrinkage import RadialMoments
from ..statistics.sufficient_statistics import Statistics


class SampleSpace:
    """Coordinates [n, n - 1] of n samples in the directions that the samples span, and the way back to d dimensions.

    The y_i = x_i - mean sum to 0, so the first n - 1 of them span the same directions as all of them:

        y_1 ... y_(n-1) = Q R,    c_i = Q'y_i

    Distances and angles between the samples stay the same, and so do the eigenvalues; matrices have n rows instead of d.

    Parameters
    ----------
    rows : [n, d], 1 < n <= d.

    Attributes
    ----------
    coordinates : [n, n - 1] float64, of the rows.
    """

    def __init__(self, rows: Tensor):
        rows = rows.double()
        self._origin = rows.mean(dim=0)
        centred = rows - self._origin
        basis, _ = torch.linalg.qr(centred[:-1].T, mode="complete")
        self._basis, self._rest = basis[:, : len(rows) - 1], basis[:, len(rows) - 1 :]
        self.coordinates = centred @ self._basis

    @classmethod
    def of(cls, statistics: Statistics) -> SampleSpace | None:
        """The sample space, if all samples are kept and are not more than their dimensions; otherwise None."""
        small = 1 < statistics.count == len(statistics.rows) <= statistics.width
        return cls(statistics.rows) if small else None

    def folds(self, which: Tensor) -> list[RadialMoments]:
        """The moments of each fold in these coordinates; which : [n], the fold of every row."""
        return [RadialMoments(self.coordinates.shape[1]).update(self.coordinates[which == f]) for f in range(FOLDS)]

    def mean(self, mean: Tensor) -> Tensor:
        """A mean [n - 1] of coordinates as a mean in all dimensions, [d]."""
        return self._origin + self._basis @ mean

    def axes(self, axes: Tensor, spanned: int, most: int) -> Tensor:
        """The first `most` axes [n - 1, n - 1] in all dimensions, [d, most]; directions that no sample spans come last.

        The largest entry of each axis is positive, as in `principal_axes`. Axes from number `spanned` on are not spanned
        by the samples that the axes were learnt from. These are reflected so that the last of them is a random direction
        among them. Held-out samples then have their share in it, as any new sample has; in a direction that no sample
        spans they would have none.
        """
        reflected = most > spanned
        found = self._basis @ (axes if reflected else axes[:, :most])
        largest = found.gather(0, found.abs().argmax(dim=0, keepdim=True))
        found = found * largest.sign()
        if not reflected:
            return found
        found = torch.cat([found, self._rest], dim=1)
        far = found[:, spanned:]
        if far.shape[1] > 1:
            mirror = torch.randn(far.shape[1], generator=generator(0), dtype=found.dtype)
            mirror /= mirror.norm()
            mirror[-1] -= 1
            mirror /= mirror.norm()
            far.addr_(far @ mirror, mirror, alpha=-2)
        return found[:, :most]

    def padded(self, values: Tensor) -> Tensor:
        """Values [n - 1] along the axes, with 0 for each direction that no sample spans, [d]."""
        return torch.cat([values, values.new_zeros(self._rest.shape[1])])
