"""Mean and scatter in one streaming pass, mergeable in any order."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from ..base.errors import RarityError
from ..base.tensors import all_finite, plain

# Rows that go into one float32 product: few enough that its rounding stays near 1e-6 of the spread.
CHUNK = 4096
# y'y is symmetric: of this many column blocks only those on and above the diagonal are multiplied, 36 of 64.
BLOCKS = 8


class Moments:
    """Count, mean and scatter of the rows seen so far, exact to float64 accumulation.

        d = m_b - M,   S <- S + S_b + d d' n b / (n + b),   M <- M + d b / (n + b),   n <- n + b

    for a batch of b rows with mean m_b and scatter S_b (Chan, Golub & LeVeque 1983). The update is associative, so
    shards can be computed apart and merged in any order; the state's size does not depend on the number of rows.

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
        self._mirrored = True  # else what is below the diagonal is out of date

    @property
    def scatter(self) -> Tensor:
        if not self._mirrored:
            with plain():
                for i in range(0, len(self.mean), self._step):
                    self._scatter[i + self._step :, i : i + self._step] = self._above(i)[:, self._step :].T
                    block = self._above(i)[:, : self._step]  # some processors sum y_i y_j and y_j y_i in two orders
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
        """The moments of both sets of rows together; neither is changed."""
        if len(other.mean) != len(self.mean):
            raise RarityError(f"Moments of width {len(self.mean)} and {len(other.mean)} cannot be merged.")
        return Moments.joined([self, other])

    @classmethod
    def joined(cls, parts: Sequence[Moments]) -> Moments:
        """The moments of all parts together, of one width: S = sum_i S_i + n_i d_i d_i' with d_i = m_i - m."""
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
        """Raise RarityError unless this is a batch [b, d] of finite values."""
        if batch.dim() != 2 or batch.shape[1] != len(self.mean):
            raise RarityError(f"A batch must have the shape [b, {len(self.mean)}], got {tuple(batch.shape)}.")
        if not all_finite(batch):
            raise RarityError("A batch holds values that are not finite: drop those rows first (drop_unusable).")

    def take(self, mean: Tensor, centred: Tensor, rest: Tensor) -> None:
        """Take in rows as `centre` returns them: added in place, half the products, no matrix but S as large as S."""
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
        """S v of a vector [d], [d]."""
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
        """The blocks of S from the diagonal on, of the rows that begin at i."""
        return self._scatter[i : i + self._step, i:]


def chunks(batch: Tensor) -> Sequence[Tensor]:
    """Rows split into as even parts of about CHUNK as there are: a small rest would cost as much as a whole one."""
    return batch.tensor_split(max(1, round(len(batch) / CHUNK)))


def centre(rows: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Mean m [d] float64, y = rows - shift [b, d] and r = mean y [d] float64: so that a float32 product is enough.

    S_b = y'y - b r r',  m = shift + r. The shift is the batch's own rounded mean, so r is only its rounding, and
    nothing large is ever subtracted from something nearly equal.
    """
    if rows.dtype != torch.float64:
        rows = rows.float()
    if rows.is_cuda:  # a GPU may run float32 products in TF32
        rows = rows.double()
    shift = rows.mean(dim=0)
    centred = rows - shift
    rest = centred.mean(dim=0).cpu().double()
    return shift.cpu().double() + rest, centred, rest
