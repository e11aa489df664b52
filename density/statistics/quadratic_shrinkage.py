"""Quadratic-inverse shrinkage: each eigenvalue of a covariance is shrunk by its own amount."""

from __future__ import annotations

import torch
from torch import Tensor

# If there are about as many samples as dimensions, the smallest eigenvalue is nearly 0. Then delta of its direction, or delta_0
# of the directions that no sample spans, is nearly 0 too, and D2 of new samples was 2 to 60 times too large. Therefore from
# NEAR d to d / NEAR samples the formula gets NEAR d as the number of samples, and as many eigenvalues.
NEAR = 0.88


def quadratic_inverse(spectrum: Tensor, count: int, floor: float = 0.0) -> Tensor:
    """Eigenvalues of the quadratic-inverse shrinkage estimator (QIS).

    With m the smaller of d and n = count - 1, the inverses l_j = 1 / lambda_j of the m eigenvalues of scatter / n that are
    not 0, c = d / n and the width of a kernel h = min(c, 1 / c)^0.7 d^-0.35:

        theta_j = 1/m sum_i l_i (l_i - l_j) / ((l_i - l_j)^2 + h^2 l_i^2)
        H_j     = 1/m sum_i h l_i^2 / ((l_i - l_j)^2 + h^2 l_i^2)
        1 / delta_j = l_j [(1 - c)^2 + 2 c (1 - c) theta_j + c^2 (theta_j^2 + H_j^2)]    where d <= n
        1 / delta_j = l_j (theta_j^2 + H_j^2),   1 / delta_0 = (c - 1) mean l            where d > n

    delta_0 is the variance in the d - n directions that no sample spans. All delta are then scaled so that their sum is
    that of the eigenvalues. theta is the Stein shrinker, and H is its Hilbert conjugate. Sampling pushes equal
    eigenvalues apart; the formula moves each eigenvalue towards the others, and most towards near ones. With very many
    samples (c -> 0) it changes nothing. Ledoit & Wolf (2022), "Quadratic shrinkage for large covariance matrices",
    Bernoulli 28(3), 1519-1547, section 4.5.

    Parameters
    ----------
    spectrum : [d], the eigenvalues of scatter / count.   count : number of samples; their mean is unknown.
    floor : an eigenvalue that is not above it counts as 0. If more eigenvalues are 0 than the small `count` explains, the
        samples do not vary in those directions: the eigenvalues stay 0 there, and d counts the other directions.

    Returns
    -------
    [d] float64, descending. If the formula changes the order of two values, they are sorted.
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
