"""What a model usually makes: a Gaussian over the whole embedding space, calibrated on held-out scores."""

from __future__ import annotations

import math

import torch
from torch import Tensor

from ..base.embeddings import Embeddings
from ..base.progress import Progress
from ..base.spaces import EmbeddingSpace
from ..base.tensors import generator
from ..statistics.sufficient_statistics import Statistics
from .contract import Density
from .cross_fit import ESTIMATORS, fit_statistics
from .frame import split


class GaussianDensity(Density):
    """Probabilistic PCA over all d dimensions, with its score calibrated to bits.

    The score is the D2 of its `Frame`:

        log p(e) = -1/2 [d log 2 pi + sum_i log lambda_i + (d - k) log sigma2 + D2]

    A density of the k leading scores alone does not see the other d - k directions at all; this one does.
    Tipping & Bishop (1999).
    """

    estimators = ESTIMATORS

    @classmethod
    def from_statistics(
        cls,
        statistics: Statistics,
        space: EmbeddingSpace,
        *,
        source: dict | None = None,
        estimator: str = "ppca",
        components: int = 0,
        seed: int = 0,
        progress: Progress | None = None,
    ) -> GaussianDensity:
        """Learn the density from statistics gathered before; they may be updated later, the density keeps a copy.

        Parameters
        ----------
        statistics : of N samples.   space, source : of the samples.
        estimator : "ppca", "qis", "ledoit-wolf", "oas" or "full" (needs more samples than dimensions).
        components : k of ppca; 0 chooses the k with the highest held-out log-likelihood, at most a tenth of the samples.
            A k of one's own needs at least k + 2 in three fifths of the samples, and is read well from 10 k on.
        seed : of the calibration's draws.   progress : called with (done, total).

        Raises
        ------
        RarityError : as `fit`.
        """
        return cls(space=space, source=source, **fit_statistics(statistics, estimator, int(components), int(seed), progress))

    def score(self, x: Tensor) -> Tensor:
        """D2 = T2 + Q / sigma2, [N] float64: how far out, differentiable."""
        return self.frame.d2(x)

    def log_prob(self, x: Tensor) -> Tensor:
        """Log density in nats, [N]."""
        return -0.5 * (self.frame.log_volume + self.score(x))

    def sample(self, count: int, seed: int = 0) -> Embeddings:
        """Draws from the Gaussian, not from the model: mean + U sqrt(lambda) w + sqrt(sigma2) (1 - U U') noise."""
        frame = self.frame
        noise = torch.randn(count, len(frame.mean), generator=generator(seed), dtype=torch.float64)
        w, r = split(noise, torch.zeros_like(frame.mean), frame.basis)
        return self._drawn(frame.unwhiten(w, r * math.sqrt(frame.residual_variance)), seed)

    def _shape_in_words(self) -> tuple[str, ...]:
        return (self.frame.describe(self.estimator),)

    def _how_far(self, bits: float) -> str:
        ratio = math.sqrt(self.score_at(bits) / max(self.score_at(1.0), 1e-300))
        return f", {ratio:.1f} times as far out as the typical sample"
