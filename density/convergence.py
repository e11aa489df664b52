"""When are there enough samples? When twice as many would say the same."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass

import torch
from torch import Tensor

from .calibration import bits_from_one_in
from .embeddings import Embeddings
from .errors import RarityError
from .gaussian import GaussianDensity
from .spaces import EmbeddingSpace
from .statistics import Statistics

PROBE = 200  # rows that no fit sees: log p is compared on them, and the shells below are drawn through them
RARITIES = (100, 1000)  # "1 in N" whose meaning must have settled


@dataclass(frozen=True)
class Doubling:
    """How far the density moved from `count` / 2 samples to `count`.

    nats : mean |log p - log p'| / d over the probe rows.
    bits : mean |bits - bits'| of points that the earlier density calls 1 in 100, and 1 in 1,000; the larger of both.
    """

    count: int
    nats: float
    bits: float


class Convergence:
    """Watches samples go by, learns from 1,000, 2,000, 4,000, ... of them, and says when that changes nothing.

    Enough is when from one learning to the next both moves of `Doubling` stay within their tolerance. Errors shrink
    like c / sqrt(N), for either half of the samples on its own: the move from N / 2 to N is about the error N leaves.
    Measured in 64 dimensions (Gaussian, Student-t, six modes): log p moves by 0.8 to 1.2 times its error. The default
    tolerances stop there at 8,000 or 16,000 samples, with "1 in 1,000" off by 0.3 to 0.8 bits on average.

    Parameters
    ----------
    space : of the samples.
    estimator : of the density that is meant to be learnt, as in `GaussianDensity.fit`.
    nats, bits : the tolerances.
    first : how many samples before the first learning.

    Attributes
    ----------
    count : samples taken in.   enough : whether they are.   doublings : what was compared so far.
    """

    def __init__(
        self,
        space: EmbeddingSpace,
        *,
        estimator: str = "ppca",
        nats: float = 0.01,
        bits: float = 0.5,
        first: int = 1000,
    ):
        if not (nats > 0 and bits > 0):
            raise RarityError(f"The tolerances must be positive, got {nats} nats and {bits} bits.")
        if first < 2 * PROBE:
            raise RarityError(f"The first learning needs at least {2 * PROBE} samples, got {first}.")
        self.space, self.estimator, self.nats, self.bits = space, estimator, nats, bits
        self.count, self.enough = 0, False
        self.doublings: list[Doubling] = []
        self._next = first
        self._probe = torch.empty(0, space.width)
        self._statistics = Statistics(space.width)
        self._density: GaussianDensity | None = None

    def update(self, batch: Embeddings) -> int:
        """Take in samples until they are enough; returns how many rows of the batch that were.

        Learning happens at the same samples whatever the size of the batches.

        Raises
        ------
        RarityError : a batch of another space, or samples that no density can be learnt from.
        """
        self.space.require_same(batch.space, "samples to watch")
        taken = 0
        while taken < len(batch) and not self.enough:
            rows = batch.vectors[taken : taken + self._next - self.count]
            self._take(rows)
            taken += len(rows)
            if self.count == self._next:
                self._compare()
                self._next *= 2
        return taken

    def report(self) -> str:
        """What was compared, in words."""
        lines = [
            f"From {one.count // 2:,} to {one.count:,} samples, 1 in 100 and 1 in 1,000 moved by {one.bits:.2f} bits, "
            f"log p by {one.nats:.3f} a dimension."
            for one in self.doublings
        ]
        asked = f"{self.bits:g} bits and {self.nats:g} a dimension"
        if self.enough:
            return "\n".join([*lines, f"{self.count:,} samples are enough: both within {asked}."])
        lines.append(f"{self.count:,} samples are not known to be enough: that takes moves within {asked}.")
        return "\n".join(lines)

    def _take(self, rows: Tensor) -> None:
        self.count += len(rows)
        missing = PROBE - len(self._probe)  # the first rows of all, however they are cut into batches
        self._probe = torch.cat([self._probe, rows[:missing]])
        if len(rows) > missing:
            self._statistics.update(rows[missing:])

    def _compare(self) -> None:
        density = GaussianDensity.from_statistics(self._statistics, self.space, source={}, estimator=self.estimator)
        if self._density is not None:
            nats = (density.log_prob(self._probe) - self._density.log_prob(self._probe)).abs().mean() / self.space.width
            bits = max(self._moved(density, bits_from_one_in(one_in)) for one_in in RARITIES)
            self.doublings.append(Doubling(self.count, float(nats), bits))
            self.enough = bool(nats <= self.nats) and bits <= self.bits
        self._density = density

    def _moved(self, density: GaussianDensity, bits: float) -> float:
        """Mean |bits' - bits| where rays through the probe meet the earlier density's shell of that rarity."""
        before = self._density
        w, r = before.whiten(self._probe)
        reach = (before.score_at(bits) / before.score(self._probe)).sqrt()[:, None]  # the score is quadratic
        return float((density.bits(before.unwhiten(reach * w, reach * r)) - bits).abs().mean())


def until_enough(batches: Iterable[Embeddings], convergence: Convergence) -> Iterator[Embeddings]:
    """Pass batches on until `convergence` has seen enough; the last one is cut there.

    Parameters
    ----------
    batches : samples of one space, such as `Prior.sample_batches` draws them; no more are asked for than needed.
    convergence : watches them, and knows afterwards how many it took.
    """
    for batch in batches:
        taken = convergence.update(batch)
        yield batch if taken == len(batch) else batch.select(range(taken))
        if convergence.enough:
            return
