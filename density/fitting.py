"""Learning the Gaussian: moments by fold, the number of components by held-out likelihood, scores of unseen samples."""

from __future__ import annotations

import math
from collections.abc import Callable
from functools import reduce

import torch
from torch import Tensor

from .calibration import MIN_SCORES, Calibration
from .embeddings import drop_unusable
from .errors import RarityError
from .moments import Moments
from .tensors import generator


def split(x: Tensor, mean: Tensor, basis: Tensor) -> tuple[Tensor, Tensor]:
    """Scores z = U'y [N, k] and residual r = y - U z [N, d] of y = x - mean; r never as a difference of norms."""
    y = x - mean
    z = y @ basis
    return z, y - z @ basis.T


def distances(x: Tensor, mean: Tensor, basis: Tensor, variances: Tensor) -> tuple[Tensor, Tensor]:
    """T2 = sum_i z_i^2 / lambda_i and Q = |r|^2, [N] each."""
    z, r = split(x, mean, basis)
    return (z.square() / variances).sum(dim=1), r.square().sum(dim=1)


def _eigen(moments: Moments) -> tuple[Tensor, Tensor]:
    """Eigenvalues (descending, >= 0) and eigenvectors; each vector's largest entry is positive, so that maps agree."""
    values, vectors = torch.linalg.eigh(moments.covariance())
    values, vectors = values.flip(0).clamp_min(0), vectors.flip(1)
    largest = vectors.gather(0, vectors.abs().argmax(dim=0, keepdim=True))
    return values, vectors * largest.sign()


def _log_likelihoods(mean: Tensor, spectrum: Tensor, axes: Tensor, x: Tensor, most: int, floor: float) -> Tensor:
    """Mean held-out log-likelihood per dimension for every k = 1 .. most, [most].

    All of them follow from v_j, the mean squared held-out projection on eigenvector j:

        log p_k = -1/2 [d log 2 pi + sum_{j<=k} (log l_j + v_j / l_j) + (d - k) log s_k + sum_{j>k} v_j / s_k],

    with s_k the mean of the eigenvalues l_j beyond k. Chosen so rather than by explained variance, which says nothing
    about samples that were not seen.
    """
    d = len(spectrum)
    v = ((x.double() - mean) @ axes).square().mean(dim=0)
    variances = spectrum.clamp_min(floor)
    k = torch.arange(1, most + 1)
    inside = (variances.log() + v / variances).cumsum(0)[k - 1]
    sigma2 = (variances.sum() - variances.cumsum(0)[k - 1]) / (d - k)
    outside = (d - k) * sigma2.log() + (v.sum() - v.cumsum(0)[k - 1]) / sigma2
    return -0.5 * (math.log(2 * math.pi) + (inside + outside) / d)


def cross_fit(
    vectors: Tensor, components: int, folds: int, seed: int, progress: Callable[[int, int], None] | None
) -> dict:
    """Everything `GaussianDensity` holds but its space and source, by name.

    Every fold is scored by the moments of the others, so each sample is a held-out sample once. The density itself is
    that of all samples.
    """
    x, _, repeats = drop_unusable(vectors)
    n, d = x.shape
    _check_counts(n, d, components, folds)
    fold_of = torch.randperm(n, generator=generator(seed)) % folds
    parts = [Moments(d).update(x[fold_of == f]) for f in range(folds)]
    whole = reduce(Moments.merge, parts)
    spectrum, axes = _eigen(whole)
    # Below this a variance is only the rounding of float32 embeddings.
    floor = 1e-12 * float(spectrum.sum() + whole.mean.square().sum()) / d
    _check_rank(int((spectrum > floor).sum()), n, d, components)

    fits = []
    for f in range(folds):
        rest = reduce(Moments.merge, parts[:f] + parts[f + 1 :])
        fits.append((rest.mean, *_eigen(rest), fold_of == f))
        if progress:
            progress(f + 1, folds)
    if components == 0:
        most = max(1, min(n // 10, int((spectrum > floor).sum()) - 1))
        gain = sum(_log_likelihoods(mean, values, vecs, x[mine], most, floor) for mean, values, vecs, mine in fits)
        components = int(gain.argmax()) + 1

    scores, residuals = torch.empty(n, dtype=torch.float64), torch.empty(n, dtype=torch.float64)
    for mean, values, vecs, mine in fits:
        values = values.clamp_min(floor)
        t2, q = distances(x[mine].double(), mean, vecs[:, :components], values[:components])
        scores[mine], residuals[mine] = t2 + q / values[components:].mean(), q
    norms = torch.quantile(x.double().norm(dim=1), torch.tensor([0.001, 0.999], dtype=torch.float64))
    notes = []
    if repeats:
        notes.append(f"{repeats:,} of {len(vectors):,} samples were exact repeats and were dropped.")
    if n < 10 * components:
        notes.append(f"{n:,} samples are few for {components} components: {10 * components:,} or more are better.")
    return {
        "count": n,
        "mean": whole.mean,
        "basis": axes[:, :components],
        "variances": spectrum[:components],
        "residual_variance": float(spectrum[components:].clamp_min(floor).mean()),
        "spectrum": spectrum,
        "calibration": Calibration.fit(scores, seed),
        "norm_range": (float(norms[0]), float(norms[1])),
        "residual_calibration": residuals.sort().values,
        "notes": tuple(notes),
    }


def _check_counts(n: int, d: int, components: int, folds: int) -> None:
    if d < 2:
        raise RarityError(f"A density needs embeddings of at least 2 dimensions, got {d}.")
    if not 2 <= folds <= 20:
        raise RarityError(f"Choose 2 to 20 folds, got {folds}.")
    if not 0 <= components < d:
        raise RarityError(f"Choose 1 to {d - 1} components, or 0 for the best by held-out samples; got {components}.")
    # Every fold's fit sees n (folds - 1) / folds samples, and needs more of them than components.
    needed = max(MIN_SCORES, math.ceil((components + 2) * folds / (folds - 1)))
    if n < needed:
        what = f"with {components} components" if components else "at all"
        raise RarityError(
            f"Too few samples to learn a density {what}: at least {needed:,} different ones are needed, got {n:,}. "
            "Draw more samples" + (", or choose fewer components." if components else ".")
        )


def _check_rank(rank: int, n: int, d: int, components: int) -> None:
    if rank < 2:
        raise RarityError(
            f"The {n:,} embeddings hardly vary (in {rank} of {d} directions). Expected different samples: "
            "draw them with different noise, and check that the prompt reaches the model."
        )
    if components >= rank:
        raise RarityError(
            f"The embeddings vary in {rank} directions only: choose at most {rank - 1} components, got {components}."
        )
