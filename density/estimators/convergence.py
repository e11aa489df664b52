"""Samples are enough when twice as many would give nearly the same density."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass

import torch
from torch import Tensor

from ..base.embeddings import Embeddings
from ..base.errors import RarityError
from ..base.spaces import EmbeddingSpace
from ..calibration.surprisal import bits_from_one_in, one_in_from_bits
from ..statistics.sufficient_statistics import Statistics
from .gaussian import GaussianDensity

PROBE = 200  # rows that no fit sees: log p is compared on them, and rays through them lead to the shells below
RARITIES = (100, 1000)  # the meaning of "1 in N" must have settled for these N


@dataclass(frozen=True)
class Doubling:
    """How far the density moved from `count` / 2 samples to `count`.

    nats : mean |log p - log p'| / d over the probe rows.
    bits : mean |bits - bits'| of points that the earlier density calls 1 in 100, and of points that it calls 1 in 1,000;
        the larger of the two means.
    """

    count: int
    nats: float
    bits: float


class Convergence:
    """Learns a density from 1,000, 2,000, 4,000 ... samples, and says when twice as many change hardly anything.

    The samples are enough if both numbers of `Doubling` stay within their tolerance from one learning to the next.
    Errors shrink like c / sqrt(N), and the two halves of N samples err independently. So the move from N / 2 to N
    samples is about as large as the error that N samples leave. Measured in 64 dimensions (Gaussian, Student-t, six
    modes), log p moves by 0.8 to 1.2 times its error. There the default tolerances stop at 8,000 or 16,000 samples,
    with "1 in 1,000" off by 0.3 to 0.8 bits on average.

    Both tolerances are needed. For normal samples in 64 dimensions or more the bits settle last. For samples of the
    miniature log p settles last: the bits alone would stop at 2,000 to 8,000 samples, where their move is small by
    chance. There "1 in 1,000" is off by 0.2 to 1.2 bits, and steered results by 0.5 to 0.9 bits. With both tolerances
    it stops at 8,000 or 16,000 samples, where these errors are 0.2 to 0.4 bits and below 0.1 bits.

    Parameters
    ----------
    space : of the samples.
    estimator : of the density that is to be learnt, as in `GaussianDensity.from_statistics`.
    nats, bits : the tolerances.
    first : how many samples before the first learning.

    Attributes
    ----------
    count : samples taken in.   enough : whether they are enough.   doublings : the comparisons so far.
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
        """Take in samples until they are enough, and return how many rows of the batch were taken.

        The density is learnt at the same numbers of samples, however large the batches are.

        Raises
        ------
        RarityError : a batch of another space, or samples that no density can be learnt from.
        """
        self.space.require_same(batch.space, "samples to watch")
        taken = 0
        while taken < len(batch) and not self.enough:
            part = slice(taken, taken + self._next - self.count)
            self._take(batch.vectors[part], batch.keys[part])
            taken += len(batch.vectors[part])
            if self.count == self._next:
                self._compare()
                self._next *= 2
        return taken

    def report(self) -> str:
        """Two sentences for the person who draws the samples, and then the figures."""
        figures = [
            f"From {one.count // 2:,} to {one.count:,} samples 1 in 100 and 1 in 1,000 moved by {one.bits:.2f} bits, "
            f"log p by {one.nats:.3f} a dimension."
            for one in self.doublings
        ]
        asked = f"Enough is a move within {self.bits:g} bits and {self.nats:g} a dimension."
        return "\n".join([self._verdict(), *figures, asked])

    def _verdict(self) -> str:
        if self.enough:
            return (
                f"{self.count:,} samples are enough: twice as many would hardly change what is usual. "
                f"What half of them called 1 in 1,000 is still {self._now()}."
            )
        unknown = f"{self.count:,} samples are not known to be enough: "
        if not self.doublings:
            needed = 2 * self._next if self._density is None else self._next
            return f"{unknown}there is nothing to compare before {needed:,}. Raise count to find out."
        last = self.doublings[-1]
        if last.bits > self.bits:
            moved = f"what {last.count // 2:,} of them called 1 in 1,000 is {self._now()} after {last.count:,}"
        else:
            half, full = f"{last.count // 2:,}", f"{last.count:,}"
            moved = f"from {half} to {full} of them 1 in 1,000 hardly moved, but how usual single samples are did"
        return f"{unknown}{moved}. Raise count to {self._next:,} to go on."

    def _now(self) -> str:
        """What "1 in 1,000" means one doubling later: it moved by so many bits on average, up or down."""
        moved = self.doublings[-1].bits
        plainer, rarer = (one_in_from_bits(max(0.0, bits_from_one_in(1000) + sign * moved)) for sign in (-1, 1))
        return f"1 in {float(f'{plainer:.2g}'):,.0f} to 1 in {float(f'{rarer:.2g}'):,.0f}"

    def _take(self, rows: Tensor, keys: Tensor) -> None:
        self.count += len(rows)
        missing = PROBE - len(self._probe)  # the probe is always the first rows, however the batches are cut
        self._probe = torch.cat([self._probe, rows[:missing]])
        if len(rows) > missing:
            self._statistics.update(rows[missing:], keys[missing:])

    def _compare(self) -> None:
        density = GaussianDensity.from_statistics(self._statistics, self.space, source={}, estimator=self.estimator)
        if self._density is not None:
            nats = (density.log_prob(self._probe) - self._density.log_prob(self._probe)).abs().mean() / self.space.width
            bits = max(self._moved(density, bits_from_one_in(one_in)) for one_in in RARITIES)
            self.doublings.append(Doubling(self.count, float(nats), bits))
            self.enough = bool(nats <= self.nats) and bits <= self.bits
        self._density = density

    def _moved(self, density: GaussianDensity, bits: float) -> float:
        """Mean |bits' - bits| of the points where rays through the probe rows meet the earlier density's shell."""
        before = self._density
        w, r = before.frame.whiten(self._probe)
        reach = (before.score_at(bits) / before.score(self._probe)).sqrt()[:, None]  # the score is quadratic
        return float((density.bits(before.frame.unwhiten(reach * w, reach * r)) - bits).abs().mean())


def until_enough(batches: Iterable[Embeddings], convergence: Convergence) -> Iterator[Embeddings]:
    """Pass batches on until `convergence` has seen enough. The last batch is cut there, and no further one is drawn.

    Parameters
    ----------
    batches : samples of one space, such as `Prior.sample_batches` draws them.
    convergence : watches the batches. Its `count` afterwards is the number of samples that were passed on.
    """
    for batch in batches:
        taken = convergence.update(batch)
        yield batch if taken == len(batch) else batch.select(range(taken))
        if convergence.enough:
            return
