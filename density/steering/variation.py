"""Different pictures of the same rarity: between two embeddings along the shell, and around one embedding."""

from __future__ import annotations

import dataclasses
import math

import torch
from torch import Tensor
from torch.nn.functional import normalize

from ..base.embeddings import Embeddings, common
from ..base.errors import RarityError
from ..base.identity import sample_keys
from ..base.tensors import normal_rows, plain
from ..estimators.contract import Density
from .guardrails import Guardrail
from .optimize import optimize
from .trajectory import Trajectory


def slerp_on_shell(density: Density, a: Embeddings, b: Embeddings, count: int) -> Embeddings:
    """Embeddings between each row of `a` and the same row of `b`. Their rarity lies between those of the two ends.

    Shoemake's (1985) spherical interpolation in whitened coordinates: with D2 = |w|^2 + |r|^2 / sigma2 and t from 0 to 1,

        D2(t) = (1 - t) D2(a) + t D2(b),    r(t) and the direction of w(t) on great circles,
        |w(t)|^2 = D2(t) - |r(t)|^2 / sigma2

    A straight line would leave the shell and pass through what is usual. Bits never decrease with D2, so the bits
    between the ends lie between the bits of the ends; between two equally rare ends all embeddings are equally rare.
    Many great circles join two opposite ends; it is always the same one that is taken.

    Parameters
    ----------
    density : what is usual.   a, b : N rows each.   count : embeddings for each pair, the two ends included.

    Returns
    -------
    N count embeddings, pair by pair. The first and the last of each pair are exactly its ends. Each embedding carries
    the key of the nearer end.

    Raises
    ------
    RarityError : a count below 2, different numbers of rows, another space, a density that is not a single Gaussian.
    """
    _check_shell(density)
    for ends in (a, b):
        density.space.require_same(ends.space, "embeddings to vary")
    if len(a) != len(b) or count < 2:
        raise RarityError(
            f"Variations need as many ends as beginnings and at least 2 embeddings each; got {len(a):,} and {len(b):,} "
            f"rows and {count}."
        )
    with torch.inference_mode(False), torch.no_grad():
        t = torch.linspace(0, 1, count, dtype=torch.float64)[:, None, None]
        (w_a, r_a), (w_b, r_b) = density.frame.whiten(a.vectors), density.frame.whiten(b.vectors)
        d2_a, d2_b = (density.score(x.vectors)[:, None] for x in (a, b))
        share = (1 - t) * d2_a + t * d2_b
        sizes = (1 - t) * r_a.norm(dim=1, keepdim=True) + t * r_b.norm(dim=1, keepdim=True)
        r = sizes * _great_circle(normalize(r_a, dim=1), normalize(r_b, dim=1), t, density.frame.basis)
        radius = (share - r.square().sum(dim=2, keepdim=True) / density.frame.residual_variance).clamp_min(0).sqrt()
        w = radius * normalize(_great_circle(normalize(w_a, dim=1), normalize(w_b, dim=1), t), dim=2)
        x = torch.stack([density.frame.unwhiten(*pair) for pair in zip(w, r, strict=True)]).float()
        x[0], x[-1] = a.vectors, b.vectors
        vectors = x.transpose(0, 1).flatten(0, 1)
        keys = torch.where(t[:, :, 0] <= 0.5, a.keys, b.keys).T.flatten()
    return Embeddings(vectors, a.space, (), {**common([a.source, b.source]), "kind": "variations"}, keys)


