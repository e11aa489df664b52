"""A distance to a density or to examples, and a guardrail that keeps away from them."""

from __future__ import annotations

import math

import torch
from torch import Tensor

from ..base.embeddings import Embeddings
from ..base.errors import RarityError
from ..base.tensors import generator, here, ordinary
from ..estimators.contract import Density
from .guardrails import TOLERANCE, Watch, check_quantile

# Added to a density's score under the root. It keeps the slope finite at the very centre and changes nothing elsewhere.
TINY = 1e-12


def distance(x: Tensor, target: Density | Embeddings) -> Tensor:
    """How far rows [N, d] are from a density or from the nearest of some examples, [N] float64, differentiable.

    The distance from a density is sqrt(score); for a Gaussian this is Mahalanobis' distance. The distance from examples
    is min_j |x - e_j|. Each x - e_j is formed directly: rounding in the faster product form hides the difference
    between a copy and a near copy.
    """
    if not isinstance(target, Embeddings):
        return (target.score(x) + TINY).sqrt()
    width = target.space.width
    if x.dim() != 2 or x.shape[1] != width:
        raise RarityError(f"Distances to these examples need embeddings of shape [N, {width}], got {tuple(x.shape)}.")
    return torch.cdist(here(x), ordinary(target.vectors), compute_mode="donot_use_mm_for_euclid_dist").amin(dim=1)


class RepelGuardrail(Watch):
    """Stay away from a density or from examples: distance(x) >= limit.

        penalty = (limit - distance)+ / scale

    The penalty's slope, -d distance / dx, points *towards* what is avoided, so descending the penalty leads away from
    it.

    Parameters
    ----------
    target : a density, or examples.   limit : the least distance, in the units of `distance`.
    scale : spread of the distance among usual samples, the unit of the penalty.
    """

    name = "repel"

    @property
    def allowed(self) -> tuple[float, float]:
        return self.limit - TOLERANCE * self.scale, math.inf

    def __init__(self, target: Density | Embeddings, limit: float, *, scale: float):
        if not 0 < limit < float("inf") or not 0 < scale < float("inf"):
            raise RarityError(
                f"A repel guardrail's least distance and its scale must be positive numbers, got {limit} and {scale}."
            )
        self.target, self.space = target, target.space
        self.limit, self.scale = float(limit), float(scale)

    @classmethod
    def from_density(cls, density: Density, bits: float = 10.0) -> RepelGuardrail:
        """Stay where only one in 2 ** bits of this density's own samples lies.

        The limit is the distance of that rarity. The scale is the spread of the distances of held-out samples.
        """
        own = density.calibration.scores.sqrt()
        return cls(density, density.score_at(bits) ** 0.5, scale=max(float(own.std(correction=0)), 1e-6))

    @classmethod
    def from_examples(cls, examples: Embeddings, baseline: Embeddings, quantile: float = 0.5) -> RepelGuardrail:
        """Stay at least as far from each example as usual samples are from each other.

        The limit is this quantile of |x_i - x_j| over pairs of different baseline samples. The scale is their spread.

        Raises
        ------
        RarityError : examples of another space, a baseline of fewer than two different samples, a quantile out of range.
        """
        baseline.space.require_same(examples.space, "examples to stay away from")
        check_quantile(quantile)
        x = baseline.vectors.double()[torch.randperm(len(baseline), generator=generator(0))]
        pairs = (x - x.roll(1, dims=0)).norm(dim=1)
        if not pairs.max() > 0:
            raise RarityError("The baseline shows no distance: at least two different samples are needed.")
        limit = max(float(torch.quantile(pairs, quantile)), 1e-6 * float(pairs.max()))
        return cls(examples, limit, scale=max(float(pairs.std(correction=0)), 1e-6 * limit))

    def reading(self, x: Tensor) -> Tensor:
        return distance(x, self.target)

    def penalty(self, x: Tensor) -> Tensor:
        return (self.limit - self.reading(x)).clamp_min(0) / self.scale
