"""One step of diffusers' DDPMScheduler from noise to a picture, as a function of tensors of fixed sizes.

The scheduler's own step draws its noise on the processor, and waits for the graphics card each time.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor


@dataclass(frozen=True)
class PictureSteps:
    """The steps of a DDPMScheduler whose U-Net predicts the noise and a share of its variance.

    times : [T], the latest first.   limit : of the clean picture's values.
    factors : [T, 6], the factors of each step for `step_back`.
    """

    times: Tensor
    factors: Tensor
    limit: float


def picture_steps(scheduler) -> PictureSteps | None:
    """The steps of a diffusers scheduler whose times are set; None if the scheduler steps in another way.

    With a = prod(alpha) at t, a' at the next earlier time (1 at the end), b = 1 - a / a', in each row of factors
        sqrt(1 - a), sqrt(a), sqrt(a') b / (1 - a), sqrt(a / a') (1 - a') / (1 - a), log(b (1 - a') / (1 - a)), log(b).
    Source: Ho et al. 2020 (arXiv 2006.11239), formulas 6, 7 and 15; Nichol & Dhariwal 2021 (arXiv 2102.09672), formula 15.
    """
    config = scheduler.config
    usual = {"prediction_type": "epsilon", "variance_type": "learned_range", "thresholding": False}
    if type(scheduler).__name__ != "DDPMScheduler" or any(config[name] != value for name, value in usual.items()):
        return None
    rows = []
    for t in scheduler.timesteps:
        earlier = scheduler.previous_timestep(t)
        a = scheduler.alphas_cumprod[t]
        before = scheduler.alphas_cumprod[earlier] if earlier >= 0 else scheduler.one
        b = 1 - a / before
        least = ((1 - before) / (1 - a) * b).clamp(min=1e-20)
        clean, noisy = before.sqrt() * b / (1 - a), (a / before).sqrt() * (1 - before) / (1 - a)
        rows.append(torch.stack([(1 - a).sqrt(), a.sqrt(), clean, noisy, least.log(), b.log()]))
    limit = config.clip_sample_range if config.clip_sample else math.inf
    return PictureSteps(scheduler.timesteps, torch.stack(rows), limit)


def step_back(x: Tensor, predicted: Tensor, share: Tensor, noise: Tensor, factors: Tensor, limit: float) -> Tensor:
    """x at the next earlier time, from x at t; all of one shape [b, c, h, w].

    Parameters
    ----------
    predicted : the noise in x.   share : where the log of the variance lies, from -1 (the least) to 1 (the most).
    noise : standard normal; zero in the step to time 0.
    factors, limit : those of `PictureSteps` for one step.
    """
    noise_part, picture_part, clean, noisy, least, most = factors
    picture = ((x - noise_part * predicted) / picture_part).clamp(-limit, limit)
    share = (share + 1) / 2
    spread = (0.5 * (share * most + (1 - share) * least)).exp()
    return clean * picture + noisy * x + spread * noise
