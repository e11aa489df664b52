"""What a model usually makes when it makes several kinds of things: a mixture of Gaussians over the leading scores."""

from __future__ import annotations

import logging
import math
from collections.abc import Callable
from functools import reduce

import torch
from torch import Tensor

from .calibration import Calibration, bits_from_one_in, one_in_from_bits
from .embeddings import Embeddings, drop_unusable
from .errors import RarityError
from .fitting import _eigen, cross_fit, split
from .gaussian import GaussianDensity, _log_volume, _short
from .modes import ROUNDS, Modes, learn_modes
from .moments import Moments
from .tensors import generator, ordinary

log = logging.getLogger(__name__)

# Pairs (K, m) that the held-out samples choose from. A mode's covariance has m^2 / 2 numbers to learn: with few samples
# several modes can be told apart in the leading 8 scores only, with many in 32.
CANDIDATES = ((1, 32), (2, 8), (4, 8), (8, 8), (16, 8), (2, 32), (4, 32), (8, 32))
MOST_MIXED = 32
MOST_MODES = 64


class MixtureDensity(GaussianDensity):
    """A Gaussian density whose leading whitened scores are a mixture of K Gaussians instead of one.

    With w = U'(e - mean) / sqrt(lambda), its first m (8 or 32, at most k) entries w_m, and the residual r as in
    `GaussianDensity`:

        log p(e) = log sum_j pi_j N(w_m | mu_j, C_j) + sum_{i>m} log N(w_i | 0, 1)
                   - 1/2 sum_i log lambda_i - 1/2 [(d - k) log(2 pi sigma2) + |r|^2 / sigma2]

    The score is -log p in the Gaussian's unit, 2 (bound - log p) with the bound of `Modes.log_peak`: never negative,
    and for K = 1 it is D2, the Gaussian's own. `t2`, `residual` and `whiten` still speak of the one Gaussian around
    all samples; contours of equal score are no ellipsoids, so a shell in w is not one of equal rarity here.

    Attributes
    ----------
    All of `GaussianDensity`, and modes : the mixture.
    """

    def __init__(self, *, modes: Modes, **fields):
        super().__init__(**fields)
        self.modes = Modes(ordinary(modes.weights), ordinary(modes.means), ordinary(modes.factors))

    @classmethod
    def fit(
        cls,
        embeddings: Embeddings,
        *,
        components: int = 0,
        modes: int = 0,
        folds: int = 5,
        seed: int = 0,
        progress: Callable[[int, int], None] | None = None,
    ) -> MixtureDensity:
        """Learn the density, every sample scored once by a fit that has not seen it.

        Parameters
        ----------
        embeddings : N samples of one prompt; exact repeats are dropped and noted.
        components : k, as for the Gaussian.
        modes : K; 0 chooses among 1, 2, 4, 8 and 16 the one with the highest held-out likelihood, as m always is.
        folds : number of cross-fitting folds.   seed : of the split, of the modes' first guess, of the calibration.
        progress : called with (done, total).

        Raises
        ------
        RarityError : as the Gaussian; too many modes for the samples.
        """
        with torch.inference_mode(False), torch.no_grad():
            fields, mixture = _cross_fit(
                embeddings.vectors, int(components), int(modes), int(folds), int(seed), progress
            )
        for note in fields["notes"]:
            log.warning("%s", note)
        return cls(space=embeddings.space, source=embeddings.source, modes=mixture, **fields)

    def score(self, x: Tensor) -> Tensor:
        """2 (bound - log p), [N] float64, from 0: how far from everything usual, differentiable."""
        z, r = split(self._rows(x), self.mean, self.basis)
        return _depth(self.modes, z / self.variances.sqrt(), r.square().sum(dim=1) / self.residual_variance)

    def log_prob(self, x: Tensor) -> Tensor:
        """Log density in nats, [N]."""
        return self._bound() - 0.5 * self.score(x)

    def sample(self, count: int, seed: int = 0) -> Embeddings:
        """Draws from the mixture, not from the model."""
        g = generator(seed)
        noise = torch.randn(count, len(self.mean), generator=g, dtype=torch.float64)
        w, r = split(noise, torch.zeros_like(self.mean), self.basis)
        m = self.modes.means.shape[1]
        w = torch.cat([self.modes.draw(w[:, :m], g), w[:, m:]], dim=1)
        vectors = self.unwhiten(w, r * math.sqrt(self.residual_variance))
        return Embeddings(vectors, self.space, (), {**self.source, "kind": "drawn from the density"})

    def describe(self, one_in: float | None = None) -> str:
        """The density in plain words, and what "1 in N" means in it."""
        lines = super().describe().split("\n")
        shares = ", ".join(f"{share:.0%}" for share in self.modes.weights.sort(descending=True).values.tolist())
        one = len(self.modes.weights) == 1
        lines.insert(2, "They are one kind." if one else f"They fall into kinds that make up {shares} of them.")
        if one_in is not None:
            bits = bits_from_one_in(one_in)
            low, high = (one_in_from_bits(float(edge)) for edge in self.interval(bits))
            more = f"1 in {one_in:,.0f} is {bits:.1f} bits; with 90 % confidence between 1 in "
            more += f"{_short(low)} and 1 in {_short(high)}."
            if self.calibration.extrapolated(bits):
                more += f"\nThat is extrapolated: learn from at least {one_in:,.0f} samples to see it."
            lines.insert(len(lines) - len(self.notes), more)
        return "\n".join(lines)

    def state(self) -> tuple[dict, dict[str, Tensor]]:
        """JSON values and tensors that `from_state` makes the same density of."""
        fields, tensors = super().state()
        mixture = {f"mode_{name}": getattr(self.modes, name) for name in ("weights", "means", "factors")}
        return {**fields, "estimator": "mixture"}, {**tensors, **mixture}

    @classmethod
    def from_state(cls, fields: dict, tensors: dict[str, Tensor]) -> MixtureDensity:
        """The inverse of `state`, checked: a file may hold anything.

        Raises
        ------
        RarityError : what the Gaussian refuses; weights that do not sum to 1, factors that are not triangular.
        """
        base = GaussianDensity.from_state(fields, tensors)
        weights, means, factors = (tensors[f"mode_{name}"] for name in ("weights", "means", "factors"))
        modes, mixed = weights.numel(), means.shape[-1] if means.dim() else 0
        sound = (
            fields.get("estimator") == "mixture"
            and 1 <= modes <= MOST_MODES
            and 1 <= mixed <= min(base.components, MOST_MIXED)
            and weights.shape == (modes,)
            and means.shape == (modes, mixed)
            and factors.shape == (modes, mixed, mixed)
            and bool((weights > 0).all())
            and abs(float(weights.sum()) - 1) < 1e-6
            and bool((factors.diagonal(dim1=1, dim2=2) > 0).all())
            and torch.equal(factors, factors.triu())
        )
        if not sound:
            raise RarityError("The modes of the mixture in this file are damaged. Learn the density again and save it.")
        return cls(modes=Modes(weights, means, factors), **vars(base))

    def _bound(self) -> float:
        """The log density that no point exceeds: score 0."""
        return self.modes.log_peak - 0.5 * _log_volume(self.variances, self.residual_variance, len(self.mean))


