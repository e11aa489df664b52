"""Exact nearest neighbours by brute force: a fast search proposes candidates, and exact distances decide among them."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator

import torch
from torch import Tensor

from ..base.errors import RarityError

TILE = 16_384  # reference rows in one product: large enough that threads seldom wait for each other
WORKING_BYTES = 64 << 20  # the most bytes of any temporary tensor
SPARE = 16  # candidates beyond k, so that rounding in the search rarely matters
SAMPLE = 1024  # reference rows that show where the centre of the reference lies
OFF = 4.0  # if the centre is farther from the origin than this many spreads, the rows are shifted: rounding would be too large
NEAR = 1e-6  # squared distances below this share of |q|^2 + |r|^2 are formed directly


def nearest(
    queries: Tensor, reference: Tensor, k: int = 1, tick: Callable[[], None] | None = None
) -> tuple[Tensor, Tensor]:
    """The k nearest rows of `reference` to every query, exactly.

    The search ranks candidates by |r|^2 / 2 - q'r in float32. If the centre of the reference lies far from the origin,
    queries and reference are shifted by it first; a shift takes as long as the search, so other references are not
    shifted. The difference of large numbers says nothing about near duplicates, so the distances |q - r| of the
    candidates are computed again, directly and in float64. If rounding may have hidden the k-th neighbour of a query,
    that query is searched again without shortcuts. Tiles bound the memory.

    Parameters
    ----------
    queries [M, d], reference [N, d] : any floating point type.   k : 1 to N.
    tick : called after every block of queries, and may raise.

    Returns
    -------
    distances [M, k] float64, ascending, in units of the rows; indices [M, k] into `reference`.

    Raises
    ------
    RarityError : widths that differ, no reference, k outside 1 to N, rows that are not finite.
    """
    queries, reference = rows(queries, "queries"), rows(reference, "reference rows")
    if queries.shape[1] != reference.shape[1]:
        raise RarityError(
            f"Neighbours need rows of one width, got queries {queries.shape[1]} and reference {reference.shape[1]} "
            "wide. Encode both with the same model."
        )
    if not 1 <= k <= len(reference):
        raise RarityError(f"k must be 1 to the {len(reference):,} rows of the reference, got {k}: choose a smaller k.")
    with torch.no_grad():
        most = min(len(reference), k + SPARE)
        block = max(1, min(1024, WORKING_BYTES // (8 * most * queries.shape[1])))
        found = []
        for part in queries.split(block):
            found.append(_search(part, reference, k, most))
            if tick:
                tick()
    if not found:
        return torch.empty(0, k, dtype=torch.float64), torch.empty(0, k, dtype=torch.long)
    distances, indices = (torch.cat(parts) for parts in zip(*found, strict=True))
    return distances, indices


def kth_radii(points: Tensor, k: int, tick: Callable[[], None] | None = None) -> Tensor:
    """Distance of every row of a set to its k-th nearest other row, [N] float64; copies of a row count as others.

    tick : as of `nearest`.

    Raises
    ------
    RarityError : k outside 1 to N - 1.
    """
    count = len(points)
    if not 1 <= k < count:
        raise RarityError(
            f"The k-th nearest other of {count:,} rows needs k from 1 to {count - 1:,}, got {k}. "
            "Choose a smaller k, or give more rows."
        )
    distances, indices = nearest(points, points, k + 1, tick)
    # A row finds itself at distance 0; among many copies it may not, and then any of them stands for it.
    own = indices == torch.arange(count)[:, None]
    own[~own.any(dim=1), -1] = True
    return distances[~own].view(count, k)[:, -1]


def squared_distances(
    queries: Tensor, reference: Tensor, tick: Callable[[], None] | None = None
) -> Iterator[tuple[slice, slice, Tensor]]:
    """All |q - r|^2 in float64, tile by tile: (slice of queries, slice of reference, [m, n]).

    From the product |q|^2 + |r|^2 - 2 q'r of rows shifted by one centre; where that cancels (below NEAR of its terms),
    formed directly, so that identical rows are exactly 0 apart and every distance is good to about ten digits. `tick` is
    called after every tile, and may raise.
    """
    queries, reference = rows(queries, "queries"), rows(reference, "reference rows")
    side = 1024
    centre = _centre(reference).double()
    for i in range(0, len(queries), side):
        q = queries[i : i + side].double() - centre
        for j in range(0, len(reference), side):
            r = reference[j : j + side].double() - centre
            sizes = q.square().sum(dim=1)[:, None] + r.square().sum(dim=1)
            squares = sizes - 2 * q @ r.T
            one, two = (squares <= NEAR * sizes).nonzero(as_tuple=True)
            step = max(1, WORKING_BYTES // (8 * q.shape[1]))
            for a, b in zip(one.split(step), two.split(step), strict=True):
                squares[a, b] = (q[a] - r[b]).square().sum(dim=1)
            yield slice(i, i + len(q)), slice(j, j + len(r)), squares
            if tick:
                tick()


def rows(x: Tensor, what: str) -> Tensor:
    """`x` on the CPU, checked: [N, d], finite, half precision widened (exactly) to float32."""
    if not isinstance(x, Tensor) or x.dim() != 2:
        got = f"shape {tuple(x.shape)}" if isinstance(x, Tensor) else type(x).__name__
        raise RarityError(f"Expected {what} of shape [N, d], got {got}.")
    x = x.detach().to("cpu")
    x = x if x.dtype in (torch.float32, torch.float64) else x.float()
    # An infinite sum may come of huge values, so only then is every value looked at.
    bad = sum(int((~torch.isfinite(part).all(dim=1)).sum()) for part in x.split(1 << 16) if not part.sum().isfinite())
    if bad:
        raise RarityError(f"{bad:,} of {len(x):,} {what} hold values that are not finite: drop them (drop_unusable).")
    return x


def _centre(reference: Tensor) -> Tensor:
    """A point near the mean of the reference. Any point gives the same distances; this one keeps the products small."""
    return _sample(reference).mean(dim=0).to(reference.dtype)


def _sample(reference: Tensor) -> Tensor:
    """About SAMPLE rows at even steps, in float64."""
    return reference[:: max(1, len(reference) // SAMPLE)].double()


def _lies_far_off(reference: Tensor, centre: Tensor) -> bool:
    spread = (_sample(reference) - centre.double()).square().sum(dim=1).mean().sqrt()
    return bool(centre.double().norm() > OFF * spread)


def _search(queries: Tensor, reference: Tensor, k: int, most: int) -> tuple[Tensor, Tensor]:
    centre = _centre(reference)
    shift = _lies_far_off(reference, centre)
    q = (queries.to(reference.dtype) - centre if shift else queries).float()
    best = torch.full((len(q), most), math.inf)
    where = torch.zeros(len(q), most, dtype=torch.long)
    longest = 0.0
    shifted = torch.empty(min(TILE, len(reference)) if shift else 0, q.shape[1], dtype=reference.dtype)
    for start in range(0, len(reference), TILE):
        tile = reference[start : start + TILE]
        r = (torch.sub(tile, centre, out=shifted[: len(tile)]) if shift else tile).float()
        norms = torch.linalg.vector_norm(r, dim=1)
        longest = max(longest, float(norms.max()))
        values = torch.addmm(0.5 * norms.square(), q, r.T, alpha=-1)
        values, at = values.topk(min(most, len(tile)), dim=1, largest=False, sorted=False)
        best, pick = torch.cat([best, values], dim=1).topk(most, dim=1, largest=False)
        where = torch.cat([where, at + start], dim=1).gather(1, pick)
    distances = (reference[where].double() - queries.double()[:, None]).norm(dim=2)
    distances, order = distances.sort(dim=1, stable=True)
    distances, indices = distances[:, :k], where.gather(1, order)[:, :k]
    if most < len(reference):
        # Rows that are no candidates are at least this far. A sum of d products is exact to about sqrt(d) units in the
        # last place.
        size = q.double().norm(dim=1)
        slack = 2**-23 * (math.sqrt(q.shape[1]) + 8) * (size + longest).square()
        bound = 2 * best[:, -1].double() + size.square() - slack
        for i in (~(distances[:, -1].square() <= bound)).nonzero().flatten().tolist():
            distances[i], indices[i] = _directly(queries[i], reference, k)
    return distances, indices


def _directly(query: Tensor, reference: Tensor, k: int) -> tuple[Tensor, Tensor]:
    """The k nearest rows to one query [d]; every distance is computed in float64."""
    every = torch.cat([(tile.double() - query.double()).norm(dim=1) for tile in reference.split(TILE)])
    return every.topk(k, largest=False)
