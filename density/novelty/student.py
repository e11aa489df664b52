"""Student's t: how a further draw lies beside the few that were seen."""

from __future__ import annotations

import math

import torch
from torch import Tensor


def student_t(t: Tensor, degrees: int) -> Tensor:
    """P(T <= t) of Student's t with a whole number of degrees of freedom, [...] float64.

    With theta = atan(t / sqrt(degrees)) and P = (1 + A) / 2:

        odd      A = 2/pi [theta + sin(theta) (cos(theta) + 2/3 cos^3(theta) + (2 4)/(3 5) cos^5(theta) + ...)]
        even     A = sin(theta) (1 + 1/2 cos^2(theta) + (1 3)/(2 4) cos^4(theta) + ...)

    both up to cos^(degrees - 2). Abramowitz and Stegun (1964), 26.7.3 and 26.7.4. Exact to 1e-14 or so, also far below 0, where P
    itself is smaller than that.

    Parameters
    ----------
    t : [...].   degrees : at least 1.
    """
    theta = torch.atan(t.double() / math.sqrt(degrees))
    odd = degrees % 2
    term = theta.cos() ** odd
    series = torch.zeros_like(theta)
    for power in range(odd, degrees - 1, 2):
        series = series + term
        term = term * theta.cos().square() * (power + 1) / (power + 2)
    inner = theta.sin() * series
    return 0.5 + ((theta + inner) / math.pi if odd else inner / 2)
