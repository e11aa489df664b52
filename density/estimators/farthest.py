"""How far out a point is along the one direction in which it is farthest."""

from __future__ import annotations

import torch
from torch import Tensor

from ..statistics.moments import CHUNK


def farthest(x: Tensor, mean: Tensor, axes: Tensor, variances: Tensor) -> Tensor:
    """max_i z_i^2 / lambda_i with z = U'(x - mean), [N] float64: squared standard deviations.

    A covariance with a variance for every direction leaves nothing over. D2 adds all directions up, and among many of them
    one that is 50 standard deviations out hardly shows; the largest shows it, whichever it is.

    Parameters
    ----------
    x : [N, d].   mean [d], axes U [d, d], variances [d].
    """
    parts = x.split(CHUNK // 4)
    return torch.cat([(((part.double() - mean) @ axes).square() / variances).amax(dim=1) for part in parts])
