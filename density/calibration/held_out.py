"""Held-out scores: the scores that samples would get under the final density if it had not learnt from them.

A fit of four fifths of the samples is worse than the fit of all samples. The more directions it has, the worse it is.
The samples it leaves out lie further out under it than new samples lie under the final fit. With 2,000 samples of 768
dimensions and 150 components, a calibration on such scores says 1 in 100 for what happens once in 600 times.
"""

from __future__ import annotations

import math

import numpy as np
import torch
from torch import Tensor

from ..base.keys import FOLDS
from ..base.tensors import generator

# For fits of three fifths, four fifths and all of the samples 1/n is proportional to 5/3, 5/4 and 1. STEP is how far
# the third of these lies beyond the second, in units of the difference of the first two: 0.6.
STEP = (FOLDS / (FOLDS - 1) - 1) / (FOLDS / (FOLDS - 2) - FOLDS / (FOLDS - 1))
RESAMPLES, RESAMPLED = 200, 1000  # number of resamples in `independent`, and of rows in each
QUANTILES = (0.5, 0.9, 0.95)
ROUNDING = 1e-6  # float32 products in a covariance may leave this much of a difference that is truly 0


def extrapolate(fewer: Tensor, more: Tensor) -> Tensor:
    """Held-out scores as the fit of all samples would give them to new ones, quantile by quantile.

        1 / s = 1 / s_more + STEP (1 / s_more - 1 / s_fewer)

    This assumes that 1 / s is linear in 1 / n. It is so for the D2 of a full covariance, whose mean is
    d n / (n - d - 2): the mean of an inverse Wishart matrix (Anderson 2003, section 7.7). For scores that change little
    it is Richardson's rule.

    Parameters
    ----------
    fewer, more : [..., n], scores of the same samples by fits of three fifths and of four fifths of them.

    Returns
    -------
    [..., n], ascending.
    """
    fewer, more = _ascending(fewer), _ascending(more)
    # More samples hardly ever make a fit worse. Where they seem to, it is chance, which must not be amplified.
    ratio = (more / fewer.clamp_min(1e-300)).clamp_max(1.25)
    return _ascending(more / (1 + STEP * (1 - ratio)))


def _ascending(scores: Tensor) -> Tensor:
    """Each row sorted; numpy takes an eighth of torch's time for rows of doubles on a CPU."""
    return torch.from_numpy(np.sort(scores.numpy(), axis=-1))


def independent(fewer: Tensor, more: Tensor) -> float:
    """How many independent scores each extrapolated score is worth, 0.1 to 1, by a bootstrap of both fits together.

    Extrapolation enlarges the difference between the scores that the two fits give a row. So quantiles of extrapolated
    scores vary more than quantiles of as many independent scores. Let e be the extrapolation, Q a quantile and * a
    resample of the rows (Efron 1979). The result is the mean, over the median and two quantiles above it, of

        var Q(e(fewer, more)*) / var Q(e(fewer*, more*)),   at most 1

    Parameters
    ----------
    fewer, more : [n], of the same samples in one order, as for `extrapolate`.
    """
    some = torch.linspace(0, len(more) - 1, min(RESAMPLED, len(more))).long()
    # Ascending like the scores of `extrapolate`, so that one resample picks the same rows of all.
    some = some[more[some].argsort(stable=True)]
    fewer, more = fewer[some], more[some]
    picks = torch.randint(len(some), (RESAMPLES, len(some)), generator=generator(0))
    known = _quantiles(_ascending(extrapolate(fewer, more)[picks])).var(dim=0)
    found = _quantiles(extrapolate(fewer[picks], more[picks])).var(dim=0)
    return float((known / found.clamp_min(1e-300)).mean().clamp(0.1, 1))


def _quantiles(ascending: Tensor) -> Tensor:
    """The three quantiles of each row [r, n], between two scores in proportion: [r, 3]. torch.quantile would sort once more."""
    last = ascending.shape[1] - 1
    place = torch.tensor(QUANTILES, dtype=torch.float64) * last
    below = place.long()
    return torch.lerp(ascending[:, below], ascending[:, (below + 1).clamp_max(last)], place - below)


def leave_one_out(z: Tensor, spectrum: Tensor, intensity: float, count: int) -> Tensor:
    """D2 of every sample under the covariance of all other samples, with the same shrinkage.

    None of these covariances is formed. Leaving out a sample with the deviation y from the mean changes the covariance
    S of n samples by one rank:

        S' = n/(n - 1) S - n/(n - 1)^2 y y',   the sample's deviation from the others' mean is y n/(n - 1)
        B = (1 - rho) n/(n - 1) S + rho m I,   D = y'B^-1 y,   b = (1 - rho) n/(n - 1)^2
        D2 = (n/(n - 1))^2 D / (1 - b D)

    by Sherman & Morrison (1950). This is exact, except that rho and m = tr S / d still contain the sample itself.
    Without shrinkage a sample that is alone in a direction has 1 - b D = 0. A value below ROUNDING is raised to
    ROUNDING, so that the D2 of such a sample is very large, and not NaN or below 0.

    Parameters
    ----------
    z : [r, d], y along the axes of S.   spectrum : [d], the eigenvalues of S.   intensity : rho.   count : n.
    """
    more, kept = count / (count - 1), 1 - intensity
    depth = z.square() @ (1 / (kept * more * spectrum + intensity * spectrum.mean()))
    return more**2 * depth / (1 - kept * more / (count - 1) * depth).clamp_min(ROUNDING)


def log_likelihoods(variances: Tensor, v: Tensor, most: int, ppca: bool = True) -> Tensor:
    """Mean held-out log-likelihood per dimension: for k = 1 .. most with ppca, else of the variances as they are.

    All of them follow from v_j, the mean squared held-out projection on eigenvector j:

        log p_k = -1/2 [d log 2 pi + sum_{j<=k} (log l_j + v_j / l_j) + (d - k) log s_k + sum_{j>k} v_j / s_k],

    with s_k the mean of the eigenvalues l_j beyond k. It is better for choosing k than explained variance, which says
    nothing about samples that were not seen.
    """
    d = len(variances)
    k = torch.arange(1, most + 1) if ppca else torch.tensor([d - 1])
    inside = (variances.log() + v / variances).cumsum(0)[k - 1]
    # Summed from the smallest up, because a difference of sums would lose a small tail.
    sigma2 = variances.flip(0).cumsum(0).flip(0)[k] / (d - k)
    outside = (d - k) * sigma2.log() + v.flip(0).cumsum(0).flip(0)[k] / sigma2
    return -0.5 * (math.log(2 * math.pi) + (inside + outside) / d)
