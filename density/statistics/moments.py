"""Mean and scatter, computed in one pass over a stream and merged in any order."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from ..base.errors import RarityError
from ..base.tensors import all_finite, plain

# Rows in one float32 product. With so few, rounding stays near 1e-6 of the spread.
CHUNK = 4096
# y'y is symmetric. Its columns are cut into so many blocks, and only blocks on and above the diagonal are computed: 36 of 64.
BLOCKS = 8


class Moments:
    """Count, mean and scatter of the rows seen so far, summed in float64.

        d = m_b - M,   S <- S + S_b + d d' n b / (n + b),   M <- M + d b / (n + b),   n <- n + b

    for a batch of b rows with mean m_b and scatter S_b (Chan, Golub & LeVeque 1983). The update is associative, so
    shards can be computed on several machines and merged in any order. The size of the state does not depend on the
    number of rows.

    Parameters
    ----------
    width : number of dimensions d.

    Attributes
    ----------
    count : rows seen.  mean : [d] float64.  scatter : [d, d] float64, the sum of (x - mean)(x - mean)'.
    """

    def __init__(self, width: int):
        self.count = 0
        with plain():
            self.mean = torch.zeros(width, dtype=torch.float64)
            self._scatter = torch.zeros(width, width, dtype=torch.float64)
        self._step = max(64, -(-width // BLOCKS))
        self._mirrored = True  # whether the blocks below the diagonal are up to date

    @property
    def scatter(self) -> Tensor:
        if not self._mirrored:
            with plain():
                for i in range(0, len(self.mean), self._step):
                    self._scatter[i + self._step :, i : i + self._step] = self._above(i)[:, self._step :].T
                    block = self._above(i)[:, : self._step]  # some processors sum y_i y_j and y_j y_i in different orders
                    block.copy_(block.triu() + block.triu(1).T)
            self._mirrored = True
        return self._scatter

    def update(self, batch: Tensor) -> Moments:
        """Take in a batch [b, d] and return self.

        Raises
        ------
        RarityError : a batch of another width, or rows that are not finite (nothing is taken in then).
        """
        self.check(batch)
        with plain():
            for rows in chunks(batch.detach()):
                self.take(*centre(rows))
        return self

    def merge(self, other: Moments) -> Moments:
        """The moments of both sets of rows together. The two sets stay as they are."""
        if len(other.mean) != len(self.mean):
            raise RarityError(f"Moments of width {len(self.mean)} and {len(other.mean)} cannot be merged.")
        return Moments.joined([self, other])

    @classmethod
    def joined(cls, parts: Sequence[Moments]) -> Moments:
        """The moments of all parts together: S = sum_i S_i + n_i d_i d_i' with d_i = m_i - m. All have one width."""
        both = cls(len(parts[0].mean))
        both.count = sum(part.count for part in parts)
        if both.count == 0:
            return both
        with plain():
            first = parts[0].mean
            both.mean = first + sum((part.mean - first) * (part.count / both.count) for part in parts)
            for part in parts:
                both._scatter.add_(part.scatter)
            offsets = torch.stack([part.mean - both.mean for part in parts])
            counts = torch.tensor([[part.count] for part in parts], dtype=torch.float64)
            both._scatter.addmm_((counts * offsets).T, offsets)
            both._mirrored = False
        return both

    def covariance(self) -> Tensor:
        """Maximum-likelihood covariance S / n, [d, d] float64."""
        if self.count == 0:
            raise RarityError("There is no covariance of no rows: call update first.")
        return self.scatter / self.count

    def check(self, batch: Tensor) -> None:
        """Raise a RarityError unless this is a batch [b, d] of finite values."""
        if batch.dim() != 2 or batch.shape[1] != len(self.mean):
            raise RarityError(f"A batch must have the shape [b, {len(self.mean)}], got {tuple(batch.shape)}.")
        if not all_finite(batch):
            raise RarityError("A batch holds values that are not finite: drop those rows first (drop_unusable).")

    def take(self, mean: Tensor, centred: Tensor, rest: Tensor) -> None:
        """Take in rows as `centre` returns them. Only half of the products are computed, and S is changed in place."""
        b = len(centred)
        if b == 0:
            return
        for i in range(0, len(mean), self._step):
            self._above(i).add_((centred[:, i : i + self._step].T @ centred[:, i:]).cpu())
        self._mirrored = False
        total, delta = self.count + b, mean - self.mean
        corrections = torch.stack([rest * -b, delta * (self.count * b / total)], dim=1)
        self._scatter.addmm_(corrections, torch.stack([rest, delta]))
        self.mean = self.mean + delta * (b / total)
        self.count = total

    def times(self, vector: Tensor) -> Tensor:
        """The product S v with a vector v [d], [d]."""
        if self._mirrored:
            return self._scatter @ vector
        product = torch.zeros_like(vector)
        for i in range(0, len(vector), self._step):
            product[i : i + self._step] += self._above(i) @ vector[i:]
            product[i + self._step :] += self._above(i)[:, self._step :].T @ vector[i : i + self._step]
        return product

    def diagonal(self) -> Tensor:
        """The diagonal of S, [d]."""
        return self._scatter.diagonal()

    def _above(self, i: int) -> Tensor:
        """The blocks of S on and above the diagonal, for the block of rows that begins at i."""
        return self._scatter[i : i + self._step, i:]


def chunks(batch: Tensor) -> Sequence[Tensor]:
    """Rows split into parts of about CHUNK rows and of nearly one size. A small rest would cost as much as a full part."""
    return batch.tensor_split(max(1, round(len(batch) / CHUNK)))


def centre(rows: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Mean m [d] float64, y = rows - shift [b, d] and r = mean y [d] float64, for which a float32 product is exact enough.

        S_b = y'y - b r r',    m = shift + r

    The shift is the rounded mean of the batch, so r is only the rounding error of the mean. Therefore no large number is
    subtracted from a nearly equal one.
    """
    if rows.dtype != torch.float64:
        rows = rows.float()
    if rows.is_cuda:  # a GPU may run float32 products in TF32
        rows = rows.double()
    shift = rows.mean(dim=0)
    centred = rows - shift
    rest = centred.mean(dim=0).cpu().double()
    return shift.cpu().double() + rest, centred, rest
