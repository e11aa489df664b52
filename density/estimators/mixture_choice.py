"""Learning a mixture: held-out likelihood chooses the modes and their directions, and held-out scores calibrate it."""

from __future__ import annotations

import math
from collections.abc import Callable

import torch
from torch import Tensor

from ..base.errors import RarityError
from ..base.keys import FOLDS
from ..calibration.held_out import extrapolate
from ..calibration.surprisal import Calibration
from .cross_fit import CrossFit, Fit, learn
from .frame import log_volume
from .modes import COARSE, ROUNDS, Modes, learn_modes

# A mode's covariance has m^2 / 2 numbers to learn. Few samples can tell several modes apart in the leading 8 scores only,
# many samples in the leading 32.
MIXED = (8, 32)
CHOSEN_FROM = (2, 4, 8, 16)
MOST_MODES = 64
CHOICES = len(MIXED) * len(CHOSEN_FROM)
STEPS = 4 * FOLDS + CHOICES + 1  # calls of `tick`: for the fits of four and of three fifths, and for the modes
CHOICE_ROWS = 2_000  # held-out rows that choose K and m; they show the mean gain to a few hundredths of a nat


def learn_mixture(
    cross: CrossFit, components: int, modes: int, seed: int, tick: Callable[..., None] | None = None
) -> tuple[dict, float]:
    """Everything that a `MixtureDensity` holds except its space and source, by name; and the held-out log-likelihood.

    A Gaussian fit gives k, the mean and the axes. The rows of each fold are scored in the coordinates and by the modes
    that the other folds gave. EM can end in many places. Therefore the EM of a fold starts from the shares that rows
    have in the modes of the whole, and learns everything else from the rows of the other folds; so it ends near the
    whole. Without this start it ends elsewhere, and what was called 1 in 32 happened once in 45 times (on average;
    2,000 samples of twelve kinds, four modes).

    Held-out scores are log densities measured from the bound of the final fit. The bound is the same for all folds, so
    scores of different fits mean the same. The few scores above the bound count as 0. As for the Gaussian, fits of
    three and of four fifths of the rows give the scores, and `extrapolate` goes on from them to a fit of all rows.

    Returns
    -------
    The fields; and the mean log-likelihood of rows under fits of four fifths that have not seen them, per dimension.

    Raises
    ------
    RarityError : as `learn`; too many modes for the rows.
    """
    statistics, tick = cross.statistics, tick or (lambda *_: None)
    rows, fold_of = statistics.rows, statistics.row_folds
    _check_modes(modes, len(rows))
    fields = learn(cross, "ppca", components, seed)
    frame, width = fields["frame"], statistics.width
    k = frame.components
    most = min(MIXED[-1], k)
    # The rows in the coordinates of every fit, in as many directions as a mixture may need.
    leading = []
    for fit in cross.others:
        leading.append(_leading(rows, fit.mean, fit.leading(most), cross.variances(fit, "ppca")[:most]))
        tick(0)
    count, mixed = _choose(leading, fold_of, modes, seed, tick)

    w = _leading(rows, frame.mean, cross.whole.leading(k)[:, :mixed], frame.variances[:mixed])
    mixture, settled = learn_modes(w, count, seed, tick=lambda: tick(0))
    shares = mixture.shares(w)
    tick()

    def log_densities(fits: list[Fit], left_out: int) -> Tensor:
        """Log density of each row under the fit that has not seen its fold and the `left_out` - 1 folds after it."""
        log_p = torch.empty(len(rows), dtype=torch.float64)
        for f, fit in enumerate(fits):
            mine, seen = fold_of == f, (fold_of - f) % FOLDS >= left_out
            variances = cross.variances(fit, "ppca")
            sigma2 = float(variances[k:].mean())
            d2, _ = fit.depths(rows[mine], variances, k)
            w = _leading(rows, fit.mean, fit.leading(mixed), variances[:mixed])
            tick(0)
            other, _ = learn_modes(w[seen], count, seed, Modes.of_shares(w[seen], shares[seen]), tick=lambda: tick(0))
            log_p[mine] = _gain(other, w[mine]) - 0.5 * (log_volume(variances[:k], sigma2, width) + d2)
            tick()
        return log_p

    bound = mixture.log_peak - 0.5 * frame.log_volume
    fewer, others = log_densities(cross.fewer, 2), log_densities(cross.others, 1)
    scores = extrapolate(*(2 * (bound - log_p).clamp_min(0) for log_p in (fewer, others)))
    fields["calibration"] = Calibration.fit(scores, seed)
    if not settled:
        fields["notes"] += (f"The {count} modes had not settled after {ROUNDS} rounds: fewer may fit better.",)
    if thin := mixture.thin(len(rows)):
        what = f"{thin} of the {count} modes hold no more samples than the {mixed} directions they are told apart in"
        fields["notes"] += (f"{what}: choose fewer modes, or draw more samples.",)
    return {**fields, "estimator": "mixture", "modes": mixture}, float(others.mean()) / width


