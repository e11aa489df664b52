"""A covariance whose every eigenvalue is shrunk by itself: few samples of many dimensions say much about some directions."""

from __future__ import annotations

import torch
from torch import Tensor

# Where samples are as many as dimensions the least eigenvalue is nearly 0, and with it delta of that direction or, one sample
# fewer, of all that no sample spans: D2 of new samples was 2 to 60 times too large. From NEAR d samples to d / NEAR the
# formula is told of NEAR d, and of as many eigenvalues.
NEAR = 0.88


def quadratic_inverse(spectrum: Tensor, count: int, floor: float = 0.0) -> Tensor:
    """Eigenvalues of the quadratic-inverse shrinkage estimator (QIS).

    With m the smaller of d and n = count - 1, the inverses l_j = 1 / lambda_j of the m eigenvalues of scatter / n that are
    not 0, c = d / n and the width of a kernel h = min(c, 1 / c)^0.7 d^-0.35:

        theta_j = 1/m sum_i l_i (l_i - l_j) / ((l_i - l_j)^2 + h^2 l_i^2)
        H_j     = 1/m sum_i h l_i^2 / ((l_i - l_j)^2 + h^2 l_i^2)
        1 / delta_j = l_j [(1 - c)^2 + 2 c (1 - c) theta_j + c^2 (theta_j^2 + H_j^2)]    where d <= n
        1 / delta_j = l_j (theta_j^2 + H_j^2),   1 / delta_0 = (c - 1) mean l            where d > n

    delta_0 is that of the d - n directions that no sample spans. All are then scaled to the sum that the eigenvalues have.
    theta is the Stein shrinker and H its Hilbert conjugate: eigenvalues draw each other, near ones the most, for samples
    push apart what is equal. Where samples are many (c -> 0) nothing changes. Ledoit & Wolf (2022), "Quadratic shrinkage for
    large covariance matrices", Bernoulli 28(3), 1519-1547, section 4.5.

    Parameters
    ----------
    spectrum : [d], the eigenvalues of scatter / count.   count : of the samples, their mean unknown.
    floor : what is no higher is 0. Where more eigenvalues are so than `count` explains, samples do not vary there at all:
        these stay 0, and d counts the others.

    Returns
    -------
    [d] float64, descending: where the formula would turn two of them round, they are sorted.
    """
    n, spectrum = count - 1, spectrum.double()
    varies = spectrum[spectrum > floor]
    d = len(spectrum) if len(varies) >= min(len(spectrum), n) else len(varies)
    if NEAR < n / d < 1 / NEAR:
        n = int(NEAR * d)
    varies = varies[:n]
    inverse = (count - 1) / count / varies
    c = d / n
    h = min(c, 1 / c) ** 0.7 * d**-0.35
    apart = inverse[:, None] - inverse
    kernel = inverse[:, None] / (apart.square() + (h * inverse[:, None]).square())
    theta, conjugate = (kernel * apart).mean(dim=0), (kernel * h * inverse[:, None]).mean(dim=0)
    amplitude = theta.square() + conjugate.square()
    if d <= n:
        shrunk = 1 / (inverse * ((1 - c) ** 2 + 2 * c * (1 - c) * theta + c**2 * amplitude))
    else:
        unseen = 1 / ((c - 1) * inverse.mean())
        shrunk = torch.cat([1 / (inverse * amplitude), unseen.expand(d - len(varies))])
    shrunk = shrunk.sort(descending=True).values * (spectrum.sum() / shrunk.sum())
    return torch.cat([shrunk, shrunk.new_zeros(len(spectrum) - d)])
