"""Turn a score into the units that people dial: bits, and "1 in N"."""

from __future__ import annotations

import math

import numpy as np
import torch
from torch import Tensor

from ..base.errors import RarityError
from ..base.tensors import here, ordinary
from .tail import fit_tail, reference, reference_nats, reference_score, tail_bits

MAX_ONE_IN = 10_000_000
MIN_SCORES = 50
TAIL_QUANTILE = 0.90  # the tail's model begins at this quantile of the held-out scores ...
MOST_EXCESSES = 500  # ... or at a higher one that so many scores exceed: what samples show by themselves needs no model
ROUNDING = 1e-9  # relative, of a score; thousands of float64 numbers summed in another order differ by less than 1e-12
# Scores from refits are not independent: each fit learns from the rows that the other fits score. Where the truth is
# known, calibrations on such scores have errors 1.1 times as large as on as many independent scores. So each score
# counts as this share of an independent one.
REFITTED = 0.8
Z90 = 1.6448536269514722  # two-sided 90 % of a normal


def bits_from_one_in(one_in: float) -> float:
    """Surprisal of an event that happens once in `one_in` times: log2(one_in); 1,024 is 10 bits.

    Raises
    ------
    RarityError : not a number, below 2 or above MAX_ONE_IN.
    """
    wrong = isinstance(one_in, bool) or not isinstance(one_in, (int, float)) or one_in != one_in
    if wrong or not 2 <= one_in <= MAX_ONE_IN:
        advice = (
            "Give a number, such as 1000."
            if wrong
            else "2 is every second picture, the least that can be asked for: choose a larger N."
            if one_in < 2
            else "Beyond that no number of samples one can draw says what the figure means: choose a smaller N."
        )
        raise RarityError(f'"1 in N" needs N from 2 to {MAX_ONE_IN:,}, got {one_in!r}. {advice}')
    return math.log2(one_in)


def one_in_from_bits(bits: float) -> float:
    """The inverse of `bits_from_one_in`: 2 ** bits, infinite where that is too large for a float."""
    return 2.0**bits if bits < 1024 else math.inf


