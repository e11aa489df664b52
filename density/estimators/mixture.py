"""What a model usually makes when it makes several kinds of things: a mixture of Gaussians over the leading scores."""

from __future__ import annotations

import math

import torch
from torch import Tensor

from ..base.embeddings import Embeddings
from ..base.errors import RarityError
from ..base.log import get_logger
from ..base.progress import Progress, steps
from ..base.spaces import EmbeddingSpace
from ..base.tensors import generator, ordinary, plain
from ..statistics.sufficient_statistics import Statistics
from .contract import Density
from .cross_fit import CrossFit
from .frame import split
from .mixture_choice import MIXED, MOST_MODES, STEPS, learn_mixture
from .modes import Modes

log = get_logger(__name__)


class MixtureDensity(Density):
    """A density whose leading whitened scores are a mixture of K Gaussians instead of one.

    With w = U'(e - mean) / sqrt(lambda), its first m (8 or 32, at most k) entries w_m, and the residual r as in `Frame`:

        log p(e) = log sum_j pi_j N(w_m | mu_j, C_j) + sum_{i>m} log N(w_i | 0, 1)
                   - 1/2 sum_i log lambda_i - 1/2 [(d - k) log(2 pi sigma2) + |r|^2 / sigma2]

    The score is -log p in the Gaussian's unit, 2 (bound - log p) with the bound of `Modes.log_peak`: never negative,
    and for K = 1 it is D2, the frame's own. Contours of equal score are no ellipsoids: a sphere in w is not a shell of
    equal rarity here.

    Attributes
    ----------
    All of `Density`; modes : the mixture.
    """

    estimators = ("mixture",)

    def __init__(self, *, modes: Modes, asked_modes: int = 0, **fields):
        super().__init__(**fields)
        self.asked_modes = int(asked_modes)
        self.modes = Modes(ordinary(modes.weights), ordinary(modes.means), ordinary(modes.factors))

    @classmethod
    def from_statistics(
        cls,
        statistics: Statistics,
        space: EmbeddingSpace,
        *,
        source: dict | None = None,
        components: int = 0,
        modes: int = 0,
        seed: int = 0,
        progress: Progress | None = None,
    ) -> MixtureDensity:
        """Learn the density from statistics: axes and spreads from all rows seen, modes from the rows kept.

        Parameters
        ----------
        components : k, as for `GaussianDensity`.
        modes : K. 0 chooses 1, 2, 4, 8 or 16 by held-out likelihood; m is always chosen so.
        seed : of the modes' first guess, and of the calibration's draws.   The others : as for `GaussianDensity`.

        Raises
        ------
        RarityError : as `GaussianDensity.from_statistics`; too many modes for the samples.
        """
        statistics = statistics.copy()
        with plain():
            tick = steps(progress, STEPS)
            fields, _ = learn_mixture(CrossFit(statistics, tick), int(components), int(modes), int(seed), tick)
        for note in fields["notes"]:
            log.warning("%s", note)
        return cls(space=space, source=source, statistics=statistics, asked_modes=modes, **fields)

    def score(self, x: Tensor) -> Tensor:
        """2 (bound - log p), [N] float64, from 0: how far from everything usual, differentiable."""
        (w, r), m = self.frame.whiten(x), self.modes.means.shape[1]
        rest = w[:, m:].square().sum(dim=1) + r.square().sum(dim=1) / self.frame.residual_variance
        return self.modes.depth(w[:, :m]) + rest

    def log_prob(self, x: Tensor) -> Tensor:
        """Log density in nats, [N]."""
        return self._bound() - 0.5 * self.score(x)

    def sample(self, count: int, seed: int = 0) -> Embeddings:
        """Draws from the mixture, not from the model."""
        g, frame = generator(seed), self.frame
        noise = torch.randn(count, len(frame.mean), generator=g, dtype=torch.float64)
        w, r = split(noise, torch.zeros_like(frame.mean), frame.basis)
        m = self.modes.means.shape[1]
        w = torch.cat([self.modes.draw(w[:, :m], g), w[:, m:]], dim=1)
        return self._drawn(frame.unwhiten(w, r * math.sqrt(frame.residual_variance)), seed)

    def _shape_in_words(self) -> tuple[str, ...]:
        shares = ", ".join(f"{share:.0%}" for share in self.modes.weights.sort(descending=True).values.tolist())
        one = len(self.modes.weights) == 1
        kinds = "They are one kind." if one else f"They fall into kinds that make up {shares} of them."
        return self.frame.describe(self.estimator), kinds

    def state(self) -> tuple[dict, dict[str, Tensor]]:
        """JSON values and tensors that `from_state` makes the same density of."""
        fields, tensors = super().state()
        mixture = {f"mode_{name}": getattr(self.modes, name) for name in ("weights", "means", "factors")}
        return {**fields, "asked_modes": self.asked_modes}, {**tensors, **mixture}

    @classmethod
    def from_state(cls, fields: dict, tensors: dict[str, Tensor]) -> MixtureDensity:
        """The inverse of `state`, checked: a file may hold anything.

        Raises
        ------
        RarityError : as `unpack`; weights that do not sum to 1, factors that are not triangular.
        """
        base = cls.unpack(fields, tensors)
        weights, means, factors = (tensors[f"mode_{name}"] for name in ("weights", "means", "factors"))
        modes, mixed = weights.numel(), means.shape[-1] if means.dim() else 0
        asked = fields.get("asked_modes", 0)  # older files do not say
        sound = (
            1 <= modes <= MOST_MODES
            and type(asked) is int
            and asked in (0, modes)
            and 1 <= mixed <= min(base["frame"].components, MIXED[-1])
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
        return cls(modes=Modes(weights, means, factors), asked_modes=asked, **base)

    def _how_far(self, bits: float) -> str:
        return ""  # there is no one centre to be far from

    def _bound(self) -> float:
        """The log density that no point exceeds; its score is 0."""
        return self.modes.log_peak - 0.5 * self.frame.log_volume
