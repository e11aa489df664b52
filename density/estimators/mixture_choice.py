"""Learning a mixture: how many modes and in how many directions by held-out likelihood, scores of unseen samples."""

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

# A mode's covariance has m^2 / 2 numbers to learn: with few samples several modes can be told apart in the leading 8
# scores only, with many in 32.
MIXED = (8, 32)
CHOSEN_FROM = (2, 4, 8, 16)
MOST_MODES = 64
CHOICES = len(MIXED) * len(CHOSEN_FROM)
STEPS = 4 * FOLDS + CHOICES + 1  # calls of `tick`: by the fits of four and of three fifths, and by the modes
CHOICE_ROWS = 2_000  # held-out rows that K and m are chosen by: the mean gain is known to a few hundredths of a nat


def learn_mixture(
    cross: CrossFit, components: int, modes: int, seed: int, tick: Callable[..., None] | None = None
) -> tuple[dict, float]:
    """Everything `MixtureDensity` holds but its space and source, by name; and the held-out log-likelihood.

    The Gaussian says where to look: its k, mean and axes. The rows of each fold are scored in the coordinates and by
    the modes of the others. EM has many ends; those of the folds start from who belongs to which mode of the whole, and
    learn all else anew from the other rows, so that they end beside it. Left to themselves they do not, and what
    they call 1 in 32 happened once in 45 times (on average; 2,000 samples of twelve kinds, four modes).

    Held-out scores are log densities measured from the final fit's bound, one constant for all folds, so that scores
    of different fits mean the same; those few above the bound count as 0. As the Gaussian's, they are taken by fits of
    three and of four fifths of the rows, from which `extrapolate` goes on to all.

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
    # The rows in the coordinates of every fit, in as many directions as are ever mixed.
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
        """Log density of every row under its fold's fit, which has not seen that fold and the next `left_out` - 1."""
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
    """How much more probable the mixture makes the mixed scores [N, m] than one standard normal does, [N] nats."""
    return mixture.log_peak + 0.5 * (w.square().sum(dim=1) - mixture.depth(w))


def _choose(leading: list[Tensor], fold_of: Tensor, modes: int, seed: int, tick: Callable[..., None]) -> tuple[int, int]:
    """(K, m) by the gain over one Gaussian on held-out rows; K is given, or 0 for the best.

    The smallest mixture is chosen whose mean gain is within one standard error of the highest (of the difference,
    row by row; Breiman et al., 1984, Classification and Regression Trees). The highest alone would often be
    a larger mixture that is better by nothing but chance, and another one on another processor.

    Folds are used until CHOICE_ROWS held-out rows have spoken, and modes are learnt from COARSE rows for them. Doubling
    K ends after two sizes in a row that did not help. `tick` is called CHOICES times, however many there were to try, and with
    0 in between.
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
    """The gain of every held-out row, or None where modes would hold too few rows."""
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
