"""Whether a picture copies another: nearest reference items, with the probability that they were copied."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from .embeddings import Embeddings
from .errors import RarityError
from .neighbours import kth_radii, nearest

COPY_RANGE = (1e-3, 0.2)  # a copy's distance, as a share of the typical distance between unrelated pictures
FEWEST = 20  # distances between unrelated pictures that say what is usual


@dataclass(frozen=True, eq=False)
class Originality:
    """For N pictures: indices [N, k] of the nearest reference items, distances [N, k] and copy_probability [N, k]."""

    indices: Tensor
    distances: Tensor
    copy_probability: Tensor

    def rows(self) -> list[list[dict]]:
        """One list a picture, nearest first, of dictionaries {index, distance, copy_probability}."""
        columns = (self.indices.tolist(), self.distances.tolist(), self.copy_probability.tolist())
        keys = ("index", "distance", "copy_probability")
        return [
            [dict(zip(keys, one, strict=True)) for one in zip(*row, strict=True)] for row in zip(*columns, strict=True)
        ]


def originality(
    items: Embeddings, reference: Embeddings, k: int = 3, *, unrelated: Embeddings | None = None
) -> Originality:
    """The nearest reference items of every picture, and how probable it is that each was copied.

    The probability weighs two explanations of a distance t, held equally likely beforehand: the distances of unrelated
    pictures to the reference, and those of copies, which lie anywhere in COPY_RANGE on a logarithmic scale, in units
    of the median of the former. A logistic curve in log t is fitted to both (Platt 1999), so

        P(copy | t) = 1 / (1 + exp(a + b log t)),    b >= 0

    never rises with the distance; an exact copy has 1.

    Parameters
    ----------
    items : N pictures.   reference : R pictures that they may copy.   k : at most R are returned.
    unrelated : pictures known to copy none; without them, every reference item's distance to its nearest other.

    Raises
    ------
    RarityError : different spaces; k below 1; fewer than FEWEST distances of unrelated pictures (repeats left out).
    """
    reference.space.require_same(items.space, "pictures to judge")
    if k < 1:
        raise RarityError(f"Ask for at least 1 nearest item, got {k}.")
    if unrelated is not None:
        reference.space.require_same(unrelated.space, "unrelated pictures")
        usual = nearest(unrelated.vectors, reference.vectors)[0][:, 0]
    else:
        usual = kth_radii(reference.vectors, 1) if len(reference) > 1 else torch.empty(0, dtype=torch.float64)
    usual = usual[usual > 0]
    if len(usual) < FEWEST:
        raise RarityError(
            f"At least {FEWEST} unrelated pictures are needed to say how near is too near, got {len(usual)}. "
            "Give more reference items, or pictures of the same kind that copy none."
        )
    intercept, slope = _logistic(usual)
    distances, indices = nearest(items.vectors, reference.vectors, min(k, len(reference)))
    return Originality(indices, distances, torch.sigmoid(-(intercept + slope * distances.log())))


def _logistic(usual: Tensor) -> tuple[float, float]:
    """a and b of P(copy | t) = 1 / (1 + exp(a + b log t)), from unrelated distances and as many of copies.

    Newton's method on the likelihood with Platt's targets (n + 1) / (n + 2) and 1 / (n + 2) in place of 1 and 0: the
    two kinds are often perfectly apart, and certainty would then be infinite.
    """
    n, middle = len(usual), float(usual.median())
    low, high = torch.tensor(COPY_RANGE, dtype=torch.float64).log()
    copies = low + (high - low) * (torch.arange(n, dtype=torch.float64) + 0.5) / n
    t = torch.cat([(usual / middle).log(), copies])
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
    return float(theta[0]) - slope * float(torch.tensor(middle).double().log()), slope
