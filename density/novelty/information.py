"""How much a picture teaches a viewer who has seen others: the information gain of a Gaussian process on embeddings."""

from __future__ import annotations

import math
from collections.abc import Callable

import torch
from torch import Tensor

from ..base.embeddings import Embeddings
from ..base.errors import RarityError
from ..base.progress import Progress, waiting
from ..estimators.contract import Density
from ..estimators.nearest import kth_radii, nearest, squared_distances
from .exposure import ExposureMemory

# l: the variance of a picture after one look, as a share of its variance before. A repeat gains 1 / log2(1 / l) of what
# its first showing gained. With a smaller l, rounding would show in a session's total.
RESOLUTION = 3e-9
MOST_SEEN = 2048  # one gain depends on at most so many remembered pictures, the nearest ones
MOST_SHOWN = 4096  # most pictures of one session
SCALE_ROWS = 1000  # samples of the density that show how near its pictures lie to each other


def information_gain(
    items: Embeddings,
    density: Density,
    memory: ExposureMemory,
    *,
    progress: Progress | None = None,
) -> Tensor:
    """How much each picture teaches by itself, [N] bits: the part of it that the pictures seen do not predict.

        gain = 1/2 log2(1 + v(x) / l),    v(x) = 1 - k_x' (K + l W^-1)^-1 k_x,    k(x, y) = exp(-|x - y|^2 / (2 h^2))

    K is the kernel among the pictures seen, k_x the kernel between them and x, W the weights of the memory, l is
    RESOLUTION. h is the median distance of the density's samples to the nearest other of SCALE_ROWS samples. A picture
    unlike all pictures seen gains 14 bits. A repeat gains at most half a bit, whatever its first showing gained.

    A linear kernel has as many directions as the embedding has dimensions: after that many pictures it predicts every
    picture, new or not. With this kernel only near pictures predict a picture, and directions never run out. Distances
    are those of the embedding, without whitening: whitening would stretch directions that hardly vary as far as the
    others, and a copy would be far from its original.

    If the memory holds more than MOST_SEEN pictures, only the nearest ones count. Fewer pictures predict less, so the
    gain is then an upper bound; the pictures left out are many h away. Srinivas et al. (2010); Rasmussen & Williams
    (2006), equation 2.26.

    progress : called with (parts done, parts) several times a second; it may raise to cancel. With a memory of more
        than MOST_SEEN pictures every picture is a part, otherwise all pictures together are one.

    Raises
    ------
    RarityError : different spaces.
    """
    _check(items, density, memory)
    h = scale(density, waiting(progress))
    # While the whole memory counts, all pictures are computed at once; otherwise each with the memories nearest to it.
    parts = items.vectors.split(len(items) if len(memory) <= MOST_SEEN else 1)
    gains = []
    for done, part in enumerate(parts):
        tick = progress and (lambda done=done: progress(done, len(parts)))
        gains.append(_gains(part, *_closest(part, memory), h, tick))
    if progress:
        progress(len(parts), len(parts))
    return torch.cat(gains)


def session_gains(items: Embeddings, density: Density, memory: ExposureMemory) -> Tensor:
    """How much each picture teaches after those before it in `items`, [N] bits. The sum does not depend on the order.

    The sum is 1/2 log2 det(I + V / l), where V is the covariance of the session's pictures given those seen. Each gain
    comes from one pivot of the triangular factor L of (K + l W^-1) over memory and session:

        gain_i = log2(L_ii / sqrt(l))

    If the memory holds more than MOST_SEEN pictures, those nearest to any picture of the session count. They do not
    depend on the session's order.

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


def scale(density: Density, tick: Callable[[], None] | None = None) -> float:
    """h: the median distance of a sample of the density to the nearest other of SCALE_ROWS samples."""
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


def _check(items: Embeddings, density: Density, memory: ExposureMemory) -> None:
    density.space.require_same(items.space, "pictures")
    density.space.require_same(memory.space, "memory")
