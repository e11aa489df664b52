"""Mean and scatter in one streaming pass, mergeable in any order."""

from __future__ import annotations

import torch
from torch import Tensor

from .errors import RarityError

# Rows that go into one float32 product: few enough that its rounding stays near 1e-6 of the spread.
CHUNK = 4096


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
        self.mean = torch.zeros(width, dtype=torch.float64)
        self.scatter = torch.zeros(width, width, dtype=torch.float64)

    def update(self, batch: Tensor) -> Moments:
        """Take in a batch [b, d] and return self.

        Raises
        ------
        RarityError : a batch of another width, or rows that are not finite (nothing is taken in then).
        """
        width = len(self.mean)
        if batch.dim() != 2 or batch.shape[1] != width:
            raise RarityError(f"A batch must have the shape [b, {width}], got {tuple(batch.shape)}.")
        if not torch.isfinite(batch).all():
            raise RarityError("A batch holds values that are not finite: drop those rows first (drop_unusable).")
        for rows in batch.detach().split(CHUNK):
            self._absorb(len(rows), *_batch_moments(rows))
        return self

    def merge(self, other: Moments) -> Moments:
        """The moments of both sets of rows together; neither is changed."""
        if len(other.mean) != len(self.mean):
            raise RarityError(f"Moments of width {len(self.mean)} and {len(other.mean)} cannot be merged.")
        both = Moments(len(self.mean))
        both._absorb(self.count, self.mean, self.scatter)
        both._absorb(other.count, other.mean, other.scatter)
        return both

    def covariance(self) -> Tensor:
        """Maximum-likelihood covariance S / n, [d, d] float64."""
        if self.count == 0:
            raise RarityError("There is no covariance of no rows: call update first.")
        return self.scatter / self.count

    def _absorb(self, count: int, mean: Tensor, scatter: Tensor) -> None:
        if count == 0:
            return
        total = self.count + count
        delta = mean - self.mean
        self.scatter = self.scatter + scatter + torch.outer(delta, delta) * (self.count * count / total)
        self.mean = self.mean + delta * (count / total)
        self.count = total


def _batch_moments(rows: Tensor) -> tuple[Tensor, Tensor]:
    """Mean [d] and scatter [d, d] of one batch: centred first, so that a float32 product is enough.

    y = x - shift,  r = mean y,  S_b = y'y - b r r',  m_b = shift + r. The shift is the batch's own rounded mean, so r
    is only its rounding, and nothing large is ever subtracted from something nearly equal.
    """
    if rows.dtype != torch.float64:
        rows = rows.float()
    if rows.is_cuda:  # a GPU may run float32 products in TF32
        rows = rows.double()
    shift = rows.mean(dim=0)
    centred = rows - shift
    rest = centred.mean(dim=0, dtype=torch.float64)
    scatter = (centred.T @ centred).double() - len(rows) * torch.outer(rest, rest)
    return (shift.double() + rest).cpu(), scatter.cpu()
