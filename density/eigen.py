"""Principal axes of a covariance, fast also where there are fewer samples than dimensions."""

from __future__ import annotations

import torch
from torch import Tensor

from .moments import Moments
from .tensors import generator

SPARE = 8  # directions more than the samples can span, against an unlucky draw


def principal_axes(moments: Moments) -> tuple[Tensor, Tensor]:
    """Eigenvalues and eigenvectors of the maximum-likelihood covariance.

    Samples that span few of the dimensions are looked at in these alone: with Omega [d, m] of normal numbers, m >= rank,
    the columns of C Omega span what C does, so for Q an orthonormal basis of theirs

        C = Q (Q' C Q) Q',     C u = l u  for  u = Q v,  (Q' C Q) v = l v.

    Source: Halko, Martinsson & Tropp (2011), arXiv 0909.4061, section 4, which is exact where m is not below the rank.

    Parameters
    ----------
    moments : of n samples.

    Returns
    -------
    Eigenvalues [d], descending, >= 0; eigenvectors [d, d] in columns, each one's largest entry positive, so that maps
    agree, but for those of directions that no sample spans.
    """
    covariance, d = moments.covariance(), len(moments.mean)
    spanned = moments.count - 1 + SPARE
    if 2 * spanned > d:
        return _eigen(covariance)
    seen = covariance @ torch.randn(d, spanned, generator=generator(0), dtype=covariance.dtype)
    basis, _ = torch.linalg.qr(seen, mode="complete")
    near, far = basis[:, :spanned], basis[:, spanned:]
    values, axes = _eigen(near.T @ covariance @ near, near)
    return torch.cat([values, values.new_zeros(d - spanned)]), torch.cat([axes, far], dim=1)


def _eigen(covariance: Tensor, basis: Tensor | None = None) -> tuple[Tensor, Tensor]:
    """Eigenvalues, and eigenvectors in the coordinates that the basis belongs to."""
    values, axes = torch.linalg.eigh(covariance)
    axes = axes.flip(1) if basis is None else basis @ axes.flip(1)
    largest = axes.gather(0, axes.abs().argmax(dim=0, keepdim=True))
    return values.flip(0).clamp_min(0), axes * largest.sign()
