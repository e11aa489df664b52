"""A loss for learning a concept: how far a network's outputs are from the wanted rarity."""

from __future__ import annotations

import math

from torch import Tensor

from ..base.errors import RarityError
from ..estimators.contract import Density

# Share of the band that costs nothing: results come to rest inside the band, not at its edge.
QUIET = 0.5


class BandLoss:
    """A loss that is zero in a band of rarity, and points back into it from both sides.

    The logarithm of a density has no lowest value: minimising it drives embeddings outwards without end. This loss is
    measured in z, the calibration's own unit, in which the held-out scores s of usual samples are nearly standard
    normal:

        z = (s^(1/3) - a) / b,    loss = 1/2 ((low - z)+ + (z - high)+)^2

    low and high are the z of the wanted bits minus and plus half of the band's half width. Outside of them the slope of
    the loss in z is the distance in standard deviations. The loss and its slope are continuous; the loss is
    differentiable in the score. For the cube root: Wilson & Hilferty (1931).

    Parameters
    ----------
    density : what is usual.   bits : the wanted rarity.   half_width : half the width of the band, in bits.

    Raises
    ------
    RarityError : bits that are negative or not finite; a half width that is not above 0 and finite.
    """

    def __init__(self, density: Density, bits: float, half_width: float = 1.0):
        if not 0 < half_width < math.inf:
            raise RarityError(f"A band's half width must be above 0 bits and finite, got {half_width}.")
        self.density = density
        quiet = QUIET * half_width
        edges = (density.score_at(max(0.0, bits - quiet)), density.score_at(bits + quiet))
        self.low, self.high = (float(density.calibration.deviations(edge)) for edge in edges)

    def of_score(self, score: Tensor) -> Tensor:
        """The loss of scores, [the shape of score] float64."""
        z = self.density.calibration.deviations(score)
        return ((self.low - z).clamp_min(0) + (z - self.high).clamp_min(0)).square() / 2

    def __call__(self, x: Tensor) -> Tensor:
        """The loss of embeddings [N, d], [N] float64."""
        return self.of_score(self.density.score(x))


def log_gaussian(density: Density, x: Tensor) -> Tensor:
    """The published objective: log G of the k leading scores, in nats, [N]. It has no lowest value.

        log G = -1/2 (k log 2 pi + sum_i log lambda_i + T2)

    It ignores everything outside of the k directions. Song & Elgammal (2026), section 3.
    """
    frame = density.frame
    return -0.5 * (frame.components * math.log(2 * math.pi) + float(frame.variances.log().sum()) + frame.t2(x))
