"""What a picture teaches somebody who has seen others: the information gain of a Gaussian process over embeddings."""

from __future__ import annotations

import math
from collections.abc import Callable

import torch
from torch import Tensor

from ..base.embeddings import Embeddings
from ..base.errors import RarityError
from ..base.progress import waiting
from ..estimators.gaussian import GaussianDensity
from ..estimators.nearest import kth_radii, nearest, squared_distances
from .exposure import ExposureMemory

# l: how far one look leaves a picture open, as a share of how open it was. A repeat gains 1 / log2(1 / l) of its first
# showing; below this, rounding would show in a session's total.
RESOLUTION = 3e-9
MOST_SEEN = 2048  # remembered pictures that one gain depends on, the nearest ones
MOST_SHOWN = 4096  # pictures of one session
SCALE_ROWS = 1000  # samples of the density that say how near its pictures lie


def information_gain(
    items: Embeddings,
    density: GaussianDensity,
    memory: ExposureMemory,
    *,
    progress: Callable[[int, int], None] | None = None,
) -> Tensor:
    """What each picture would teach by itself, [N] bits: the part of it that the pictures seen do not foretell.

        gain = 1/2 log2(1 + v(x) / l),    v(x) = 1 - k_x' (K + l W^-1)^-1 k_x,    k(x, y) = exp(-|x - y|^2 / (2 h^2))

    K and k_x are the kernel among the pictures seen and between them and x, W the weights of the memory, l is
    RESOLUTION, and h the median distance of one of the density's samples to the nearest other of SCALE_ROWS. A picture
    unlike all seen gains 14 bits; a repeat half a bit at most, whatever its first showing gained.

    A linear kernel has as many directions as the embedding is wide: after so many pictures everything is foretold,
    new or not. With this one nearness foretells, and directions never run out. Distances are those of the embedding:
    whitening lifts directions that hardly vary to the rank of those that do, and a copy is far from its original then.

    Of a memory beyond MOST_SEEN pictures the nearest ones count. Fewer pictures foretell less, so the gain is then an
    upper bound; pictures left out are many h away. Srinivas et al. (2010); Rasmussen & Williams (2006), equation 2.26.

    progress : called with (parts done, parts) several times a second, a part being one picture of a large memory's; what it raises
        ends the computation.

    Raises
    ------
    RarityError : different spaces.
    """
    _check(items, density, memory)
    h = scale(density, waiting(progress))
    # All at once while the whole memory counts for all of them, else each with the pictures nearest to it.
    parts = items.vectors.split(len(items) if len(memory) <= MOST_SEEN else 1)
    gains = []
    for done, part in enumerate(parts):
        tick = progress and (lambda done=done: progress(done, len(parts)))
        gains.append(_gains(part, *_closest(part, memory), h, tick))
    if progress:
        progress(len(parts), len(parts))
    return torch.cat(gains)


def session_gains(items: Embeddings, density: GaussianDensity, memory: ExposureMemory) -> Tensor:
    """What each picture teaches after those before it in `items`, [N] bits; their sum does not depend on the order.

    The sum is 1/2 log2 det(I + V / l), V the covariance of the session's pictures given those seen, and each gain
    comes from one pivot of the triangular factor of (K + l W^-1) over memory and session:

        gain_i = log2(L_ii / sqrt(l))

    Of a memory beyond MOST_SEEN pictures those nearest to any picture of the session count, whatever its order.

    Raises
    ------
    RarityError : different spaces; more than MOST_SHOWN pictures.
    """
    _check(items, density, memory)
    if len(items) > MOST_SHOWN:
        raise RarityError(
            f"A session holds at most {MOST_SHOWN:,} pictures, got {len(items):,}. "
            "Take it in parts, and let the memory see each part before the next."
        )
    seen, weights = _closest(items.vectors, memory)
    x = torch.cat([seen, items.vectors]).double()
    noise = RESOLUTION / torch.cat([weights, torch.ones(len(items), dtype=torch.float64)])
    pivots = torch.linalg.cholesky(_kernel(x, x, scale(density)) + noise.diag()).diagonal()[len(seen) :]
    return (pivots / math.sqrt(RESOLUTION)).log2()


def scale(density: GaussianDensity, tick: Callable[[], None] | None = None) -> float:
    """h: how far a sample of the density lies from the nearest other of SCALE_ROWS, the median."""
    return float(kth_radii(density.statistics.rows[:SCALE_ROWS], 1, tick).median())


def _gains(x: Tensor, seen: Tensor, weights: Tensor, h: float, tick: Callable[[], None] | None) -> Tensor:
    factor = torch.linalg.cholesky(_kernel(seen, seen, h, tick) + (RESOLUTION / weights).diag())
    foretold = torch.linalg.solve_triangular(factor, _kernel(seen, x, h, tick), upper=False).square().sum(dim=0)
    return 0.5 * torch.log1p((1 - foretold).clamp_min(0) / RESOLUTION) / math.log(2)


def _closest(x: Tensor, memory: ExposureMemory) -> tuple[Tensor, Tensor]:
    """At most MOST_SEEN remembered pictures [n, d], those nearest to any row of x, and their weights [n]."""
    if len(memory) <= MOST_SEEN:
        return memory.vectors, memory.weights
    if len(x) == 1:
        closest = nearest(x, memory.vectors, MOST_SEEN)[1][0]
    else:
        closest = nearest(memory.vectors, x)[0][:, 0].sort(stable=True).indices[:MOST_SEEN]
    return memory.vectors[closest], memory.weights[closest]


def _kernel(a: Tensor, b: Tensor, h: float, tick: Callable[[], None] | None = None) -> Tensor:
    k = torch.empty(len(a), len(b), dtype=torch.float64)
    for some, others, squares in squared_distances(a, b, tick):
        k[some, others] = torch.exp(-squares.clamp_min(0) / (2 * h * h))
    return k


def _check(items: Embeddings, density: GaussianDensity, memory: ExposureMemory) -> None:
    density.space.require_same(items.space, "pictures")
    density.space.require_same(memory.space, "memory")
