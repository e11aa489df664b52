"""How rare a chi-squared score is in theory, exact where ordinary survival functions have long become zero.

For scripts: densities here are calibrated on held-out scores instead, which follow no theory closely enough.
"""

from __future__ import annotations

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable

from .errors import RarityError
from .tensors import here

MAX_DEGREES = 1e6  # both expansions need about 6 sqrt(degrees) terms beside the median
PRECISION = 1e-15


def log_survival(x: Tensor, degrees: float | Tensor) -> Tensor:
    """Log of the probability that a chi-squared variable is at least x, in nats; differentiable in x.

    The survival is the upper regularised incomplete gamma function Q(a, X) with a = degrees / 2 and X = x / 2:

        X >= a + 1:  log Q = -X + a log X - lgamma(a) + log CF(a, X)       (continued fraction)
        X <  a + 1:  log Q = log(1 - P),  P = exp(-X + a log X - lgamma(a + 1)) sum_n X^n / ((a + 1) ... (a + n))

    d log Q / dx = -pdf / Q = -exp(log pdf - log Q), which tends to -1/2; from 2 degrees on it is never steeper.
    The prefactors cancel in it, so it is as good at log Q = -1e9 as at the median. DLMF 8.9.2 and 8.7.1;
    Lentz (1976) for evaluating the fraction from its front.

    Parameters
    ----------
    x : scores of any shape. Below 0 everything survives: log Q = 0, slope 0, and so at 0 itself.
    degrees : degrees of freedom, a number or a tensor that broadcasts with x; no gradient flows to it.

    Returns
    -------
    log Q, float64 of the broadcast shape, on the CPU, at most 0; -inf at infinity, NaN where x is NaN.

    Raises
    ------
    RarityError : degrees that are not positive, or beyond a million.
    """
    degrees = here(degrees).detach()
    if not bool(((degrees > 0) & (degrees <= MAX_DEGREES)).all()):
        raise RarityError(
            f"Degrees of freedom must be above 0 and at most {MAX_DEGREES:,.0f}, got {degrees.flatten().tolist()[:5]}. "
            "Expected the number of independent directions that the score sums over."
        )
    return _LogSurvival.apply(here(x), degrees)


def wilson_hilferty(x: Tensor, degrees: float | Tensor) -> Tensor:
    """A chi-squared score as a nearly standard normal z, [the shape of x] float64: the same unit for every width.

        z = ((x / k)^(1/3) - (1 - 2 / (9 k))) / sqrt(2 / (9 k))

    The cube root is infinitely steep at 0; there, and below, the slope is 0 instead. Wilson & Hilferty (1931).

    Parameters
    ----------
    x : scores.   degrees : k, a number or a tensor that broadcasts with x.
    """
    degrees = here(degrees)
    spread = 2 / (9 * degrees)
    root = (here(x) / degrees).clamp_min(1e-30).pow(1 / 3)
    return (root - (1 - spread)) / spread.sqrt()


class _LogSurvival(torch.autograd.Function):
    """Value and slope come from one expansion; differentiating through its loop would be a second, worse one."""

    @staticmethod
    def forward(ctx, x: Tensor, degrees: Tensor) -> Tensor:
        x_all, df = torch.broadcast_tensors(x, degrees)
        value, slope = _value_and_slope(x_all.reshape(-1), df.reshape(-1))
        ctx.save_for_backward(slope.reshape(x_all.shape))
        ctx.shape = x.shape
        return value.reshape(x_all.shape)

    @staticmethod
    @once_differentiable
    def backward(ctx, grad: Tensor):
        (slope,) = ctx.saved_tensors
        return (grad * slope).sum_to_size(ctx.shape), None


def _value_and_slope(x: Tensor, degrees: Tensor) -> tuple[Tensor, Tensor]:
    """log Q and d log Q / dx of flat float64 tensors."""
    a, half = degrees / 2, x / 2
    value, slope = torch.zeros_like(x), torch.zeros_like(x)
    value[torch.isnan(x)] = slope[torch.isnan(x)] = torch.nan
    value[half == torch.inf], slope[half == torch.inf] = -torch.inf, -0.5

    tail = (half >= a + 1) & (half < torch.inf)
    fraction = _fraction(a[tail], half[tail])
    value[tail] = _log_power(a[tail], half[tail]) + fraction.log()
    slope[tail] = -0.5 / (half[tail] * fraction)  # pdf / Q: exp(-X) X^a / Gamma(a) is in both

    body = (half > 0) & (half < a + 1)
    a, half = a[body], half[body]
    log_power = _log_power(a, half)
    # Rounding must not lift P to 1, where its complement would be lost.
    value[body] = torch.log1p(-(log_power.exp() * _series(a, half)).clamp_max(1 - 1e-16))
    slope[body] = -0.5 * torch.exp(log_power - half.log() - value[body])
    return value, slope


def _log_power(a: Tensor, x: Tensor) -> Tensor:
    """log(exp(-x) x^a / Gamma(a)), what both expansions multiply."""
    return a * x.log() - x - torch.lgamma(a)


def _fraction(a: Tensor, x: Tensor) -> Tensor:
    """1/(x + 1 - a - 1 (1 - a)/(x + 3 - a - 2 (2 - a)/(x + 5 - a - ...))), by Lentz's recurrence, for x >= a + 1.

    Every denominator is positive there, so that none needs to be kept away from zero.
    """
    b = x + 1 - a
    d = 1 / b
    c, h = torch.full_like(b, torch.inf), d
    n = 0
    while True:
        n += 1
        term, b = -n * (n - a), b + 2
        d = 1 / (b + term * d)
        c = b + term / c
        factor = c * d
        h = h * factor
        if not bool(((factor - 1).abs() > PRECISION).any()):
            return h


def _series(a: Tensor, x: Tensor) -> Tensor:
    """sum_{n>=0} x^n / (a (a + 1) ... (a + n)), for 0 < x < a + 1: all terms are positive."""
    term = 1 / a
    total, n = term, 0
    while bool((term > PRECISION * 0.1 * total).any()):
        n += 1
        term = term * x / (a + n)
        total = total + term
    return total
