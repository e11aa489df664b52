"""Several Gaussians in whitened coordinates: learnt by scikit-learn, evaluated and differentiated in torch."""

from __future__ import annotations

import warnings
from dataclasses import dataclass

import torch
from torch import Tensor

ROUNDS = 200


@dataclass(frozen=True, eq=False)
class Modes:
    """A mixture of K Gaussians in m whitened dimensions: sum_j pi_j N(w | mu_j, (P_j P_j')^-1).

    weights [K] (pi, sum 1), means [K, m] (mu), factors [K, m, m] (P, upper triangular, positive diagonal): float64.
    """

    weights: Tensor
    means: Tensor
    factors: Tensor

    @property
    def log_peak(self) -> float:
        """log sum_j pi_j max N_j + m/2 log 2 pi: no point is denser than this bound, and for K = 1 the mean is."""
        return float(self._heights().logsumexp(dim=0))

    def depth(self, w: Tensor) -> Tensor:
        """2 (log_peak - log density) at w [N, m], [N], from 0: |w|^2 for one standard normal mode."""
        far = torch.stack([((w - mu) @ p).square().sum(dim=1) for mu, p in zip(self.means, self.factors, strict=True)])
        return 2 * (self.log_peak - (self._heights()[:, None] - far / 2).logsumexp(dim=0))

    def draw(self, noise: Tensor, g: torch.Generator) -> Tensor:
        """Turn standard normal rows [N, m] into draws of the mixture."""
        which = torch.multinomial(self.weights, len(noise), replacement=True, generator=g)
        spreads = torch.linalg.inv(self.factors)
        draws = torch.empty_like(noise)
        for j, mu in enumerate(self.means):
            draws[which == j] = mu + noise[which == j] @ spreads[j]
        return draws

    def _heights(self) -> Tensor:
        return self.weights.log() + self.factors.diagonal(dim1=1, dim2=2).log().sum(dim=1)


def learn_modes(w: Tensor, count: int, seed: int) -> tuple[Modes, bool]:
    """Learn `count` modes of whitened float64 rows [N, m]; and whether EM settled.

    Expectation maximisation by scikit-learn's GaussianMixture (Dempster, Laird & Rubin 1977), full covariances.
    """
    from sklearn.exceptions import ConvergenceWarning
    from sklearn.mixture import GaussianMixture

    # One mode has a closed form, and nothing that could collapse onto a single sample.
    guard = 1e-6 if count > 1 else 0.0
    model = GaussianMixture(count, reg_covar=guard, max_iter=ROUNDS, random_state=seed % 2**32)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ConvergenceWarning)  # told as a note instead
        model.fit(w.numpy())
    weights, means, factors = (
        torch.from_numpy(getattr(model, name)).double() for name in ("weights_", "means_", "precisions_cholesky_")
    )
    return Modes(weights / weights.sum(), means, factors.triu()), bool(model.converged_)