def _leading(x: Tensor, mean: Tensor, axes: Tensor, variances: Tensor) -> Tensor:
    """The leading whitened scores of rows [N, d], [N, m] float64."""
    return torch.cat([(part.double() - mean) @ axes for part in x.split(4096)]) / variances.sqrt()


def _gain(mixture: Modes, w: Tensor) -> Tensor:
    """Log density of the scores [N, m] under the mixture minus that under one standard normal, [N] nats."""
    return mixture.log_peak + 0.5 * (w.square().sum(dim=1) - mixture.depth(w))


def _choose(leading: list[Tensor], fold_of: Tensor, modes: int, seed: int, tick: Callable[..., None]) -> tuple[int, int]:
    """Choose (K, m) by the gain over one Gaussian on held-out rows. modes : K, or 0 to choose it.

    The smallest mixture is chosen whose mean gain is within one standard error of the highest mean gain (the standard
    error of the difference, row by row; Breiman et al., 1984, Classification and Regression Trees). The mixture with
    the highest gain would often be a larger one that is better by chance only, and another one on another processor.

    Folds are used until there are CHOICE_ROWS held-out rows. For each of them modes are learnt from COARSE rows.
    K is doubled until two sizes in a row bring nothing. `tick` is called CHOICES times, however many mixtures are
    tried, and with 0 in between.
    """
    narrow = min(MIXED[0], leading[0].shape[1])
    tried, left = [], CHOICES
    for mixed in dict.fromkeys(min(m, leading[0].shape[1]) for m in MIXED):
        highest, worse = -math.inf, 0
        for count in (modes,) if modes else CHOSEN_FROM:
            gains = _held_out_gains(leading, fold_of, count, mixed, seed, tick)
            tick()
            left -= 1
            if gains is not None:
                tried.append((gains, count, mixed))
            mean = -math.inf if gains is None else float(gains.mean())
            highest, worse = (mean, 0) if mean > highest else (highest, worse + 1)
            if worse == 2:
                break
    for _ in range(left):
        tick()
    if not tried:
        return modes or 1, narrow
    if not modes:
        tried.append((torch.zeros_like(tried[0][0]), 1, narrow))
    best = max((gains for gains, _, _ in tried), key=lambda gains: float(gains.mean()))
    close = [found for found in tried if _as_good(found[0], best)]
    return min(close, key=lambda found: found[1] * found[2] ** 2)[1:]


def _as_good(gains: Tensor, best: Tensor) -> bool:
    """Whether the mean of `gains` is within one standard error of the mean of `best`, on the same rows."""
    behind = best - gains
    return float(behind.mean()) <= float(behind.std()) / math.sqrt(len(behind))


def _held_out_gains(
    leading: list[Tensor], fold_of: Tensor, count: int, mixed: int, seed: int, tick: Callable[..., None]
) -> Tensor | None:
    """The gain of every held-out row; None if a mode would hold too few rows."""
    gains = []
    for f, w in enumerate(leading):
        others = w[fold_of != f, :mixed][:COARSE]
        if len(others) < 2 * count:
            return None
        mixture, _ = learn_modes(others, count, seed, tick=lambda: tick(0))
        if mixture.thin(len(others)):
            return None
        gains.append(_gain(mixture, w[fold_of == f, :mixed]))
        if sum(map(len, gains)) >= CHOICE_ROWS:
            break
    return torch.cat(gains)


def _check_modes(modes: int, n: int) -> None:
    most = min(MOST_MODES, n * (FOLDS - 1) // FOLDS // 2)
    if not 0 <= modes <= most:
        raise RarityError(
            f"Choose 1 to {most} modes for {n:,} samples, or 0 for the best by held-out samples; got {modes}."
        )
