"""The share that still is the subject over the strength of a variation, learnt from few yes-or-no answers at several strengths."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

# Half of what was the subject is lost at this strength, within this factor (one standard deviation of its logarithm).
HALF, WITHIN = 3.0, np.e
SLOPES = np.geomspace(0.75, 6.0, 10)
HALVES = np.geomspace(0.05, 200.0, 84)
BEFORE = np.linspace(0.025, 0.975, 39)  # shares that are the subject at strength 0


@dataclass(frozen=True, eq=False)
class Psychometric:
    """How probable curves r(s) are: the share that is inside at strength s, of the share at strength 0.

        p(inside at s) = p0 r(s),    r(s) = 1 / (1 + (s / h)^k)

    The posterior over p0, h and k by Bayes' rule, on a grid: the answers at each strength are binomial; beforehand log h is normal, and
    log k and p0 are uniform. Adaptive measurement of such curves: Watson & Pelli (1983), Kontsevich & Tyler (1999).

    Attributes
    ----------
    halves, slopes : h and k of each curve, [m].   weights : the probability of each curve, [m].
    """

    halves: np.ndarray
    slopes: np.ndarray
    weights: np.ndarray

    @classmethod
    def of(cls, answers: Sequence[tuple[float, int, int]]) -> Psychometric:
        """The posterior. answers : for each strength (strength, how many were inside, of how many)."""
        h, k, p0 = np.meshgrid(HALVES, SLOPES, BEFORE, indexing="ij")
        log = -0.5 * (np.log(h / HALF) / np.log(WITHIN)) ** 2
        for strength, yes, of in answers:
            p = p0 / (1 + (strength / h) ** k)
            log += yes * np.log(p) + (of - yes) * np.log1p(-p)
        weights = np.exp(log - log.max()).sum(axis=2)
        return cls(h[:, :, 0].ravel(), k[:, :, 0].ravel(), (weights / weights.sum()).ravel())

    def at_least(self, strength: float, probability: float) -> float:
        """The value that r at a strength reaches with this probability: 0.5 gives the median."""
        r = 1 / (1 + (strength / self.halves) ** self.slopes)
        order = np.argsort(-r, kind="stable")
        place = np.searchsorted(self.weights[order].cumsum(), probability)
        return float(r[order][min(place, len(r) - 1)])