class Calibration:
    """The tail probability of a score, learnt from held-out scores.

    Body:  p(s) = (1 + #{s_cal >= s}) / (n + 1).
    Tail:  a generalised Pareto distribution above u, continuous with the body. u is the 90th percentile, or a higher
    score that 500 scores exceed.

        p(s) = p_u (1 + xi (t(s) - t(u)) / beta)^(-1/xi),   xi >= 0,   bits = -log2 p
        t(s) = -log(1 - Phi((s^(1/3) - a) / b))

    t is measured in nats of a reference: the normal distribution of s^(1/3) that has the median and the 90th percentile
    of the scores. The cube root of a chi-squared is nearly normal (Wilson & Hilferty 1931), so for Gaussian samples t
    is exponential (xi = 0, beta = 1) in the whole tail and in every width. The scores s themselves are exponential only
    far beyond what samples show: with s in place of t and 768 dimensions, what is called 1 in 1,000 happens once in
    3,000 times.

    xi and beta maximise the likelihood of the excesses times a normal prior (0, 0.2) on xi. Coles (2001), chapter 4;
    Coles & Dixon (1999) for penalising the shape. A negative shape would end the tail at a finite score and give
    thousands of bits to the next score, so the shape is bounded at 0.

    Attributes
    ----------
    scores : [n] float64, held-out scores, ascending.
    threshold, tail_probability : u and p_u.   shape, scale : xi and beta.   reference : a and b.
    draws : [DRAWS, 3], (p_u, xi, beta) from their posterior, for `interval`.   worth : see `fit`.
    resolved_bits : log2(n + 1), the rarest event that n samples can show; a rarer figure is extrapolated.
    """

    def __init__(self, scores: Tensor, shape: float, scale: float, draws: Tensor, worth: float = 1.0):
        self.scores = ordinary(scores)
        self.shape, self.scale = float(shape), float(scale)
        self.draws, self.worth = ordinary(draws), float(worth)
        self.threshold = float(self.scores[_threshold_index(len(self.scores))])
        self.reference = reference(self.scores)
        self.tail_probability = float(self._body(torch.tensor(self.threshold, dtype=torch.float64)))
        self.resolved_bits = math.log2(len(self.scores) + 1)

    @classmethod
    def fit(cls, held_out_scores: Tensor, seed: int = 0, worth: float = REFITTED) -> Calibration:
        """Learn the calibration from scores of samples that the density was not fitted on.

        Parameters
        ----------
        held_out_scores : [n], n >= 50, finite, 0 or more.   seed : of the posterior draws, which `interval` uses.
        worth : how many independent scores each score counts as, above 0 and at most 1; only `interval` depends on it.

        Raises
        ------
        RarityError : too few scores, scores that are negative or not finite, or a tail without any spread.
        """
        scores = ordinary(held_out_scores).flatten()
        if len(scores) < MIN_SCORES:
            raise RarityError(
                f"A calibration needs at least {MIN_SCORES} held-out scores, got {len(scores)}. Draw more samples."
            )
        if not bool((scores >= 0).all() & torch.isfinite(scores).all()):
            raise RarityError(
                "Held-out scores must be finite and 0 or more, as distances are; got others. Drop embeddings that are not "
                "finite before the fit, and add to scores of your own what makes the least of them 0."
            )
        scores = scores.sort().values
        threshold = scores[_threshold_index(len(scores))]
        above = scores[scores > threshold]
        if len(above) < 3 or not (above - threshold).mean() > 1e-9 * scores[-1].abs():
            raise RarityError(
                "The held-out scores have no tail: their highest tenth are all the same. Expected samples that differ. "
                "Draw the baseline with more than one seed."
            )
        a, b = reference(scores)
        excesses = reference_nats(above, a, b) - reference_nats(threshold, a, b)
        shape, scale, draws = fit_tail(excesses, seed, worth)
        rng = np.random.default_rng(seed % 2**64)
        above = len(scores) - _threshold_index(len(scores))
        tail_probability = rng.beta(worth * above, worth * (len(scores) - above + 1), size=len(draws))
        return cls(scores, shape, scale, torch.column_stack([torch.from_numpy(tail_probability), draws]), worth)

    def deviations(self, score: Tensor | float) -> Tensor:
        """A score in standard deviations of the reference, z = (s^(1/3) - a) / b, float64, differentiable.

        The cube root is infinitely steep at 0; there and below it the slope is 0 instead.
        """
        a, b = self.reference
        return (here(score).clamp_min(1e-30).pow(1 / 3) - a) / b

    def bits(self, score: Tensor) -> Tensor:
        """Surprisal -log2 P(score or more), float64, the shape of `score`; never decreasing in it, NaN for NaN."""
        score = here(score)
        tail = tail_bits(self._excess(score), self.tail_probability, self.shape, self.scale)
        return torch.where(score <= self.threshold, 0.0 - self._body(score).log2(), tail)

    def score_at(self, bits: float) -> float:
        """The smallest score that is at least this rare: the inverse of `bits`.

        Raises
        ------
        RarityError : a number of bits that is negative or not finite.
        """
        if not 0 <= bits < math.inf:
            raise RarityError(f"Bits must be zero or more and finite, got {bits}.")
        nats = (bits + math.log2(self.tail_probability)) * math.log(2)
        if nats > 0:
            shape = max(self.shape, 1e-12)
            excess = self.scale * math.expm1(min(shape * nats, 300)) / shape  # more would overflow
            return max(self.threshold, reference_score(self._threshold_nats() + excess, *self.reference))
        # In the body: the score that p (n + 1) - 1 held-out scores reach. 1e-12 keeps rounding from losing one of them.
        n = len(self.scores)
        reached = min(n, math.floor(2.0**-bits * (n + 1) * (1 + 1e-12)) - 1)
        place = n - max(reached, 1)
        if place > 0 and self.scores[place - 1] == self.scores[place]:  # equal scores are all reached, or none of them
            place = min(int(torch.searchsorted(self.scores, self.scores[place], side="right")), n - 1)
        return float(self.scores[place])

    def interval(self, score: Tensor) -> tuple[Tensor, Tensor]:
        """90 % interval of the bits of a score, for the share of fresh samples that truly reaches this score.

        In the body it is the Wilson score interval of a proportion (Wilson 1927). In the tail it is the 5 % and 95 %
        quantiles over posterior draws of (p_u, xi, beta). The n scores count as `worth` n independent scores. The
        interval is about this density only; another density may find other points rare.

        Returns
        -------
        low, high : float64, the shape of `score`, with low <= bits(score) <= high.
        """
        score = here(score)
        bits, n = self.bits(score), self.worth * len(self.scores)
        p = self._body(score)
        centre, spread = p + Z90**2 / (2 * n), Z90 * (p * (1 - p) / n + Z90**2 / (4 * n**2)).sqrt()
        body = [-((centre + sign * spread) / (1 + Z90**2 / n)).log2() for sign in (1, -1)]
        p_u, shape, scale = self.draws.T
        draws = tail_bits(self._excess(score)[..., None], p_u, shape, scale)
        tail = torch.quantile(draws, torch.tensor([0.05, 0.95], dtype=torch.float64), dim=-1)
        in_body = score <= self.threshold
        low, high = (torch.where(in_body, b, t) for t, b in zip(tail, body, strict=True))
        return torch.minimum(low, bits).clamp_min(0), torch.maximum(high, bits)

    def extrapolated(self, bits: float) -> bool:
        """Whether `bits` is rarer than the held-out samples can show by themselves."""
        return bits > self.resolved_bits

    def state(self) -> dict[str, Tensor]:
        """Tensors from which `from_state` makes the same calibration, bit for bit."""
        tail = torch.tensor([self.shape, self.scale, self.worth], dtype=torch.float64)
        return {"calibration_scores": self.scores, "calibration_tail": tail, "calibration_draws": self.draws}

    @classmethod
    def from_state(cls, state: dict[str, Tensor]) -> Calibration:
        """The inverse of `state`. Everything is checked, because a file may hold anything.

        Raises
        ------
        RarityError : shapes, order or ranges that no fit produces.
        """
        scores, tail, draws = (state[f"calibration_{name}"] for name in ("scores", "tail", "draws"))
        sound = (
            scores.dim() == 1
            and len(scores) >= MIN_SCORES
            and bool((scores.diff() >= 0).all())
            and bool(scores[0] >= 0)
            and tail.shape in ((2,), (3,))  # files of an earlier version have no worth
            and bool(tail[0] >= 0)
            and bool(tail[0] <= 5)
            and bool(tail[1] > 0)
            and bool(((tail[2:] > 0) & (tail[2:] <= 1)).all())
            and draws.dim() == 2
            and draws.shape[1] == 3
            and 1 <= len(draws) <= 100_000
            and bool((draws[:, 0] > 0).all())
            and bool((draws[:, 0] <= 1).all())
            and bool((draws[:, 1] >= 0).all())
            and bool((draws[:, 2] > 0).all())
        )
        if not sound:
            raise RarityError("The calibration in this file is damaged. Learn the density again and save it.")
        return cls(scores, float(tail[0]), float(tail[1]), draws, *tail[2:].tolist())

    def _excess(self, score: Tensor) -> Tensor:
        """t(s) - t(u), 0 below the threshold."""
        return reference_nats(score.clamp_min(self.threshold), *self.reference) - self._threshold_nats()

    def _threshold_nats(self) -> float:
        return float(reference_nats(torch.tensor(self.threshold, dtype=torch.float64), *self.reference))

    def _body(self, score: Tensor) -> Tensor:
        n = len(self.scores)
        # ROUNDING: a sample that is scored again, among other rows or on another processor, must still reach its own
        # score.
        reached = n - torch.searchsorted(self.scores, (score * (1 - ROUNDING)).contiguous(), side="left")
        return (1 + reached.double()) / (n + 1)


def _threshold_index(n: int) -> int:
    return max(math.ceil(TAIL_QUANTILE * n), n - MOST_EXCESSES) - 1
