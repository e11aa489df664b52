"""The tail of a score, beyond what samples show: a generalised Pareto distribution, in nats of a normal reference."""

from __future__ import annotations

import math

import numpy as np
import torch
from torch import Tensor

SHAPE_PRIOR_SD = 0.2
DRAWS = 400  # draws from the tail's posterior, for the interval
AT_ONCE = 2**17  # numbers of the likelihood at once: a megabyte stays in the cache
# The prior of the posterior draws. Half of it lies at the point xi = 0, the tail of the reference, which normal samples
# have. Without this half the draws never reach xi = 0: the truth then lay above nine of thirty intervals at 1 in
# 10,000, and below none. The other half is broader than SHAPE_PRIOR_SD, for heavy tails such as that of a Student-t
# with 5 degrees of freedom.
PLAIN_SHARE, BROAD_SD = 0.5, 0.4
Z80 = 1.2815515655446004  # two-sided 80 % of a normal: its 90th percentile


def reference(scores: Tensor) -> tuple[float, float]:
    """a and b: centre and spread of the normal with the median and 90th percentile of s^(1/3); scores [n] ascending."""
    n = len(scores)
    middle, high, top = (float(scores[i]) ** (1 / 3) for i in (n // 2, math.ceil(0.9 * n) - 1, n - 1))
    return middle, max((high - middle) / Z80, 1e-6 * top)


def reference_nats(score: Tensor, a: float, b: float) -> Tensor:
    """t(s) = -log(1 - Phi((s^(1/3) - a) / b)), in log space, so that no s overflows or loses digits."""
    return -torch.special.log_ndtr((a - score.pow(1 / 3)) / b)


def reference_score(nats: float, a: float, b: float) -> float:
    """The inverse of `reference_nats` beyond the median, by Newton's method.

    -log(1 - Phi(z)) is convex and at least z^2 / 2 + log 2, so from z = sqrt(2 t) every step leads down to the root.
    """
    z = torch.tensor(math.sqrt(2 * nats), dtype=torch.float64)
    for _ in range(100):
        slope = math.sqrt(2 / math.pi) / torch.special.erfcx(z / math.sqrt(2))
        step = (-torch.special.log_ndtr(-z) - nats) / slope
        z = z - step
        if not float(step) > 1e-15 * float(z):
            break
    return (a + b * float(z)) ** 3


def tail_bits(excess: Tensor, p_u, shape, scale) -> Tensor:
    """-log2 [p_u (1 + xi e / beta)^(-1/xi)] at e >= 0 nats above the threshold; log1p keeps the limit xi -> 0 exact."""
    shape = torch.as_tensor(shape, dtype=torch.float64).clamp_min(1e-12)
    nats = torch.log1p(shape * excess / scale) / shape
    return nats / math.log(2) - torch.as_tensor(p_u, dtype=torch.float64).log2()


def _log_likelihood(excesses: Tensor, shape: Tensor, log_scale: Tensor) -> Tensor:
    """Log likelihood of a generalised Pareto on a grid [a, b] of shapes [a] and log scales [b]."""
    xi = shape.clamp_min(1e-12)[:, None]
    some = max(1, AT_ONCE // (len(log_scale) * len(excesses)))
    logs = [torch.log1p(part[..., None] * excesses / log_scale.exp()[:, None]).sum(dim=2) for part in xi.split(some)]
    return -len(excesses) * log_scale - (1 + 1 / xi) * torch.cat(logs)


def fit_tail(excesses: Tensor, seed: int, worth: float = 1.0) -> tuple[float, float, Tensor]:
    """Maximum a posteriori xi and beta; and draws of (xi, beta) from a posterior, [DRAWS, 2], for an interval.

    There are only two parameters: a grid that closes in on the best point needs no derivative and cannot diverge. The
    draws come from a last, wide grid with another prior, a spike and a slab (Mitchell & Beauchamp 1988). Its likelihood
    is taken to the power `worth`, because each excess counts as that many independent ones.

    Parameters
    ----------
    excesses : [m], nats above the threshold.   seed : of the draws.   worth : above 0, at most 1.
    """
    unit = float(excesses.mean())
    y = excesses / unit
    shape, log_scale, reach = 0.25, 0.0, 1.0
    for _ in range(12):
        shapes = torch.linspace(max(0.0, shape - 0.5 * reach), shape + 0.5 * reach, 13, dtype=torch.float64)
        log_scales = torch.linspace(log_scale - 2 * reach, log_scale + 2 * reach, 13, dtype=torch.float64)
        log_prior = -shapes.square() / (2 * SHAPE_PRIOR_SD**2)
        best = int((_log_likelihood(y, shapes, log_scales) + log_prior[:, None]).argmax())
        shape, log_scale = float(shapes[best // 13]), float(log_scales[best % 13])
        reach /= 2.5
    shapes = torch.cat([torch.zeros(1), torch.linspace(max(0.0, shape - 0.5), shape + 0.5, 61)]).double()
    width = min(3.0, 8 / math.sqrt(len(y)))
    log_scales = torch.linspace(log_scale - width, log_scale + width, 61, dtype=torch.float64)
    log_prior = math.log((1 - PLAIN_SHARE) * math.sqrt(2 / math.pi) / BROAD_SD) - shapes.square() / (2 * BROAD_SD**2)
    log_prior[0] = math.log(PLAIN_SHARE / float(shapes[2] - shapes[1]))  # a probability as a density on the grid's step
    posterior = worth * _log_likelihood(y, shapes, log_scales) + log_prior[:, None]
    weights = torch.softmax(posterior.flatten(), dim=0).numpy()
    picks = np.random.default_rng([seed % 2**64, 1]).choice(len(weights), size=DRAWS, p=weights / weights.sum())
    draws = torch.column_stack([shapes[picks // 61], log_scales[picks % 61].exp() * unit])
    return shape, math.exp(log_scale) * unit, draws
