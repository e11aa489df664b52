"""Principal axes of a covariance."""

from __future__ import annotations

import torch
from torch import Tensor

from ..base.log import get_logger
from .moments import Moments

log = get_logger(__name__)

WIDE = 512  # with so many dimensions or more the graphics card is faster, the copy to it included


def principal_axes(moments: Moments) -> tuple[Tensor, Tensor]:
    """Eigenvalues and eigenvectors of the maximum-likelihood covariance.

    They are computed in float64: on the graphics card, if this process uses one already; otherwise on the processor.

    Parameters
    ----------
    moments : of n samples.

    Returns
    -------
    Eigenvalues [d], descending, >= 0; eigenvectors [d, d] in columns. Both on the processor. The largest entry of each
    eigenvector is positive, so that maps look alike on all machines. Eigenvectors that no sample spans may differ.
    """
    values, axes = _eigh(moments.covariance())
    axes = axes.flip(1)
    largest = axes.gather(0, axes.abs().argmax(dim=0, keepdim=True))
    return values.flip(0).clamp_min(0), axes * largest.sign()


def card() -> torch.device | None:
    """The NVIDIA card that this process uses already, or None. Apple's graphics processors have no float64."""
    in_use = torch.cuda.is_available() and torch.cuda.is_initialized()
    return torch.device("cuda", torch.cuda.current_device()) if in_use else None


def _eigh(covariance: Tensor) -> tuple[Tensor, Tensor]:
    device = card() if len(covariance) >= WIDE else None
    if device is not None:
        try:
            values, axes = torch.linalg.eigh(covariance.to(device))
            return values.cpu(), axes.cpu()
        except RuntimeError as error:  # too little memory beside a model, or a solver that does not converge
            log.info("The graphics card does not decompose a covariance, the processor does: %s", str(error).splitlines()[0])
    return torch.linalg.eigh(covariance)
