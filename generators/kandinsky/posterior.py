"""One denoising step: the posterior of diffusion when steps are skipped, as diffusers' UnCLIPScheduler computes it."""

from __future__ import annotations

import math
from copy import deepcopy
from dataclasses import dataclass

import torch
from torch import Tensor

from ...density.base.errors import RarityError


@dataclass(frozen=True)
class Step:
    """The step from time t to the next earlier time s:  x_s = clean clip(x_0) + noisy x_t + spread noise."""

    time: int
    clean: float
    noisy: float
    spread: float
    limit: float

    def back(self, x: Tensor, x0: Tensor, noise: Tensor) -> Tensor:
        """x_s from x_t, the predicted clean x_0, and standard normal noise (all of one shape)."""
        return step_back(x, x0, noise, (self.clean, self.noisy, self.spread), self.limit)


def step_back(x: Tensor, x0: Tensor, noise: Tensor, factors, limit: float) -> Tensor:
    """`Step.back` with its three factors (clean, noisy, spread) as numbers, or as one tensor [3] on x's device."""
    clean, noisy, spread = factors
    return clean * x0.clamp(-limit, limit) + noisy * x + spread * noise


def factors_of(steps: list[Step]) -> Tensor:
    """The factors of each step for `step_back`, [steps, 3] float32. A captured step needs tensors of one size."""
    return torch.tensor([(step.clean, step.noisy, step.spread) for step in steps])


def steps_back(scheduler, count: int) -> list[Step]:
    """The steps of a scheduler from pure noise to the clean sample.

    Parameters
    ----------
    scheduler : diffusers.UnCLIPScheduler that predicts samples; it is not changed.
    count : number of steps, 2 to the scheduler's num_train_timesteps.

    Returns
    -------
    `count` steps, latest time first. With a = prod(alpha) and b = 1 - a_t / a_s (a_s = 1 at the end):
        clean = sqrt(a_s) b / (1 - a_t)    noisy = sqrt(1 - b) (1 - a_s) / (1 - a_t)    spread^2 = b (1 - a_s) / (1 - a_t),
    and the last step adds no noise.

    Raises
    ------
    RarityError : a scheduler of another kind.

    Source: Ho et al. 2020 (arXiv 2006.11239), formulas 6 and 7.
    """
    for name, expected in (("prediction_type", "sample"), ("variance_type", "fixed_small_log")):
        got = scheduler.config[name]
        if got != expected:
            raise RarityError(f"This prior's scheduler has {name} = {got!r}, but Kandinsky's has {expected!r}.")
    scheduler = deepcopy(scheduler)  # set_timesteps changes a scheduler, and the caller's must stay as it is
    scheduler.set_timesteps(count)
    times = scheduler.timesteps.tolist()
    limit = scheduler.config.clip_sample_range if scheduler.config.clip_sample else math.inf
    steps = []
    for t, s in zip(times, times[1:] + [-1], strict=True):
        a_t = scheduler.alphas_cumprod[t]
        a_s = scheduler.alphas_cumprod[s] if s >= 0 else scheduler.one
        # For neighbouring times b is the known beta; 1 - a_t / a_s would lose digits there.
        b = scheduler.betas[t] if s == t - 1 else 1 - a_t / a_s
        clean = a_s.sqrt() * b / (1 - a_t)
        noisy = (1 - b).sqrt() * (1 - a_s) / (1 - a_t)
        spread = (b * (1 - a_s) / (1 - a_t)).sqrt() if t > 0 else 0
        steps.append(Step(t, float(clean), float(noisy), float(spread), limit))
    return steps