def _depth(modes: Modes, w: Tensor, rest: Tensor) -> Tensor:
    """The score of whitened rows [N, k] and Q / sigma2 [N]: dimensions that are not mixed are standard normal."""
    m = modes.means.shape[1]
    return modes.depth(w[:, :m]) + w[:, m:].square().sum(dim=1) + rest


def _cross_fit(
    vectors: Tensor,
    components: int,
    modes: int,
    folds: int,
    seed: int,
    progress: Callable[[int, int], None] | None,
) -> tuple[dict, Modes]:
    """What `MixtureDensity` holds: the Gaussian's fields, calibrated for the mixture, and the mixture.

    The Gaussian says where to look: its k, mean and axes. Each fold is then whitened by the moments of the others, and
    every candidate is learnt from the others and scored on it. Held-out scores are log densities measured from
    the final fit's bound, one constant for all folds, so that scores of different fits mean the same; those few above
    the bound count as 0.
    """
    fields = cross_fit(vectors, components, folds, seed, None)
    x = drop_unusable(vectors)[0]
    (n, d), k = x.shape, fields["variances"].numel()
    _check_modes(modes, n, folds)
    fold_of = torch.randperm(n, generator=generator(seed)) % folds
    parts = [Moments(d).update(x[fold_of == f]) for f in range(folds)]
    wanted = [(modes, mixed) for mixed in (8, MOST_MIXED)] if modes else CANDIDATES
    candidates = list(dict.fromkeys((count, min(mixed, k)) for count, mixed in wanted))

    log_p = torch.empty(len(candidates), n, dtype=torch.float64)
    for f in range(folds):
        rest = reduce(Moments.merge, parts[:f] + parts[f + 1 :])
        values, axes = _eigen(rest)
        values = values.clamp_min(1e-12 * float(values.sum() + rest.mean.square().sum()) / d)
        volume = _log_volume(values[:k], float(values[k:].mean()), d)
        mine = fold_of == f
        w, off = _whiten(x, rest.mean, axes[:, :k], values[:k], float(values[k:].mean()))
        for i, (count, mixed) in enumerate(candidates):
            mixture, _ = learn_modes(w[~mine, :mixed], count, seed)
            log_p[i, mine] = mixture.log_peak - 0.5 * (volume + _depth(mixture, w[mine], off[mine]))
            if progress:
                progress(f * len(candidates) + i + 1, folds * len(candidates) + 1)

    best = int(log_p.mean(dim=1).argmax())
    count, mixed = candidates[best]
    w, _ = _whiten(x, fields["mean"], fields["basis"], fields["variances"], fields["residual_variance"])
    mixture, settled = learn_modes(w[:, :mixed], count, seed)
    bound = mixture.log_peak - 0.5 * _log_volume(fields["variances"], fields["residual_variance"], d)
    fields["calibration"] = Calibration.fit((2 * (bound - log_p[best])).clamp_min(0), seed)
    if not settled:
        fields["notes"] += (f"The {count} modes had not settled after {ROUNDS} rounds: fewer may fit better.",)
    if progress:
        progress(folds * len(candidates) + 1, folds * len(candidates) + 1)
    return fields, mixture


def _whiten(x: Tensor, mean: Tensor, basis: Tensor, variances: Tensor, sigma2: float) -> tuple[Tensor, Tensor]:
    """w [N, k] and Q / sigma2 [N]."""
    z, r = split(x.double(), mean, basis)
    return z / variances.sqrt(), r.square().sum(dim=1) / sigma2


def _check_modes(modes: int, n: int, folds: int) -> None:
    most = min(MOST_MODES, n * (folds - 1) // folds // 2)
    if not 0 <= modes <= most:
        raise RarityError(
            f"Choose 1 to {most} modes for {n:,} samples, or 0 for the best by held-out samples; got {modes}."
        )
