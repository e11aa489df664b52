"""What a viewer expects after the pictures they have seen, and how rare a picture is for this viewer."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

from ..base.progress import in_parts
from ..base.tensors import plain
from ..calibration.surprisal import Calibration
from ..estimators.contract import Density
from .exposure import ExposureMemory

CAUTION = 3.0  # chance alone hardly ever goes this many standard deviations
PAIRS = 1024  # pictures seen whose inner products show how far chance goes
ROWS = 5000  # samples of the density that calibrate the scores about the belief


class Belief:
    """What a viewer expects: the usual, moved towards the pictures seen as far as these agree with each other.

    w_i = Sigma^-1/2 (x_i - mu) are the pictures seen, whitened by the density's Gaussian frame; u_i are their weights,
    and m is the weighted mean of the x_i.

        a   = sum_{i != j} u_i u_j w_i'w_j / sum_{i != j} u_i u_j
        s^2 = 2 mean_{i != j} (w_i'w_j)^2 sum_{i != j} u_i^2 u_j^2 / (sum_{i != j} u_i u_j)^2
        expected = mu + c (m - mu),    c = (a - CAUTION s) / |Sigma^-1/2 (m - mu)|^2,    0 <= c <= 1

    a is an unbiased estimate of |E w|^2. For ordinary pictures it is 0 on average, because their mean differs from mu
    by chance alone. s is the standard deviation of a by chance. So c is a shrinkage towards mu, whose strength is
    learnt from the pictures seen (James & Stein 1961; the positive part as in Efron & Morris 1973). Ordinary pictures
    do not move the belief, however few they are. Pictures of one kind move it to that kind.

    Parameters
    ----------
    density : what is usual.   memory : what was seen, in the density's space; may be empty.
    tick : called several times a second, and may raise.

    Attributes
    ----------
    share : c.   shift : [d] float64, the expected picture minus the density's mean.

    Raises
    ------
    RarityError : different spaces.
    """

    def __init__(self, density: Density, memory: ExposureMemory, tick: Callable[[], None] | None = None):
        density.space.require_same(memory.space, "memory")
        self._density, self._tick = density, tick
        self.share, self.shift = 0.0, torch.zeros_like(density.frame.mean)
        if len(memory) > 1:
            with plain():
                self._learn(memory)

    def bits(self, bits: Tensor, x: Tensor) -> Tensor:
        """How rare pictures are about the belief, [N] bits, from how rare they are about the density's own mean.

        The belief tilts the density: log p falls by Delta / 2 with Delta(x) = D2(x - shift) - D2(x). The score of x is
        Delta(x) plus the D2 that is as rare as x. The same sum is computed for the density's samples and calibrates the
        score. So with any belief, one in N fresh ordinary pictures is called 1 in N.

        Parameters
        ----------
        bits : [N], calibrated bits about the density's own mean.   x : [N, d], the pictures.
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
        w, r = density.frame.whiten(memory.vectors[some])
        products = (w @ w.T + r @ r.T / density.frame.residual_variance).fill_diagonal_(0)
        squares = products.square().sum() / (len(some) * (len(some) - 1))
        chance = (2 * squares * (u.square().sum().square() - u.pow(4).sum())).sqrt() / pairs
        self.share = float(((agreement - CAUTION * chance) / max(length, 1e-300)).clamp(0, 1))
        self.shift = self.share * (mean - density.frame.mean)

    def _calibration(self, frame: Calibration) -> Calibration:
        """Calibrate scores about the belief: each of the density's samples scores what its rank does, plus Delta."""
        rows = self._density.statistics.rows[:ROWS]
        rank = in_parts(self._density.score, rows, self._tick).argsort().argsort()
        usual = frame.scores[((rank + 0.5) / len(rows) * len(frame.scores)).long()]
        return Calibration.fit((usual + self._tilt(rows)).clamp_min(0))

    def _tilt(self, x: Tensor) -> Tensor:
        return in_parts(lambda part: self._squares(part.double() - self.shift) - self._squares(part), x, self._tick)

    def _squares(self, x: Tensor) -> Tensor:
        """D2 in the Gaussian frame, [N], even if the density's own score is another one."""
        return self._density.frame.d2(x)