def variations(
    density: Density,
    pictures: Embeddings,
    count: int,
    how_far: float,
    one_in: float,
    guardrails: tuple[Guardrail, ...] = (),
    *,
    seed: int = 0,
    **settings,
) -> Trajectory:
    """Variations of pictures with two independent dials: how far from the picture, and how rare.

    u = w / |w| is the picture's direction from the mean in whitened coordinates. It is turned by an angle:

        u_i = cos(t) u + sin(t) v_i,    t = how_far * 90 degrees,    v_i random and across u

    The residual is turned by the same angle, and `optimize` brings the result to the dialled rarity. Directions of
    unrelated usual samples are at right angles on average: the mean cosine of independent ones is 0. So a how_far of 0
    is the picture itself, brought to the rarity along its own direction. At 1 a variation has no more in common with
    the picture than any usual sample; at 2 it is the picture's opposite. The same seed turns in the same directions. So
    a change of how_far moves each variation further along its own direction, and a larger count keeps the variations
    there are. Guardrails may turn variations further; the reading "how far" says where they ended.

    An encoded picture lies off the samples of a prior and has a long residual, which is shortened to what is usual.

    A variation is a new sample, also at a how_far of 0 and also of a sample that the density has learnt from. Turned
    rows lie where the density has not learnt, and the result must not jump as how_far leaves 0.

    Parameters
    ----------
    density : what is usual.   pictures : M embeddings of its space.
    count : of all variations; row i varies picture i mod M.   how_far : 0 to 2.   one_in, guardrails : see `optimize`.
    seed : of the directions v_i.   settings : the other settings of `optimize`, directions among them.

    Returns
    -------
    Trajectory with the reading "how far".

    Raises
    ------
    RarityError : a count below 1, how_far out of range, a density that is not a single Gaussian; and as `optimize`.
    """
    _check_shell(density)
    density.space.require_same(pictures.space, "pictures to vary")
    if count < 1 or not 0 <= how_far <= 2:
        raise RarityError(
            "Choose at least 1 variation and how far from 0, the picture itself, over 1, as far as unrelated samples, to 2, "
            f"the opposite; got {count} and {how_far}."
        )
    with plain():
        varied = pictures.select([i % len(pictures) for i in range(count)])
        w, r = density.frame.whiten(varied.vectors)
        # Drawn in the space and not in the axes: axes of nearly equal variance differ between processors.
        across_w, across_r = normal_rows(count, 2 * r.shape[1], seed).chunk(2, dim=1)
        across_w = across_w @ density.frame.basis
        turned = density.frame.unwhiten(_turn(w, how_far, across_w), _turn(r, how_far, across_r, density.frame.basis))
    source = {**pictures.source, "kind": "variations", "how_far": float(how_far)}
    keys = sample_keys({"kind": "variations", "seed": seed}, range(count), varied.keys)
    starts = Embeddings(turned, density.space, (), source, keys)
    made = optimize(density, starts, one_in, guardrails, seed=seed, **settings)
    own = normalize(w, dim=1)
    cosines = [(own * normalize(density.frame.whiten(step.vectors)[0], dim=1)).sum(dim=1) for step in made.embeddings]
    far = torch.stack(cosines).clamp(-1, 1).arccos() / (math.pi / 2)
    return dataclasses.replace(made, readings={**made.readings, "how far": far})


def _turn(rows: Tensor, how_far: float, way: Tensor, outside: Tensor | None = None) -> Tensor:
    """Rows [N, k] turned by how_far right angles, each towards its own `way` [N, k], with their lengths kept.

    The part of a way along the columns of `outside` is removed first.
    """
    if outside is not None:
        way = way - way @ outside @ outside.T
    own = normalize(rows, dim=1)
    across = normalize(way - (way * own).sum(dim=1, keepdim=True) * own, dim=1)
    angle = how_far * math.pi / 2
    return rows.norm(dim=1, keepdim=True) * (math.cos(angle) * own + math.sin(angle) * across)


def _check_shell(density: Density) -> None:
    if density.modes is not None or not density.has_shell:
        raise RarityError(
            f"The shell that variations move along is that of a single Gaussian, got the estimator {density.estimator}. "
            "Use a density of the same samples with the estimator ppca."
        )


def _great_circle(a: Tensor, b: Tensor, t: Tensor, outside: Tensor | None = None) -> Tensor:
    """Unit rows a [N, k] turned towards unit rows b by the share t [S, 1, 1] of their angle, [S, N, k].

        a cos(t angle) + p sin(t angle),    p = the part of b across a, at length one

    For opposite rows b has no part across a. Then p is made of the axis that has the largest part across a and across
    the columns of `outside`; a and b are across these columns, too. In one dimension nothing lies across a, and the
    path leads through zero.
    """
    along = (a * b).sum(dim=1, keepdim=True)
    across = b - along * a
    angle = torch.atan2(across.norm(dim=1, keepdim=True), along)
    outside = a.new_zeros(a.shape[1], 0) if outside is None else outside
    taken = a.square() + outside.square().sum(dim=1)  # the share of every axis that does not lie across
    axis = torch.zeros_like(a).scatter_(1, taken.argmin(dim=1, keepdim=True), 1.0)
    any_across = axis - (axis * a).sum(dim=1, keepdim=True) * a - axis @ outside @ outside.T
    any_across = normalize(any_across, dim=1, eps=1e-6)
    p = torch.where(across.norm(dim=1, keepdim=True) > 1e-9, normalize(across, dim=1, eps=1e-300), any_across)
    return (t * angle).cos() * a + (t * angle).sin() * p
