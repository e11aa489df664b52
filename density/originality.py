"""Whether a picture copies another: nearest reference items, with the probability that they were copied."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn.functional import normalize

from .embeddings import Embeddings
from .errors import RarityError
from .framing import partly_seen
from .neighbours import nearest
from .progress import waiting
from .separation import elsewhere, separation, without
from .tensors import generator

COPY_RANGE = (1e-3, 0.2)  # a copy's distance, as a share of the typical distance between unrelated pictures
FEWEST = 20  # unrelated pictures that say what is usual
MEASURED = 2000  # unrelated pictures looked at, at most


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
        """One list a picture, nearest first, of dictionaries {index, distance, copy_probability}."""
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
    progress: Callable[[int, int], None] | None = None,
) -> Originality:
    """The nearest reference items of every picture, and how probable it is that each was copied.

    The probability weighs two explanations of the separation t = d min(1, d / b)^64, held equally likely beforehand: d
    is the distance to the reference item, b that to the nearest unrelated picture (`separation`). One is what unrelated
    pictures have. The other is what copies have: reference items moved any way, by distances even on a logarithmic
    scale over COPY_RANGE, in units of the median d of unrelated pictures. A logistic curve is fitted to both (Platt
    1999):

        P(copy | t) = 1 / (1 + exp(a + b log t)),    b >= 0

    An exact copy has 1; of the reference items, one farther away is never the likelier original.

    Parameters
    ----------
    items : N pictures.   reference : R pictures that they may copy.   k : at most R are returned.
    unrelated : pictures known to copy none. Without them the reference items stand for them, each left out in turn;
        then b is the distance to the second nearest.
    progress : called with (0, 1) several times a second; what it raises ends the search.

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
    others = None if unrelated is None else without(unrelated.vectors, reference.vectors)
    usual, b = _usual(reference.vectors, others, tick)
    if len(usual) < FEWEST:
        raise RarityError(
            f"At least {FEWEST} unrelated pictures are needed to say how near is too near, got {len(usual)}. "
            "Give more reference items, or pictures of the same kind that copy none."
        )
    moved = _copies(reference.vectors, float(usual.median()), len(usual))
    copied, _, near = _find(moved, reference.vectors, 1, others, tick)
    intercept, slope = _logistic(separation(usual, b), separation(copied[:, 0], near))
    distances, indices, b = _find(items.vectors, reference.vectors, min(k, len(reference)), others, tick)
    t = separation(distances, b[:, None])
    notes = partly_seen(items.source, reference.source)
    return Originality(indices, distances, torch.sigmoid(-(intercept + slope * t.log())), notes)


def _find(
    x: Tensor, reference: Tensor, k: int, others: Tensor | None, tick: Callable[[], None]
) -> tuple[Tensor, Tensor, Tensor]:
    """Distances [N, k] and indices [N, k] of the nearest reference items, and b [N]."""
    if others is not None:
        return *nearest(x, reference, k, tick), elsewhere(x, others, tick)
    distances, indices = nearest(x, reference, max(k, 2), tick)
    return distances[:, :k], indices[:, :k], distances[:, 1]


def _usual(reference: Tensor, others: Tensor | None, tick: Callable[[], None]) -> tuple[Tensor, Tensor]:
    """d and b of pictures that copy none, MEASURED at most."""
    enough = len(reference) > 2 if others is None else len(others) >= FEWEST
    if not enough:
        return torch.empty(0, dtype=torch.float64), torch.empty(0, dtype=torch.float64)
    if others is not None:
        some = others[:MEASURED]
        return nearest(some, reference, tick=tick)[0][:, 0], elsewhere(some, others, tick)
    # The nearest row is the item itself; among repeats any of them stands for it, and their d of 0 says nothing.
    d, b = nearest(reference[:MEASURED], reference, 3, tick)[0][:, 1:].T
    return d[d > 0], b[d > 0]


def _copies(reference: Tensor, middle: float, count: int) -> Tensor:
    """Reference items moved, each its own way, by COPY_RANGE[0] to COPY_RANGE[1] times `middle`; [count, d]."""
    low, high = (math.log(edge) for edge in COPY_RANGE)
    strength = torch.exp(low + (high - low) * (torch.arange(count, dtype=torch.float64) + 0.5) / count) * middle
    g = generator(0)
    which = torch.randint(len(reference), (count,), generator=g)
    way = torch.randn(count, reference.shape[1], generator=g, dtype=torch.float64)
    return reference[which].double() + strength[:, None] * normalize(way, dim=1)


def _logistic(usual: Tensor, copied: Tensor) -> tuple[float, float]:
    """a and b of P(copy | t) = 1 / (1 + exp(a + b log t)), from separations of unrelated pictures and as many copies.

    Newton's method on the likelihood with Platt's targets (n + 1) / (n + 2) and 1 / (n + 2) in place of 1 and 0: the
    two kinds are often perfectly apart, and certainty would then be infinite.
    """
    n, middle = len(usual), float(usual.median().log())
    t = torch.cat([usual, copied]).clamp_min(1e-300).log() - middle
    target = torch.cat([torch.full((n,), (n + 1) / (n + 2)), torch.full((n,), 1 / (n + 2))]).double()  # of "unrelated"
    design = torch.stack([torch.ones_like(t), t], dim=1)

    def loss(theta: Tensor) -> Tensor:
        logits = design @ theta
        return torch.nn.functional.softplus(logits).sum() - target @ logits

    theta = torch.zeros(2, dtype=torch.float64)
    for _ in range(100):
        p = torch.sigmoid(design @ theta)
        gradient = design.T @ (p - target)
        curvature = (design * (p * (1 - p))[:, None]).T @ design + 1e-9 * n * torch.eye(2, dtype=torch.float64)
        step, size = torch.linalg.solve(curvature, gradient), 1.0
        while size > 1e-6 and loss(theta - size * step) > loss(theta):
            size /= 2
        theta = theta - size * step
        if float((size * step).abs().max()) < 1e-10:
            break
    slope = max(float(theta[1]), 0.0)
    return float(theta[0]) - slope * middle, slope
