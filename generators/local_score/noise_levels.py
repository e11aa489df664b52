"""The noise schedule of the analytic theory, and the steps from noise to a picture."""

from __future__ import annotations

import math

from torch import Tensor

from ...density.base.errors import RarityError


def signal_share(time: float) -> float:
    """abar(t), the signal's share of the variance at time t: 1 is a clean picture (t = 0), nearly 0 is noise (t = 1).

    abar(t) = 1 - beta(t) = cos^2((t / 1.008) pi / 2).   Source: Kamb and Ganguli 2025 (arXiv 2412.20292).
    """
    return math.cos(time / 1.008 * math.pi / 2) ** 2


def times(steps: int) -> list[float]:
    """The times of a sampler's steps, noise first: 1, (n - 1)/n, ..., 1/n.

    Raises
    ------
    RarityError : steps below 1.
    """
    if steps < 1 or steps != int(steps):
        raise RarityError(f"The steps must be a whole number of at least 1, got {steps}.")
    return [i / steps for i in range(int(steps), 0, -1)]


def ddim_step(x: Tensor, estimate: Tensor, time: float, next_time: float) -> Tensor:
    """One step of DDIM without new noise.

    Parameters
    ----------
    x : the noisy pictures at `time`.   estimate : M, the clean pictures expected given x.   next_time : below `time`.

    Returns
    -------
    x' = sqrt(abar') M + sqrt(1 - abar') (x - sqrt(abar) M) / sqrt(1 - abar)

    Source: Song, Meng and Ermon 2021 (arXiv 2010.02502), equation 12 with sigma = 0.
    """
    signal, after = signal_share(time), signal_share(next_time)
    noise = (x - math.sqrt(signal) * estimate) / math.sqrt(1 - signal)
    return math.sqrt(after) * estimate + math.sqrt(1 - after) * noise
