"""The same rarity, different pictures: the way from one embedding to another along the shell."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn.functional import normalize

from .embeddings import Embeddings
from .errors import RarityError
from .gaussian import GaussianDensity


def slerp_on_shell(density: GaussianDensity, a: Embeddings, b: Embeddings, count: int) -> Embeddings:
    """Embeddings on the way from each row of `a` to the same row of `b`, as rare as these two or in between.

    Shoemake's (1985) spherical interpolation in whitened coordinates: with D2 = |w|^2 + |r|^2 / sigma2 and t from 0 to 1,

        D2(t) = (1 - t) D2(a) + t D2(b),    r(t) and the direction of w(t) on great circles,
        |w(t)|^2 = D2(t) - |r(t)|^2 / sigma2

    A straight line would cut through the shell to what is usual. Bits never decrease with D2, so those on the way lie
    between those of the ends; of two ends equally rare all are. Opposite ends are joined by one of the great circles
    there are, always the same.

    Parameters
    ----------
    density : what is usual.   a, b : N rows each.   count : embeddings for each pair, the two ends included.

    Returns
    -------
    N count embeddings, pair by pair; the first and the last of each pair are its ends, exactly.

    Raises
    ------
    RarityError : fewer than 2, other numbers of rows, another space, a density that is no single Gaussian.
    """
    if density.estimator in ("mixture", "neighbours"):
        raise RarityError(
            f"The shell that variations move along is that of a single Gaussian, got the estimator {density.estimator}. "
            "Use a density of the same samples with the estimator ppca."
        )
    for ends in (a, b):
        density.space.require_same(ends.space, "embeddings to vary")
    if len(a) != len(b) or count < 2:
        raise RarityError(
            f"Variations need as many ends as beginnings and at least 2 embeddings each; got {len(a):,} and {len(b):,} "
            f"rows and {count}."
        )
    with torch.inference_mode(False), torch.no_grad():
        t = torch.linspace(0, 1, count, dtype=torch.float64)[:, None, None]
        (w_a, r_a), (w_b, r_b) = density.whiten(a.vectors), density.whiten(b.vectors)
        d2_a, d2_b = (density.score(x.vectors)[:, None] for x in (a, b))
        share = (1 - t) * d2_a + t * d2_b
        sizes = (1 - t) * r_a.norm(dim=1, keepdim=True) + t * r_b.norm(dim=1, keepdim=True)
        r = sizes * _great_circle(normalize(r_a, dim=1), normalize(r_b, dim=1), t)
        radius = (share - r.square().sum(dim=2, keepdim=True) / density.residual_variance).clamp_min(0).sqrt()
        w = radius * normalize(_great_circle(normalize(w_a, dim=1), normalize(w_b, dim=1), t), dim=2)
        x = torch.stack([density.unwhiten(*pair) for pair in zip(w, r, strict=True)]).float()
        x[0], x[-1] = a.vectors, b.vectors
        vectors = x.transpose(0, 1).flatten(0, 1)
    return Embeddings(vectors, a.space, (), {**a.source, "kind": "variations"})


def _great_circle(a: Tensor, b: Tensor, t: Tensor) -> Tensor:
    """Unit rows a [N, k] turned towards unit rows b by the share t [S, 1, 1] of their angle, [S, N, k].

    a cos(t angle) + p sin(t angle), p the part of b across a. Opposite rows have none: then p is the part across a of
    the axis that a has least of. In one dimension there is nothing across, and the way leads through zero.
    """
    along = (a * b).sum(dim=1, keepdim=True)
    across = b - along * a
    angle = torch.atan2(across.norm(dim=1, keepdim=True), along)
    axis = torch.zeros_like(a).scatter_(1, a.abs().argmin(dim=1, keepdim=True), 1.0)
    any_across = normalize(axis - (axis * a).sum(dim=1, keepdim=True) * a, dim=1, eps=1e-6)
    p = torch.where(across.norm(dim=1, keepdim=True) > 1e-9, normalize(across, dim=1, eps=1e-300), any_across)
    return (t * angle).cos() * a + (t * angle).sin() * p
