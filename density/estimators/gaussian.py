"""What a model usually makes: a Gaussian over the whole embedding space, calibrated on held-out scores."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable
from functools import cached_property

import torch
from torch import Tensor

from ..base.embeddings import Embeddings
from ..base.errors import RarityError
from ..base.identity import sample_keys
from ..base.progress import in_parts
from ..base.spaces import EmbeddingSpace
from ..base.tensors import generator, here, ordinary, plain
from ..calibration.surprisal import Calibration, bits_from_one_in, one_in_from_bits
from ..statistics.gather import gather
from ..statistics.sufficient_statistics import MAX_ROWS, Statistics
from .cross_fit import fit_statistics
from .distances import distances, log_volume, split
from .modes import Modes
from .saved_gaussian import pack, unpack

DRAWN = "drawn from the density"  # kind of what `sample` gives
# How the covariance was learnt, for a sentence.
LEARNT = {
    "ppca": "{k} of {d} directions hold {explained:.0%} of what varies.",
    "full": "All {d} directions have a variance of their own, as the samples show it.",
    "ledoit-wolf": "All {d} directions have a variance of their own, drawn together as Ledoit and Wolf advise.",
    "oas": "All {d} directions have a variance of their own, drawn together by the oracle approximation (OAS).",
    "qis": "All {d} directions have a variance of their own, each drawn to those near it (quadratic-inverse shrinkage).",
}


class GaussianDensity:
    """Probabilistic PCA over all d dimensions, with its score calibrated to bits.

    With y = e - mean, z = U'y and the residual r = y - U z (formed directly):

        D2 = T2 + Q / sigma2,    T2 = sum_i z_i^2 / lambda_i,    Q = |r|^2
        log p(e) = -1/2 [d log 2 pi + sum_i log lambda_i + (d - k) log sigma2 + D2]

    lambda are the k leading eigenvalues of the covariance, sigma2 the mean of the others. Tipping & Bishop (1999).
    A density of the k leading scores alone does not see the other d - k directions at all; this one does.

    A covariance of all d directions ("full", or shrunk by "ledoit-wolf", "oas" or "qis") is the same with k = d - 1: sigma2
    is then the last variance, and Q what lies in the last direction. Nothing is left over, so that `residual` is the largest
    deviation along any one direction instead.

    Attributes
    ----------
    space, count : the embedding space; the number of samples learnt from.   estimator : how the covariance was learnt.
    statistics : what was learnt from, kept to be merged with that of other samples.
    mean [d], basis [d, k] (orthonormal U), variances [k] (lambda, descending), residual_variance (sigma2): float64.
    spectrum : [d], all eigenvalues, unshrunk.
    calibration : bits of a D2, from cross-fitted held-out scores.
    residual_calibration : [n], held-out `residual`, ascending.   norm_range : 0.1 % and 99.9 % quantiles of |e|.
    source : prompt, seed ... of the samples.   notes : what the user should know, in sentences.
    modes : the mixture of the leading scores; None where they are one Gaussian.
    has_shell : whether points of one score lie on a shell that rows can be moved along.
    """

    modes: Modes | None = None
    has_shell = True

    def __init__(
        self,
        *,
        space: EmbeddingSpace,
        estimator: str,
        statistics: Statistics,
        count: int,
        mean: Tensor,
        basis: Tensor,
        variances: Tensor,
        residual_variance: float,
        spectrum: Tensor,
        calibration: Calibration,
        norm_range: tuple[float, float],
        residual_calibration: Tensor,
        source: dict | None = None,
        notes: tuple[str, ...] = (),
    ):
        self.space, self.estimator, self.statistics, self.count = space, estimator, statistics, int(count)
        self.mean, self.basis, self.variances = ordinary(mean), ordinary(basis), ordinary(variances)
        self.residual_variance, self.spectrum = float(residual_variance), ordinary(spectrum)
        self.calibration = calibration
        self.norm_range = (float(norm_range[0]), float(norm_range[1]))
        self.residual_calibration = ordinary(residual_calibration)
        self.source, self.notes = dict(source or {}), tuple(notes)

    @property
    def components(self) -> int:
        """k, the number of directions with a variance of their own."""
        return len(self.variances)

    @property
    def has_rest(self) -> bool:
        """Whether the k directions leave more than one over, in which a residual is as long as wished."""
        return self.components < len(self.mean) - 1

    @property
    def frame_calibration(self) -> Calibration:
        """Bits of a D2 in the Gaussian frame, for what shifts that frame (`belief`)."""
        return self.calibration

    @cached_property
    def own_calibration(self) -> Calibration:
        """Bits of a D2 among the samples that were learnt from: for these, and for what is moved from them (`own_samples`)."""
        return self.learn_own_calibration()

    def learn_own_calibration(self, tick: Callable[[], None] | None = None) -> Calibration:
        """`own_calibration`, which is learnt when it is first asked for; then `tick` is called in every part, and may raise."""
        if "own_calibration" not in vars(self):
            with plain():
                self.own_calibration = Calibration.fit(in_parts(self.score, self.statistics.rows, tick))
        return self.own_calibration

    @classmethod
    def fit(
        cls,
        embeddings: Embeddings | Iterable[Embeddings],
        *,
        progress: Callable[[int, int], None] | None = None,
        **options,
    ) -> GaussianDensity:
        """Learn the density, every sample scored once by a fit that has not seen it.

        Parameters
        ----------
        embeddings : N samples of one prompt, at once or batch by batch; repeats are dropped and noted.
        progress : called with (done, total).   options : as for `from_statistics`.

        Raises
        ------
        RarityError : too few samples (says how many are needed), samples that do not vary, too many components.
        """
        statistics, space, source = gather(embeddings, progress)
        return cls.from_statistics(statistics, space, source=source, progress=progress, **options)

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
        progress: Callable[[int, int], None] | None = None,
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

    def whiten(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """Coordinates in units of the spread, w = U'(x - mean) / sqrt(lambda) [N, k]; and the residual r [N, d]."""
        z, r = split(self._rows(x), self.mean, self.basis)
        return z / self.variances.sqrt(), r

    def unwhiten(self, w: Tensor, r: Tensor) -> Tensor:
        """The inverse of `whiten`: mean + U (sqrt(lambda) w) + r, [N, d] float64."""
        return self.mean + (here(w) * self.variances.sqrt()) @ self.basis.T + here(r)

    def score(self, x: Tensor) -> Tensor:
        """D2 = T2 + Q / sigma2, [N] float64: how far out, differentiable."""
        t2, q = distances(self._rows(x), self.mean, self.basis, self.variances)
        return t2 + q / self.residual_variance

    def t2(self, x: Tensor) -> Tensor:
        """Hotelling's T2 = sum z_i^2 / lambda_i, [N]: the part of D2 inside the subspace."""
        return distances(self._rows(x), self.mean, self.basis, self.variances)[0]

    def residual(self, x: Tensor) -> Tensor:
        """Q = |r|^2, [N], in squared units of the embedding: the part the subspace does not explain.

        Where nothing is left over (`has_rest`), max_i z_i^2 / lambda_i: the largest deviation along any one direction, in
        squared standard deviations.
        """
        if self.has_rest:
            return distances(self._rows(x), self.mean, self.basis, self.variances)[1]
        w, r = self.whiten(x)
        return torch.maximum(w.square().amax(dim=1), r.square().sum(dim=1) / self.residual_variance)

    def log_prob(self, x: Tensor) -> Tensor:
        """Log density in nats, [N]."""
        return -0.5 * (log_volume(self.variances, self.residual_variance, len(self.mean)) + self.score(x))

    def bits(self, x: Tensor) -> Tensor:
        """Calibrated surprisal of new samples, [N]: 10 bits is 1 in 1,024."""
        return self.calibration.bits(self.score(x).detach())

    def one_in(self, x: Tensor) -> Tensor:
        """2 ** bits, [N]: once in how many samples the model makes something at least as rare."""
        return torch.exp2(self.bits(x))

    def score_at(self, bits: float) -> float:
        """The D2 of a wanted rarity."""
        return self.calibration.score_at(bits)

    def interval(self, x: Tensor | float) -> tuple[Tensor, Tensor]:
        """90 % interval in bits, of embeddings [N, d] or of a number of bits."""
        if isinstance(x, Tensor) and x.dim() == 2:
            return self.calibration.interval(self.score(x).detach())
        return self.calibration.interval(torch.tensor(self.score_at(float(x)), dtype=torch.float64))

    def residual_limit(self, percentile: float) -> float:
        """The `residual` that this percentage of held-out samples stays below; above 0, at most 100."""
        if not 0 < percentile <= 100:
            raise RarityError(f"A residual's percentile must be above 0 and at most 100, got {percentile}.")
        return float(torch.quantile(self.residual_calibration, percentile / 100))

    def sample(self, count: int, seed: int = 0) -> Embeddings:
        """Draws from the Gaussian, not from the model: mean + U sqrt(lambda) w + sqrt(sigma2) (1 - U U') noise."""
        noise = torch.randn(count, len(self.mean), generator=generator(seed), dtype=torch.float64)
        z, r = split(noise, torch.zeros_like(self.mean), self.basis)
        return Embeddings(
            self.unwhiten(z, r * math.sqrt(self.residual_variance)),
            self.space,
            (),
            {**self.source, "kind": DRAWN},
            self._drawn_keys(count, seed),
        )

    def _drawn_keys(self, count: int, seed: int) -> Tensor:
        """Who the draws of a seed are."""
        origin = {"kind": DRAWN, "space": self.space.to_dict(), "of": self.statistics.name, "by": self.estimator, "seed": seed}
        return sample_keys(origin, range(count))

    def describe(self, one_in: float | None = None) -> str:
        """The density in plain words, and what "1 in N" means in it."""
        prompt = self.source.get("prompt")
        sentence = LEARNT.get(self.estimator, LEARNT["ppca"])
        explained = float(self.variances.sum() / self.spectrum.sum())
        lines = [
            f"Learnt from {self.count:,} samples" + (f' of "{prompt}".' if prompt else "."),
            sentence.format(k=self.components, d=len(self.mean), explained=explained),
            f"These samples show rarities up to 1 in {2**self.calibration.resolved_bits:,.0f} themselves; "
            "beyond that figures are extrapolated.",
        ]
        if one_in is not None:
            bits = bits_from_one_in(one_in)
            low, high = (one_in_from_bits(float(edge)) for edge in self.interval(bits))
            lines.append(
                f"1 in {one_in:,.0f} is {bits:.1f} bits{self._how_far(bits)}; "
                f"with 90 % confidence between 1 in {_short(low)} and 1 in {_short(high)}."
            )
            if self.calibration.extrapolated(bits):
                lines.append(f"That is extrapolated: {_how_to_see(one_in)}.")
        return "\n".join([*lines, *self.notes])

    def state(self) -> tuple[dict, dict[str, Tensor]]:
        """JSON values and tensors that `from_state` makes the same density of."""
        return pack(self)

    @classmethod
    def from_state(cls, fields: dict, tensors: dict[str, Tensor]) -> GaussianDensity:
        """The inverse of `state`, checked: a file may hold anything.

        Raises
        ------
        RarityError : as `unpack`.
        """
        return cls(**unpack(fields, tensors))

    def _how_far(self, bits: float) -> str:
        """A rarity in words, as a distance."""
        ratio = math.sqrt(self.score_at(bits) / max(self.score_at(1.0), 1e-300))
        return f", {ratio:.1f} times as far out as the typical sample"

    def _rows(self, x: Tensor) -> Tensor:
        if x.dim() != 2 or x.shape[1] != len(self.mean):
            raise RarityError(f"Expected embeddings of shape [N, {len(self.mean)}], got {tuple(x.shape)}.")
        return here(x)


def _how_to_see(one_in: float) -> str:
    """What makes samples show "1 in N" themselves."""
    if one_in > MAX_ROWS:
        return f"{MAX_ROWS:,} samples are kept one by one, so that beyond 1 in {MAX_ROWS:,} every figure is"
    return f"learn from at least {one_in:,.0f} samples to see it"


def _short(n: float) -> str:
    return f"{n:,.0f}" if n < 1e9 else "more than a billion"
