"""Principal axes of a covariance."""

from __future__ import annotations

import torch
from torch import Tensor

from .moments import Moments


def principal_axes(moments: Moments) -> tuple[Tensor, Tensor]:
    """Eigenvalues and eigenvectors of the maximum-likelihood covariance.

    Parameters
    ----------
    moments : of n samples.

    Returns
    -------
    Eigenvalues [d], descending, >= 0; eigenvectors [d, d] in columns, each one's largest entry positive, so that maps
    agree, but for those of directions that no sample spans.
    """
    values, axes = torch.linalg.eigh(moments.covariance())
    axes = axes.flip(1)
    largest = axes.gather(0, axes.abs().argmax(dim=0, keepdim=True))
    return values.flip(0).clamp_min(0), axes * largest.sign()
