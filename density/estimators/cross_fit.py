"""Learning the Gaussian: a fit of the other folds scores each fold, and held-out likelihood chooses the components."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property

import torch
from torch import Tensor

from ..base.errors import RarityError
from ..base.keys import FOLDS
from ..base.log import get_logger
from ..base.progress import Progress, steps
from ..base.tensors import plain
from ..calibration.enough import check_directions, check_full, check_samples
from ..calibration.held_out import extrapolate, independent, leave_one_out, log_likelihoods
from ..calibration.surprisal import REFITTED, Calibration
from ..statistics.eigen import principal_axes
from ..statistics.moments import CHUNK, Moments
from ..statistics.quadratic_shrinkage import quadratic_inverse
from ..statistics.shrinkage import RadialMoments, ledoit_wolf, oas, shrink
from ..statistics.sufficient_statistics import Statistics, joined
from .frame import Frame, depths
from .sample_space import SampleSpace

log = get_logger(__name__)

ESTIMATORS = ("ppca", "ledoit-wolf", "oas", "full", "qis")
BY_FOLDS = ("ppca", "qis")  # their held-out scores need fits without some folds; those of the others follow from one fit


@dataclass(frozen=True, eq=False)
class Fit:
    """Mean, spectrum and axes of some samples, float64.

    count : of the samples.   mean : [d].   spectrum : [d], eigenvalues of the covariance, descending.
    intensities : how far "ledoit-wolf" and "oas" shrink the spectrum.
    spread : [d], the mean squared projection of the left-out samples on each axis; None if no samples were left out.
    """

    count: int
    mean: Tensor
    spectrum: Tensor
    intensities: dict[str, float]
    _directions: Tensor  # the axes; in the sample space, if there is one
    _space: SampleSpace | None
    _seen: Moments
    _left_out: Moments | None

    @classmethod
    def of(cls, radial: RadialMoments, left_out: Moments | None = None, space: SampleSpace | None = None) -> Fit:
        """The fit of these moments. `left_out` gives the spread; both are moments in the sample space, if there is one."""
        moments = radial.moments
        spectrum, directions = principal_axes(moments)
        mean = moments.mean
        if space:
            mean, spectrum = space.mean(mean), space.padded(spectrum)
        d = len(spectrum)
        intensities = {"ledoit-wolf": ledoit_wolf(radial, d), "oas": oas(moments, d)}
        return cls(moments.count, mean, spectrum, intensities, directions, space, moments, left_out)

    def leading(self, k: int) -> Tensor:
        """The k axes of the largest variances, [d, k]; all axes for k = d."""
        if self._space is None:
            return self._directions[:, :k]
        return self._space.axes(self._directions, self.count - 1, k)

    @cached_property
    def spread(self) -> Tensor | None:
        if self._left_out is None or not self._left_out.count:
            return None
        # The diagonal of U'(C + m m')U of all left-out samples. Samples that are not kept as rows count, too.
        axes, offset = self._directions, self._left_out.mean - self._seen.mean
        spread = ((self._left_out.covariance() @ axes) * axes).sum(dim=0) + (offset @ axes).square()
        return self._space.padded(spread) if self._space else spread

    def depths(self, rows: Tensor, variances: Tensor, k: int) -> tuple[Tensor, Tensor]:
        """`frame.depths` of rows [N, d] under these axes; variances : [d], as an estimator has them."""
        d = len(self.mean)
        return depths(rows, self.mean, self.leading(k if 2 * k < d else d), variances, k)


class CrossFit:
    """The fit of all samples, and for each fold the fit of the other folds. So each sample is held out once.

    Parameters
    ----------
    statistics : of the samples.
    tick : called after each fit except that of all samples: FOLDS times at once, and FOLDS times more when `fewer` is
        first asked for; and with 0 in between. It may raise.

    Attributes
    ----------
    statistics.   whole : the Fit of all samples.
    others : for each fold the Fit of all other folds, with the spread of the fold itself.
    fewer : for each fold the Fit of all folds except this and the next one; `extrapolate` needs it.
    floor : a smaller variance is only the rounding of float32.   rank : number of directions with a larger variance.

    Raises
    ------
    RarityError : too few samples, samples that do not vary.
    """

    def __init__(self, statistics: Statistics, tick: Callable[..., None] | None = None):
        n, d = statistics.count, statistics.width
        if d < 2:
            raise RarityError(f"A density needs embeddings of at least 2 dimensions, got {d}.")
        check_samples(n)
        self._tick = tick or (lambda *_: None)
        self.statistics, self._space = statistics, SampleSpace.of(statistics)
        self._folds = self._space.folds(statistics.row_folds) if self._space else statistics.folds
        whole = joined(self._folds)
        self._tick(0)
        if not (torch.isfinite(whole.moments.scatter).all() and math.isfinite(whole.fourth)):
            raise RarityError("The embeddings hold values too large to learn from: expected the numbers an encoder gives.")
        self.whole = Fit.of(whole, space=self._space)
        self._tick(0)
        spectrum = self.whole.spectrum
        self.floor = 1e-12 * float(spectrum.sum() + self.whole.mean.square().sum()) / d
        self.rank = int((spectrum > self.floor).sum())
        if self.rank < 2:
            raise RarityError(
                f"The {n:,} embeddings hardly vary (in {self.rank} of {d} directions). Expected different samples: "
                "draw them with different noise, and check that the prompt reaches the model."
            )
        self.others = []
        for f in range(FOLDS):
            self.others.append(Fit.of(joined(self._folds, [f]), self._folds[f].moments, self._space))
            self._tick()

    @cached_property
    def fewer(self) -> list[Fit]:
        fits = []
        for f in range(FOLDS):
            fits.append(Fit.of(joined(self._folds, [f, (f + 1) % FOLDS]), space=self._space))
            self._tick()
        return fits

    def fewest(self, left_out: int = 1) -> int:
        """The smallest number of samples behind a fit that leaves out 1 fold (`others`) or 2 folds (`fewer`)."""
        sizes = [part.moments.count for part in self._folds]
        return self.statistics.count - max(sum((sizes + sizes)[f : f + left_out]) for f in range(FOLDS))

    def variances(self, fit: Fit, estimator: str) -> Tensor:
        """The estimator's variance along each axis, [d]; at least the floor."""
        if estimator == "qis":
            return quadratic_inverse(fit.spectrum, fit.count, self.floor).clamp_min(self.floor)
        return shrink(fit.spectrum, fit.intensities.get(estimator, 0.0)).clamp_min(self.floor)

    def log_likelihoods(self, estimator: str, components: int = 0) -> Tensor:
        """Held-out log-likelihood per dimension: for ppca one value for each k = 1, 2 ...; for the others [1], k = d - 1.

        The last k of ppca is `components`. If that is 0, it is a tenth of the number of samples: they cannot tell more.
        """
        most = components or max(1, min(self.statistics.count // 10, self.rank - 1))
        total = 0.0
        for fit, fold in zip(self.others, self._folds, strict=True):
            if fit.spread is None:
                continue
            values = log_likelihoods(self.variances(fit, estimator), fit.spread, most, estimator == "ppca")
            total = total + values * (fold.moments.count / self.statistics.count)
        return total

    def require(self, estimator: str, components: int) -> None:
        """Raise a RarityError unless the samples are enough for the estimator, and vary enough for k components."""
        d, n = self.statistics.width, self.statistics.count
        check_components(estimator, components)
        check_width(components, d)
        if estimator == "full":
            check_full(n, self.fewest(1), d)
        check_directions(n, self.fewest(2), components)
        if components >= self.rank:
            raise RarityError(
                f"The embeddings vary in {self.rank} directions only: choose at most {self.rank - 1} components, "
                f"got {components}."
            )
        if estimator == "full" and self.rank < d:
            raise RarityError(
                f"The embeddings vary in {self.rank} of {d} directions only, too few for a full covariance: "
                "use ledoit-wolf, oas or ppca."
            )


def check_width(components: int, width: int) -> None:
    """Raise a RarityError if embeddings of this width have no room for so many components."""
    if components >= width:
        raise RarityError(f"Choose 1 to {width - 1} components, or 0 for the best by held-out samples; got {components}.")


def check_components(estimator: str, components: int) -> None:
    """Raise a RarityError if a density of this estimator never has so many components, whatever the samples are."""
    if components < 0:
        raise RarityError(f"Choose 1 or more components, or 0 for the best by held-out samples; got {components}.")
    if components and estimator in ESTIMATORS and estimator != "ppca":
        raise RarityError(
            f"Components are chosen for ppca, mixture, neighbours and auto only: {estimator} has a variance for every direction. "
            f"Got {components}, set it to 0."
        )


def fit_statistics(
    statistics: Statistics, estimator: str, components: int, seed: int, progress: Progress | None = None
) -> dict:
    """Everything that a `GaussianDensity` holds except its space and source, by name; the notes are logged."""
    statistics = statistics.copy()
    with plain():
        tick = steps(progress, 2 * FOLDS if estimator in BY_FOLDS else FOLDS)
        fields = learn(CrossFit(statistics, tick), estimator, components, seed)
    for note in fields["notes"]:
        log.warning("%s", note)
    return {"statistics": statistics, **fields}


def learn(cross: CrossFit, estimator: str, components: int, seed: int) -> dict:
    """The fields of `fit_statistics` without the statistics, from fits that exist already.

    Each kept row gets the score that a fit of all other samples would give it. For the estimators in BY_FOLDS, fits of
    some of the folds give scores, and `extrapolate` goes on from them to a fit of all folds. For the other estimators
    the score is exact, and the deviation along a single direction, known from a fit of the folds, is scaled as the
    score is.

    Raises
    ------
    RarityError : an unknown estimator, too few samples for it, more components than the samples have.
    """
    if estimator not in ESTIMATORS:
        raise RarityError(f"An estimator is one of {', '.join(ESTIMATORS)}; got {estimator!r}.")
    cross.require(estimator, components)
    statistics, d = cross.statistics, cross.statistics.width
    if estimator != "ppca":
        k = d - 1
    else:
        k = components or int(cross.log_likelihoods(estimator).argmax()) + 1
    scores, residuals = _by_folds(cross, cross.others, estimator, k)
    worth = REFITTED
    if estimator in BY_FOLDS:
        fewer = _by_folds(cross, cross.fewer, estimator, k)
        worth *= independent(fewer[0], scores)
        scores = extrapolate(fewer[0], scores)
        if k < d - 1:  # otherwise the residual is the largest of many deviations, which `extrapolate` has no rule for
            residuals = extrapolate(fewer[1], residuals)
    else:
        exact = _one_by_one(cross, estimator)
        scores, residuals = exact, residuals * (exact / scores.clamp_min(1e-300))
    lengths = torch.cat([rows.double().norm(dim=1) for rows in statistics.rows.split(CHUNK)])
    norms = torch.quantile(lengths, torch.tensor([0.001, 0.999], dtype=torch.float64))
    variances = cross.variances(cross.whole, estimator)
    return {
        "estimator": estimator,
        "frame": Frame(
            mean=cross.whole.mean,
            basis=cross.whole.leading(k),
            variances=variances[:k],
            residual_variance=float(variances[k:].mean()),
            spectrum=cross.whole.spectrum,
            residual_calibration=residuals.sort().values,
        ),
        "calibration": Calibration.fit(scores, seed, worth),
        "norm_range": (float(norms[0]), float(norms[1])),
        "notes": _notes(statistics, estimator, k),
    }


def _by_folds(cross: CrossFit, fits: list[Fit], estimator: str, k: int) -> tuple[Tensor, Tensor]:
    """The two results of `depths` for each kept row, [r] each, under the fit of its own fold."""
    rows, fold_of = cross.statistics.rows, cross.statistics.row_folds
    scores = torch.empty(len(rows), dtype=torch.float64)
    residuals = torch.empty_like(scores)
    for f, fit in enumerate(fits):
        variances, mine = cross.variances(fit, estimator), fold_of == f
        scores[mine], residuals[mine] = fit.depths(rows[mine], variances, k)
        cross._tick(0)
    return scores, residuals


def _one_by_one(cross: CrossFit, estimator: str) -> Tensor:
    """D2 of each kept row, [r], under the covariance of all other rows."""
    fit = cross.whole
    spectrum, intensity = fit.spectrum.clamp_min(cross.floor), fit.intensities.get(estimator, 0.0)
    axes, scores = fit.leading(len(spectrum)), []
    for part in cross.statistics.rows.split(CHUNK):
        scores.append(leave_one_out((part.double() - fit.mean) @ axes, spectrum, intensity, fit.count))
        cross._tick(0)
    return torch.cat(scores)


def _notes(statistics: Statistics, estimator: str, k: int) -> tuple[str, ...]:
    n, repeats, dropped = statistics.count, statistics.repeats, statistics.dropped
    notes = []
    if repeats:
        notes.append(f"{repeats:,} of {n + repeats + dropped:,} samples were repeats and were dropped.")
    if dropped:
        notes.append(f"{dropped:,} of {n + repeats + dropped:,} samples were not finite and were dropped.")
    if estimator in ("ppca", "full") and n < 10 * k:
        notes.append(f"{n:,} samples are few for {k} components: {10 * k:,} or more are better.")
    return tuple(notes)
