"""What a viewer expects after the pictures they have seen, and how rare a picture is against that."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

from ..base.progress import in_parts
from ..base.tensors import plain
from ..calibration.surprisal import Calibration
from ..estimators.gaussian import GaussianDensity
from .exposure import ExposureMemory

CAUTION = 3.0  # standard deviations that chance alone hardly ever takes
PAIRS = 1024  # pictures seen whose inner products say how far chance goes
ROWS = 5000  # samples of the density that say how rare a score about the belief is


class Belief:
    """A viewer expects what is usual, moved towards what they have seen as far as that agrees with itself.

    With the pictures seen in whitened coordinates w_i = Sigma^-1/2 (x_i - mu) of the density's Gaussian frame, their
    weights u_i, and their weighted mean m:

        a   = sum_{i != j} u_i u_j w_i'w_j / sum_{i != j} u_i u_j
        s^2 = 2 mean_{i != j} (w_i'w_j)^2 sum_{i != j} u_i^2 u_j^2 / (sum_{i != j} u_i u_j)^2
        expected = mu + c (m - mu),    c = (a - CAUTION s) / |Sigma^-1/2 (m - mu)|^2,    0 <= c <= 1

    a is an unbiased estimate of |E w|^2, and 0 for ordinary pictures, whose mean wanders by chance alone; s is how far
    chance takes a. So c is a shrinkage towards mu whose strength is known from the pictures seen (James & Stein 1961;
    the positive part as in Efron & Morris 1973). Ordinary pictures move nothing, however few they are; pictures of one
    kind move the belief to that kind.

    Parameters
    ----------
    density : what is usual.   memory : what was seen, of its space; may be empty.
    tick : called several times a second, and may raise.

    Attributes
    ----------
    share : c.   shift : [d] float64, what the expected picture differs by from the density's mean.

    Raises
    ------
    RarityError : different spaces.
    """

    def __init__(self, density: GaussianDensity, memory: ExposureMemory, tick: Callable[[], None] | None = None):
        density.space.require_same(memory.space, "memory")
        self._density, self._tick = density, tick
        self.share, self.shift = 0.0, torch.zeros_like(density.mean)
        if len(memory) > 1:
            with plain():
                self._learn(memory)

    def bits(self, bits: Tensor, x: Tensor) -> Tensor:
        """How rare pictures are about the belief, [N] bits, from how rare they are about the density's own mean.

        The belief tilts the density: log p falls by Delta / 2 with Delta(x) = D2(x - shift) - D2(x). The score of x is
        the D2 that is as rare as x, plus Delta, and the same sum over the density's samples says how rare that is. So
        of fresh ordinary pictures, what is called 1 in N happens once in N about any belief.

        Parameters
        ----------
        bits : [N], calibrated.   x : [N, d], the pictures.
        """
        if self.share == 0:
            return bits
        frame = self._density.frame_calibration
        moved = self._tilt(x) + torch.tensor([frame.score_at(one) for one in bits.tolist()], dtype=torch.float64)
        return self._calibration(frame).bits(moved.clamp_min(0))

    def _learn(self, memory: ExposureMemory) -> None:
        density, u = self._density, memory.weights
        pairs = u.sum().square() - u.square().sum()
        mean = (u @ memory.vectors.double()) / u.sum()
        length = float(self._squares(mean[None]))
        own = in_parts(self._squares, memory.vectors, self._tick)
        agreement = (u.sum().square() * length - (u.square() * own).sum()) / pairs
        some = torch.linspace(0, len(memory) - 1, min(PAIRS, len(memory))).round().long()
        w, r = density.whiten(memory.vectors[some])
        products = (w @ w.T + r @ r.T / density.residual_variance).fill_diagonal_(0)
        squares = products.square().sum() / (len(some) * (len(some) - 1))
        chance = (2 * squares * (u.square().sum().square() - u.pow(4).sum())).sqrt() / pairs
        self.share = float(((agreement - CAUTION * chance) / max(length, 1e-300)).clamp(0, 1))
        self.shift = self.share * (mean - density.mean)

    def _calibration(self, frame: Calibration) -> Calibration:
        """Bits of a score about the belief, from the density's own samples: each has the score of its rank, and its tilt."""
        rows = self._density.statistics.rows[:ROWS]
        rank = in_parts(self._density.score, rows, self._tick).argsort().argsort()
        usual = frame.scores[((rank + 0.5) / len(rows) * len(frame.scores)).long()]
        return Calibration.fit((usual + self._tilt(rows)).clamp_min(0))

    def _tilt(self, x: Tensor) -> Tensor:
        return in_parts(lambda part: self._squares(part.double() - self.shift) - self._squares(part), x, self._tick)

    def _squares(self, x: Tensor) -> Tensor:
        """D2 in the Gaussian frame, [N], also where the density's own score is another."""
        return GaussianDensity.score(self._density, x)
