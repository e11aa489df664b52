"""Principal axes of a covariance."""

from __future__ import annotations

import torch
from torch import Tensor

from ..base.log import get_logger
from .moments import Moments

log = get_logger(__name__)

WIDE = 512  # dimensions from which on a graphics card is worth the way there


def principal_axes(moments: Moments) -> tuple[Tensor, Tensor]:
    """Eigenvalues and eigenvectors of the maximum-likelihood covariance.

    They are found in float64: on the graphics card that this process uses, if any, else on the processor.

    Parameters
    ----------
    moments : of n samples.

    Returns
    -------
    Eigenvalues [d], descending, >= 0; eigenvectors [d, d] in columns, each one's largest entry positive, so that maps
    agree, but for those of directions that no sample spans. Both on the processor.
    """
    values, axes = _eigh(moments.covariance())
    axes = axes.flip(1)
    largest = axes.gather(0, axes.abs().argmax(dim=0, keepdim=True))
    return values.flip(0).clamp_min(0), axes * largest.sign()


def card() -> torch.device | None:
    """The graphics card that this process uses already, if it has float64; Apple's have none."""
    in_use = torch.cuda.is_available() and torch.cuda.is_initialized()
    return torch.device("cuda", torch.cuda.current_device()) if in_use else None


def _eigh(covariance: Tensor) -> tuple[Tensor, Tensor]:
    device = card() if len(covariance) >= WIDE else None
    if device is not None:
        try:
            values, axes = torch.linalg.eigh(covariance.to(device))
            return values.cpu(), axes.cpu()
        except RuntimeError as error:  # no room beside a model, a solver that gives up
            log.info("The graphics card does not decompose a covariance, the processor does: %s", str(error).splitlines()[0])
    return torch.linalg.eigh(covariance)
