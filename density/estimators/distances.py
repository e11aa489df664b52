"""How far out points are under axes, each with its variance: T2, Q, D2, and the one direction in which they are farthest."""

from __future__ import annotations

import math

import torch
from torch import Tensor

from ..statistics.moments import CHUNK


def split(x: Tensor, mean: Tensor, basis: Tensor) -> tuple[Tensor, Tensor]:
    """Scores z = U'y [N, k] and residual r = y - U z [N, d] of y = x - mean; r never as a difference of norms."""
    y = x - mean
    z = y @ basis
    return z, y - z @ basis.T


def distances(x: Tensor, mean: Tensor, basis: Tensor, variances: Tensor) -> tuple[Tensor, Tensor]:
    """T2 = sum_i z_i^2 / lambda_i and Q = |r|^2, [N] each."""
    z, r = split(x, mean, basis)
    return (z.square() / variances).sum(dim=1), r.square().sum(dim=1)


def log_volume(variances: Tensor, residual_variance: float, width: int) -> float:
    """The part of -2 log p that does not depend on the embedding: d log 2 pi + sum_i log lambda_i + (d - k) log sigma2."""
    rest = (width - len(variances)) * math.log(residual_variance)
    return width * math.log(2 * math.pi) + float(variances.log().sum()) + rest


def depths(x: Tensor, mean: Tensor, axes: Tensor, variances: Tensor, k: int) -> tuple[Tensor, Tensor]:
    """D2 of rows under k axes and one variance for what is left, and what stands beside it for a guardrail; [N] each.

    Beside it stands Q, and where no more than one direction is left, so that nothing is left over, max_i z_i^2 / lambda_i:
    the largest deviation along any one direction, in squared standard deviations. D2 adds all directions up, and among many
    of them one that is 50 standard deviations out hardly shows; the largest shows it, whichever it is.

    Parameters
    ----------
    x : [N, d].   mean [d].   variances : [d], of all axes.   k : how many lead.
    axes : [d, d], or the first k of them where these are less than half: Q is then formed in all dimensions.
    """
    d, sigma2, found = len(mean), variances[k:].mean(), []
    for part in x.split(CHUNK // 4):  # each of its float64 copies is as large as a covariance
        if axes.shape[1] < d:
            t2, q = distances(part.double(), mean, axes, variances[:k])
            found.append((t2 + q / sigma2, q))
            continue
        squares = ((part.double() - mean) @ axes).square()
        q = squares[:, k:].sum(dim=1)
        beside = q if k < d - 1 else (squares / variances).amax(dim=1)
        found.append((squares[:, :k] @ (1 / variances[:k]) + q / sigma2, beside))
    d2, beside = zip(*found, strict=True)
    return torch.cat(d2), torch.cat(beside)
