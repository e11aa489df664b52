"""Whether a picture copies another: its nearest reference items, and the probability that it copies each of them."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn.functional import normalize

from ..base.embeddings import Embeddings
from ..base.errors import RarityError
from ..base.framing import partly_seen
from ..base.keys import member
from ..base.progress import Progress, waiting
from ..base.tensors import generator
from ..estimators.nearest import nearest
from .separation import elsewhere, separation

COPY_RANGE = (1e-3, 0.2)  # a copy's distance, as a share of the typical distance between unrelated pictures
FEWEST = 20  # fewest unrelated pictures from which the usual separation is learnt
MEASURED = 2000  # most unrelated pictures that are measured
NEAR = 8  # an item's twins are searched among so many of its neighbours
GAP = 3.0  # any other neighbour is more than so many times as far away as a twin


@dataclass(frozen=True, eq=False)
class Originality:
    """For N pictures: indices [N, k] of the nearest reference items, distances [N, k] and copy_probability [N, k].

    `notes` are what the user should know, in sentences.
    """

    indices: Tensor
    distances: Tensor
    copy_probability: Tensor
    notes: tuple[str, ...] = ()

    def rows(self) -> list[list[dict]]:
        """For each picture a list, nearest first, of dictionaries {index, distance, copy_probability}."""
        columns = (self.indices.tolist(), self.distances.tolist(), self.copy_probability.tolist())
        keys = ("index", "distance", "copy_probability")
        return [
            [dict(zip(keys, one, strict=True)) for one in zip(*row, strict=True)] for row in zip(*columns, strict=True)
        ]


def originality(
    items: Embeddings,
    reference: Embeddings,
    k: int = 3,
    *,
    unrelated: Embeddings | None = None,
    progress: Progress | None = None,
) -> Originality:
    """The nearest reference items of every picture, and how probable it is that each was copied.

    The probability compares two explanations of the separation t = d min(1, d / b)^64, which are equally likely
    beforehand: the picture is unrelated, or it is a copy. d is the distance to the reference item, b the distance to
    the nearest unrelated picture (`separation`). Unrelated pictures show the t of the first explanation. For the
    second, copies are made: reference items moved in random directions, by distances that are even on a logarithmic
    scale over COPY_RANGE, in units of the median d of unrelated pictures. A logistic curve is fitted to both (Platt
    1999):

        P(copy | t) = 1 / (1 + exp(a + b log t)),    b >= 0

    An exact copy has a probability of 1. A farther reference item never has a higher probability than a nearer one.

    Parameters
    ----------
    items : N pictures.   reference : R pictures that they may copy.   k : nearest items for each picture, at most R.
    unrelated : pictures known to copy none. Without them the reference items serve, each left out in turn with its near
        repeats. b is then the distance to the nearest item that is not a near repeat of the nearest item.
    progress : called with (0, 1) several times a second; it may raise to cancel.

    Raises
    ------
    RarityError : different spaces; k below 1; fewer than FEWEST unrelated pictures (repeats left out).
    """
    reference.space.require_same(items.space, "pictures to judge")
    if k < 1:
        raise RarityError(f"Ask for at least 1 nearest item, got {k}.")
    if unrelated is not None:
        reference.space.require_same(unrelated.space, "unrelated pictures")
    tick = waiting(progress)
    others = None if unrelated is None else unrelated.vectors[~member(unrelated.keys, reference.keys.sort().values)]
    count = len(reference) - 1 if others is None else len(others)
    twins = _Twins(reference.vectors, tick) if others is None and count >= FEWEST else None
    usual, b = _usual(twins, reference.vectors, others, tick) if count >= FEWEST else (torch.empty(0), torch.empty(0))
    if len(usual) < FEWEST:
        raise RarityError(
            f"At least {FEWEST} unrelated pictures are needed to say how near is too near, got {len(usual)}. "
            "Give more reference items, or pictures of the same kind that copy none."
        )

    def find(x: Tensor, k: int) -> tuple[Tensor, Tensor, Tensor]:
        if twins is not None:
            return twins.find(x, k)
        return *nearest(x, reference.vectors, k, tick), elsewhere(x, others, tick=tick)

    originals = reference.vectors if twins is None else reference.vectors[twins.first]
    copied, _, near = find(_copies(originals, float(usual.median()), len(usual)), 1)
    intercept, slope = _logistic(separation(usual, b), separation(copied[:, 0], near))
    distances, indices, b = find(items.vectors, min(k, len(reference)))
    t = separation(distances, b[:, None])
    notes = partly_seen(items.source, reference.source)
    probability = torch.sigmoid(-(intercept + slope * _log(t)))
    return Originality(indices, distances, torch.where(t > 0, probability, 1.0), notes)  # 0 has no logarithm


class _Twins:
    """A reference set that may hold an item several times, hardly changed, such as a picture as PNG and as JPEG.

    An item's twins are its neighbours before the first gap: those at d_1 <= ... <= d_j, where d_(j+1) > GAP d_j. In m
    dimensions one in GAP^m unrelated pictures has such a gap by chance.
    """

    def __init__(self, reference: Tensor, tick: Callable[[], None]):
        self.reference, self._tick = reference, tick
        self._near = min(NEAR, len(reference) - 1)
        found = nearest(reference, reference, self._near + 1, tick)
        # An item is its own nearest, but an exact repeat may come before it.
        others = (found[1] == torch.arange(len(reference))[:, None]).long().argsort(dim=1, stable=True)[:, :-1]
        distances, self.neighbours = (part.gather(1, others) for part in found)
        gap = distances[:, 1:] > GAP * distances[:, :-1]
        before = gap.flip(1).cumsum(1).flip(1) > 0  # some gap follows this neighbour
        first = gap.cumsum(1) - gap.long() == 0  # and none comes before it
        twins = torch.zeros_like(self.neighbours, dtype=torch.bool)
        twins[:, :-1] = before & first
        # The item itself fills the places that have no twin.
        self.twins = torch.where(twins, self.neighbours, torch.arange(len(reference))[:, None])
        self.distances = distances
        self.first = self.twins.min(dim=1).values >= torch.arange(len(reference))  # one of several twins is enough to learn from

    def find(self, x: Tensor, k: int) -> tuple[Tensor, Tensor, Tensor]:
        """Distances [N, k] and indices [N, k] of the nearest items, and b [N].

        b is the distance to the nearest item that is neither the nearest one nor its twin.
        """
        distances, indices = nearest(x, self.reference, max(k, self._near + 1), self._tick)
        return distances[:, :k], indices[:, :k], self._beyond(distances, indices, indices[:, 0])

    def left_out(self) -> tuple[Tensor, Tensor]:
        """d and b of every item as if it were a new picture: the set is without it and its twins, [R] each."""
        own = (self.neighbours[:, :, None] == self.twins[:, None]).any(dim=2)
        far = self.distances.masked_fill(own, math.inf)
        d, place = far.min(dim=1)
        other = self.neighbours.gather(1, place[:, None])[:, 0]
        return d, self._beyond(far, self.neighbours, other)

    def _beyond(self, distances: Tensor, indices: Tensor, first: Tensor) -> Tensor:
        """The least distance [N] to an item that is neither `first` [N] nor its twin; the last if there is none."""
        known = torch.cat([first[:, None], self.twins[first]], dim=1)
        same = (indices[:, :, None] == known[:, None]).any(dim=2)
        beyond = distances.masked_fill(same, math.inf).min(dim=1).values
        return torch.where(beyond.isfinite(), beyond, distances[:, -1])


def _usual(
    twins: _Twins | None, reference: Tensor, others: Tensor | None, tick: Callable[[], None]
) -> tuple[Tensor, Tensor]:
    """d and b of at most MEASURED pictures that copy none."""
    if twins is not None:
        d, b = (values[twins.first][:MEASURED] for values in twins.left_out())
        some = (d > 0) & d.isfinite()  # a picture that the set holds more than NEAR times has only repeats near it
        return d[some], b[some]
    some = others[:MEASURED]
    return nearest(some, reference, tick=tick)[0][:, 0], elsewhere(some, others, tick=tick)


def _copies(reference: Tensor, middle: float, count: int) -> Tensor:
    """Reference items, each moved at random by COPY_RANGE[0] to COPY_RANGE[1] times `middle`, [count, d]."""
    low, high = (math.log(edge) for edge in COPY_RANGE)
    strength = torch.exp(low + (high - low) * (torch.arange(count, dtype=torch.float64) + 0.5) / count) * middle
    g = generator(0)
    which = torch.randint(len(reference), (count,), generator=g)
    way = torch.randn(count, reference.shape[1], generator=g, dtype=torch.float64)
    return reference[which].double() + strength[:, None] * normalize(way, dim=1)


def _logistic(usual: Tensor, copied: Tensor) -> tuple[float, float]:
    """a and b of P(copy | t) = 1 / (1 + exp(a + b log t)), from separations of unrelated pictures and as many copies.

    scikit-learn fits it with Platt's targets (n + 1) / (n + 2) and 1 / (n + 2) in place of 1 and 0, given as weights of
    both answers. The two kinds are often perfectly apart, and with targets of 1 and 0 the slope would then be infinite.
    """
    from sklearn.linear_model import LogisticRegression

    n, middle = len(usual), float(_log(usual).median())
    t = torch.cat([_log(usual), _log(copied)]) - middle
    unrelated = torch.cat([torch.full((n,), (n + 1) / (n + 2)), torch.full((n,), 1 / (n + 2))]).double()
    spread = float(t.abs().max())
    answers = torch.cat([torch.ones(2 * n), torch.zeros(2 * n)])
    fit = LogisticRegression(C=math.inf, tol=1e-8, max_iter=1000).fit(
        (t / spread).repeat(2)[:, None].numpy(), answers.numpy(), torch.cat([unrelated, 1 - unrelated]).numpy()
    )
    slope = max(float(fit.coef_[0, 0]) / spread, 0.0)
    return float(fit.intercept_[0]) - slope * middle, slope


def _log(t: Tensor) -> Tensor:
    return t.clamp_min(1e-300).log()
