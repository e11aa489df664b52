"""A density without an assumed shape: its score is the distance to the nearest samples."""

from __future__ import annotations

import math
from collections.abc import Callable
from functools import cached_property

import torch
from torch import Tensor

from ..base.embeddings import Embeddings
from ..base.errors import RarityError
from ..base.keys import FOLDS
from ..base.progress import Progress, in_parts, steps
from ..base.spaces import EmbeddingSpace
from ..base.tensors import generator, plain
from ..calibration.surprisal import Calibration
from ..statistics.sufficient_statistics import Statistics
from .contract import Density
from .cross_fit import fit_statistics
from .nearest import nearest

# k. The volume that holds k neighbours scatters by 1 / sqrt(k), which is a third for ten. With many more neighbours a rare
# kind of sample would have too few of its own kind, and would never count as usual.
NEIGHBOURS = 10
BLOCK = 1024  # rows scored between two calls of `progress`


class NeighbourDensity(Density):
    """The density at a point follows from the smallest ball around it that holds its k nearest samples.

        score(e) = r_k(e), the distance to the k-th nearest of the n rows kept, in units of the embedding
        log p(e) = log k - log n - log V_d - d log r_k(e),    V_d = pi^(d/2) / Gamma(d/2 + 1)

    Loftsgaarden & Quesenberry (1965). This density follows samples that lie on a bent sheet or are of many kinds, where
    every Gaussian is wrong. It says nothing about the space between the samples. It is not normalised: r_k grows like
    |e|, so p falls like |e|^-d, and its integral diverges. Its values can be compared with each other, and not with
    those of another density.

    The calibration scores each row against all other rows. This is a held-out score without folds: a row is compared
    with n - 1 samples, and a new picture with n.

    Attributes
    ----------
    All of `Density`, with the rows in `statistics.rows`, and neighbours : k.
    """

    estimators = ("neighbours",)
    has_shell = False  # the points at one distance from their nearest sample form a surface with edges
    has_own_calibration = False  # a sample's distance to itself says nothing

    def __init__(self, *, neighbours: int, **fields):
        super().__init__(**fields)
        self.neighbours = int(neighbours)

    @classmethod
    def from_statistics(
        cls,
        statistics: Statistics,
        space: EmbeddingSpace,
        *,
        source: dict | None = None,
        components: int = 0,
        seed: int = 0,
        progress: Progress | None = None,
    ) -> NeighbourDensity:
        """The density of the rows that `statistics` keeps. Its frame is that of all rows seen.

        Parameters
        ----------
        components : k of the frame.   seed : of the calibration's draws.   The others : as for `GaussianDensity`.

        Raises
        ------
        RarityError : as `GaussianDensity.from_statistics`.
        """
        first, blocks = 2 * FOLDS, len(statistics.rows.split(BLOCK))
        part = progress and (lambda done, _: progress(done, first + blocks))
        fields = fit_statistics(statistics, "ppca", int(components), int(seed), part)
        tick = steps(progress and (lambda done, _: progress(first + done, first + blocks)), blocks)
        with plain():
            calibration = Calibration.fit(_left_out(fields["statistics"].rows, tick), seed)
        fields |= {"estimator": "neighbours", "calibration": calibration}
        return cls(neighbours=NEIGHBOURS, space=space, source=source, **fields)

    @cached_property
    def frame_calibration(self) -> Calibration:
        """Bits of the frame's D2, calibrated on the samples. The density's own score is a distance and no D2."""
        with plain():
            return Calibration.fit(in_parts(self.frame.d2, self.statistics.rows))

    def score(self, x: Tensor) -> Tensor:
        """Distance to the k-th nearest row kept, [N] float64, differentiable.

        The gradient is the unit vector that points away from that row; at the row itself it is 0. A row that was learnt
        from is its own nearest neighbour, so its score is lower than that of a new picture at the same place.
        """
        x = self.frame.rows(x)
        rows = self.statistics.rows
        index = nearest(x, rows, self.neighbours)[1][:, -1]
        return torch.linalg.vector_norm(x - rows[index].double(), dim=1)

    def log_prob(self, x: Tensor) -> Tensor:
        """Log density in nats, [N]. It is not normalised (see the class)."""
        return self._log_ball() - self.space.width * self.score(x).log()

    def sample(self, count: int, seed: int = 0) -> Embeddings:
        """Rows drawn at random, each moved in a random direction.

        A row with neighbours at the distances r_1 ... r_k moves by about h = sqrt(r_k^2 - r_(k-1)^2). In many dimensions
        a random move is at right angles to the direction of every neighbour, so it ends at the distance
        sqrt(r_j^2 + h^2) from neighbour j. The row itself is now a neighbour, too, so the k-th neighbour is again at the
        distance r_k. After a longer move all draws would be rare.
        """
        g = generator(seed)
        rows, width = self.statistics.rows, self.space.width
        start = rows[torch.randint(len(rows), (count,), generator=g)]
        radii = nearest(start, rows, self.neighbours + 1)[0].square()  # the first is the row itself, at 0
        noise = torch.randn(count, width, generator=g, dtype=torch.float64)
        move = ((radii[:, -1] - radii[:, -2]) / width).sqrt()[:, None] * noise
        return self._drawn(start.double() + move, seed)

    def _shape_in_words(self) -> tuple[str, ...]:
        nearest_rows = f"the {self.neighbours} nearest of {len(self.statistics.rows):,} samples"
        rarity = f"Rarity is the distance within which {nearest_rows} lie; no shape is assumed."
        return self.frame.describe(self.estimator), rarity

    def state(self) -> tuple[dict, dict[str, Tensor]]:
        """JSON values and tensors that `from_state` makes the same density of."""
        fields, tensors = super().state()
        return {**fields, "neighbours": self.neighbours}, tensors

    @classmethod
    def from_state(cls, fields: dict, tensors: dict[str, Tensor]) -> NeighbourDensity:
        """The inverse of `state`, checked: a file may hold anything.

        Raises
        ------
        RarityError : as `unpack`; a number of neighbours that the rows do not have.
        """
        base = cls.unpack(fields, tensors)
        k = fields.get("neighbours")
        sound = (
            type(k) is int
            # With one neighbour a row's own density would be infinite.
            and 2 <= k < len(base["statistics"].rows) == len(base["calibration"].scores)
        )
        if not sound:
            raise RarityError("The neighbours in this file are damaged. Learn the density again and save it.")
        return cls(neighbours=k, **base)

    def _how_far(self, bits: float) -> str:
        ratio = self.score_at(bits) / max(self.score_at(1.0), 1e-300)
        return f", {ratio:.1f} times as far from them as the typical sample"

    def _log_ball(self) -> float:
        """log p at distance 1: log k - log n - log V_d."""
        d, n = self.space.width, len(self.statistics.rows)
        return math.log(self.neighbours / n) - 0.5 * d * math.log(math.pi) + math.lgamma(0.5 * d + 1)


def _left_out(rows: Tensor, tick: Callable[[], None]) -> Tensor:
    """The distance of each row to the k-th nearest other row, [n]. A row's nearest row is itself, at distance 0."""
    radii = []
    for block in rows.split(BLOCK):
        radii.append(nearest(block, rows, NEIGHBOURS + 1)[0][:, -1])
        tick()
    return torch.cat(radii)
