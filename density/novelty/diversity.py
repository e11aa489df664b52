"""Measures of a set of embeddings: how varied it is, and how it lies in a reference set."""

from __future__ import annotations

import math
from collections.abc import Callable

import torch
from torch import Tensor

from ..base.embeddings import Embeddings
from ..base.errors import RarityError
from ..estimators.nearest import kth_radii, squared_distances

ORDERS = (1, 2, math.inf)
EDGE = 1 + 1e-9  # balls are closed: rounding must not put a point on the edge outside
ROUNDING = 1e-9  # of squared lengths of at most 1, computed in float64 from float32


def vendi_score(embeddings: Embeddings, order: float = 1) -> float:
    """The effective number of different pictures: 1 when all are alike, n when all are orthogonal.

    With K the cosine kernel of n rows and l_i the eigenvalues of K / n (they sum to 1),

        order 1    exp(-sum l_i log l_i)
        order 2    1 / sum l_i^2
        order inf  1 / max l_i

    X X' and X' X have the same eigenvalues above 0, so the smaller of the two is decomposed: at most d x d.
    Friedman & Dieng (2023); orders: Pasarkar & Dieng (2024).

    Raises
    ------
    RarityError : an order other than 1, 2, inf; a row of length 0, which has no direction.
    """
    if order not in ORDERS:
        raise RarityError(f"The Vendi score is computed for the orders 1, 2 and inf, got {order!r}.")
    return vendi_scores(embeddings)[ORDERS.index(order)]


def vendi_scores(embeddings: Embeddings) -> tuple[float, float, float]:
    """`vendi_score` for each of ORDERS, from one decomposition."""
    values = torch.linalg.eigvalsh(_kernel(embeddings)).clamp_min(0)
    values = values / values.sum()
    shannon = torch.exp(-torch.special.xlogy(values, values).sum())
    return float(shannon), float(1 / values.square().sum()), float(1 / values.max())


def density_and_coverage(
    reference: Embeddings, items: Embeddings, k: int = 5, *, tick: Callable[[], None] | None = None
) -> tuple[float, float]:
    """How densely `reference` lies around `items`, and which share of it they reach.

    B_i is the closed ball around reference row i that reaches to its k-th nearest other reference row. With N reference
    rows and M items:

        density   1 / (k M) sum_j #{i : item j in B_i}     may exceed 1
        coverage  1 / N #{i : some item in B_i}            0 to 1

    Naeem et al. (2020). The N x M distances are never held at once. `tick` is called after each part, and may raise.

    Raises
    ------
    RarityError : different spaces; k outside 1 to N - 1.
    """
    limits = _limits(reference, items, k, tick)
    inside, reached = 0, torch.zeros(len(reference), dtype=torch.bool)
    for _, balls, squares in squared_distances(items.vectors, reference.vectors, tick):
        within = squares <= limits[balls]
        inside += int(within.sum())
        reached[balls] |= within.any(dim=0)
    return inside / (k * len(items)), float(reached.double().mean())


def rarity_score(
    reference: Embeddings, items: Embeddings, k: int = 3, *, tick: Callable[[], None] | None = None
) -> Tensor:
    """Radius of the smallest k-NN ball of `reference` that contains each item, [M], in units of the embedding.

    It is large where the reference itself is sparse: such an item is rare, yet real. It is NaN for an item outside of
    every ball, because nothing shows that this item is real. Han et al. (2023). `tick` is called after each part, and
    may raise.

    Raises
    ------
    RarityError : different spaces; k outside 1 to N - 1.
    """
    limits = _limits(reference, items, k, tick)
    smallest = torch.full((len(items),), math.inf, dtype=torch.float64)
    for some, balls, squares in squared_distances(items.vectors, reference.vectors, tick):
        limit = limits[balls].expand_as(squares)
        within = torch.where(squares <= limit, limit, math.inf).amin(dim=1)
        smallest[some] = torch.minimum(smallest[some], within)
    return torch.where(smallest.isinf(), math.nan, (smallest / EDGE).sqrt())


def mean_pairwise_distance(embeddings: Embeddings, *, tick: Callable[[], None] | None = None) -> float:
    """Mean Euclidean distance between two different rows, 2 / (n (n - 1)) sum_{i<j} |x_i - x_j|; 0 for a single row.

    tick : called after each part, and may raise.
    """
    n, x = len(embeddings), embeddings.vectors
    total = sum(float(squares.clamp_min(0).sqrt().sum()) for _, _, squares in squared_distances(x, x, tick))
    return total / (n * (n - 1)) if n > 1 else 0.0


def most_varied(embeddings: Embeddings, count: int) -> list[int]:
    """Rows that together are most varied: the first row, then each time the row that the rows taken explain least.

    With K the cosine kernel, S the rows taken and k_i = K[S, i], the next row is

        argmax_i  K_ii - k_i' K_SS^-1 k_i

    It makes det K_SS largest. If several rows differ only by rounding, the first of them is taken.
    Chen, Zhang & Zhou (2018), arXiv 1709.05135: greedy maximum of a determinantal point process.

    Parameters
    ----------
    embeddings : N rows.   count : number of rows to take; all rows if there are no more.

    Returns
    -------
    Indices in the order in which they were taken.

    Raises
    ------
    RarityError : a count below 1; a row of length 0, which has no direction.
    """
    if count < 1:
        raise RarityError(f"At least 1 row must be taken, got {count}.")
    left = _unit(embeddings)  # the part of each row that is orthogonal to the rows taken
    taken = [0][: len(left)]
    while len(taken) < min(count, len(left)):
        along = left[taken[-1]]
        length = along.norm()
        if length > ROUNDING:
            left = left - torch.outer(left @ along / length**2, along)
        rest = left.square().sum(dim=1)
        rest[taken] = -1.0
        taken.append(int((rest >= rest.max() - ROUNDING).int().argmax()))
    return taken


def _limits(reference: Embeddings, items: Embeddings, k: int, tick: Callable[[], None] | None) -> Tensor:
    """Squared radii of the k-NN balls, times EDGE."""
    reference.space.require_same(items.space, "items to compare")
    return kth_radii(reference.vectors, k, tick).square() * EDGE


def _kernel(embeddings: Embeddings) -> Tensor:
    """K / n of unit rows, X X' / n, or its dual X' X / n, whichever is smaller, float64."""
    unit = _unit(embeddings)
    return (unit.T @ unit if unit.shape[0] > unit.shape[1] else unit @ unit.T) / len(unit)


def _unit(embeddings: Embeddings) -> Tensor:
    """The rows scaled to length one, float64."""
    x = embeddings.vectors.double()
    lengths = x.norm(dim=1, keepdim=True)
    if not bool((lengths > 0).all()):
        raise RarityError(
            f"{int((lengths == 0).sum()):,} of {len(x):,} embeddings are zero and have no direction. Drop those rows."
        )
    return x / lengths
