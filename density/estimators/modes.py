"""Several Gaussians in whitened coordinates: scikit-learn learns them, torch evaluates and differentiates them."""

from __future__ import annotations

import warnings
from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

from ..base.tensors import generator

ROUNDS = 200
AT_ONCE = 5  # rounds between two calls of `tick`
# EM ends when a round gains less than this, in nats for each row. With ten times as much it ends too early, where two modes
# share one crowd of samples; the folds start from there, and would get further than the whole did.
TOLERANCE = 0.001
# Number of first guesses by k-means. The guess that explains its rows best after AT_ONCE rounds goes on. Some guesses with
# two centres halve one crowd instead of separating two crowds, and EM cannot repair that.
GUESSES = 5
COARSE = 4_000  # rows on which the first guess is refined; a round on them costs a fraction of one on all rows
# Added to every variance of a mode, in units of the samples' variance. Structure narrower than a hundredth of the spread is
# not resolved, and no mode shrinks onto a single sample.
NARROWEST = 1e-4


@dataclass(frozen=True, eq=False)
class Modes:
    """A mixture of K Gaussians in m whitened dimensions: sum_j pi_j N(w | mu_j, (P_j P_j')^-1).

    weights [K] (pi, sum 1), means [K, m] (mu), factors [K, m, m] (P, upper triangular, positive diagonal): float64.
    """

    weights: Tensor
    means: Tensor
    factors: Tensor

    @classmethod
    def standard(cls, mixed: int) -> Modes:
        """One standard normal mode in `mixed` dimensions, the distribution of whitened scores under a single Gaussian."""
        eye = torch.eye(mixed, dtype=torch.float64)
        return cls(torch.ones(1, dtype=torch.float64), torch.zeros(1, mixed, dtype=torch.float64), eye[None])

    @classmethod
    def of_shares(cls, w: Tensor, shares: Tensor) -> Modes:
        """Modes learnt in one round from rows [N, m], each of which belongs to the modes by its shares [N, K]."""
        shares = shares + 1e-9  # a mode without rows becomes as wide as all rows
        sizes, eye = shares.sum(dim=0), torch.eye(w.shape[1], dtype=torch.float64)
        means = shares.T @ w / sizes[:, None]
        spreads = [(share[:, None] * (w - mu)).T @ (w - mu) for share, mu in zip(shares.T, means, strict=True)]
        lower = torch.linalg.cholesky(torch.stack(spreads) / sizes[:, None, None] + NARROWEST * eye)
        factors = torch.linalg.solve_triangular(lower, eye.expand_as(lower), upper=False).transpose(1, 2)
        return cls(sizes / sizes.sum(), means, factors)

    @property
    def log_peak(self) -> float:
        """log sum_j pi_j max N_j + m/2 log 2 pi. No point is denser than this bound; for K = 1 the mean reaches it."""
        return float(self.heights().logsumexp(dim=0))

    def heights(self) -> Tensor:
        """log pi_j max N_j of every mode, plus m/2 log 2 pi: [K]."""
        return self.weights.log() + self.factors.diagonal(dim1=1, dim2=2).log().sum(dim=1)

    def depth(self, w: Tensor) -> Tensor:
        """2 (log_peak - log density) at w [N, m], [N], never below 0; for one standard normal mode it is |w|^2."""
        return 2 * (self.log_peak - self._logs(w).logsumexp(dim=0))

    def shares(self, w: Tensor) -> Tensor:
        """The probability that each of the rows [N, m] belongs to each mode, [N, K]."""
        return self._logs(w).softmax(dim=0).T

    def draw(self, noise: Tensor, g: torch.Generator) -> Tensor:
        """Turn standard normal rows [N, m] into draws of the mixture."""
        which = torch.multinomial(self.weights, len(noise), replacement=True, generator=g)
        spreads = torch.linalg.inv(self.factors)
        draws = torch.empty_like(noise)
        for j, mu in enumerate(self.means):
            draws[which == j] = mu + noise[which == j] @ spreads[j]
        return draws

    def thin(self, count: int) -> int:
        """How many modes are too thin: of `count` samples they get no more than m, too few to learn a covariance from."""
        return int((self.weights * count <= self.means.shape[1]).sum())

    def _logs(self, w: Tensor) -> Tensor:
        """log pi_j N_j at w [N, m], plus m/2 log 2 pi: [K, N]."""
        far = torch.stack([((w - mu) @ p).square().sum(dim=1) for mu, p in zip(self.means, self.factors, strict=True)])
        return self.heights()[:, None] - far / 2


def learn_modes(
    w: Tensor, count: int, seed: int, start: Modes | None = None, *, tick: Callable[[], None] | None = None
) -> tuple[Modes, bool]:
    """Learn `count` modes of whitened float64 rows [N, m]. Returns them, and whether EM settled.

    Expectation maximisation by scikit-learn's GaussianMixture with full covariances (Dempster, Laird & Rubin 1977). It
    starts from `start`. Without a start the best of GUESSES guesses by k-means is first settled on COARSE of the rows.
    One mode needs no learning: it is the Gaussian that whitened the rows. `tick` is called every few rounds, and may
    raise.
    """
    if count == 1:
        return Modes.standard(w.shape[1]), True
    if start is None and len(w) > COARSE:
        few = w[torch.randperm(len(w), generator=generator(seed))[:COARSE]]
        start, _ = learn_modes(few, count, seed, tick=tick)

    from sklearn.exceptions import ConvergenceWarning
    from sklearn.mixture import GaussianMixture

    def settle(model):
        model.fit(w.numpy())
        if tick:
            tick()
        return model

    settings = {"tol": TOLERANCE, "reg_covar": NARROWEST, "max_iter": AT_ONCE, "warm_start": True}  # fit goes on
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ConvergenceWarning)  # a note says it instead
        if start is None:
            guesses = [GaussianMixture(count, random_state=(seed + i) % 2**32, **settings) for i in range(GUESSES)]
            best = max(settle(guess).lower_bound_ for guess in guesses)
            model = next(guess for guess in guesses if guess.lower_bound_ > best - TOLERANCE)  # the first of equally good ones
        else:
            model = GaussianMixture(
                count,
                weights_init=start.weights.numpy(),
                means_init=start.means.numpy(),
                precisions_init=(start.factors @ start.factors.transpose(1, 2)).numpy(),
                random_state=seed % 2**32,
                **settings,
            )
        for _ in range(ROUNDS // AT_ONCE):
            settle(model)
            if model.converged_:
                break
    weights, means, factors = (
        torch.from_numpy(getattr(model, name)).double() for name in ("weights_", "means_", "precisions_cholesky_")
    )
    return Modes(weights / weights.sum(), means, factors.triu()), bool(model.converged_)
