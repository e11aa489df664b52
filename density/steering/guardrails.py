"""Guardrails keep a rare result the thing that was asked for.

A guardrail watches one number of an embedding. Its penalty is 0 inside and grows linearly outside, in units of what is
usual for that number, so that the penalties of different guardrails can be added. A chain is a tuple of guardrails.
"""

from __future__ import annotations

import math
from typing import Protocol, runtime_checkable

import torch
from torch import Tensor
from torch.nn.functional import normalize

from ..base.embeddings import Embeddings
from ..base.errors import RarityError
from ..base.spaces import EmbeddingSpace
from ..base.tensors import here, ordinary
from ..estimators.contract import Density

# Storing an embedding as float32 may move a reading this far, in units of a guardrail's spread.
TOLERANCE = 1e-4


@runtime_checkable
class Guardrail(Protocol):
    """What `optimize` needs of a guardrail. x is [N, d]."""

    name: str
    space: EmbeddingSpace | None
    allowed: tuple[float, float]  # the lowest and the highest reading that is accepted; infinite where there is no limit
    notes: tuple[str, ...]  # what the user should know, in sentences

    def reading(self, x: Tensor) -> Tensor:
        """The number that the guardrail watches, [N]."""

    def penalty(self, x: Tensor) -> Tensor:
        """[N], differentiable, 0 inside, growing outside."""

    def accepts(self, x: Tensor) -> Tensor:
        """Whether each row is inside, bool [N]."""


class Watch:
    """What guardrails share: a row is inside where its penalty is zero, up to float32 rounding."""

    space: EmbeddingSpace | None = None
    notes: tuple[str, ...] = ()

    def accepts(self, x: Tensor) -> Tensor:
        return self.penalty(x) <= TOLERANCE


class AnchorGuardrail(Watch):
    """Stay within a cone around an anchor on the image side: cos(x, anchor) >= min_cosine.

        penalty = (min_cosine - cos(x, anchor))+ / scale

    Parameters
    ----------
    anchor : [d], usually the mean of the baseline (text embeddings are elsewhere: the modality gap).
    min_cosine : the floor, -1 to 1.   scale : spread of the cosine among usual samples, the unit of the penalty.
    """

    name = "anchor"

    @property
    def allowed(self) -> tuple[float, float]:
        return self.min_cosine - TOLERANCE * self.scale, math.inf

    def __init__(self, anchor: Tensor, min_cosine: float, *, scale: float = 0.05, space: EmbeddingSpace | None = None):
        if anchor.dim() != 1 or not torch.isfinite(anchor).all() or not anchor.norm() > 0:
            raise RarityError(f"An anchor must be one finite vector that is not zero, got shape {tuple(anchor.shape)}.")
        if not -1 <= min_cosine < 1:
            raise RarityError(f"An anchor's lowest cosine must be from -1 to below 1, got {min_cosine}.")
        self.anchor = ordinary(normalize(here(anchor), dim=0))
        self.min_cosine, self.scale, self.space = float(min_cosine), max(float(scale), 1e-6), space

    @classmethod
    def from_baseline(cls, embeddings: Embeddings, quantile: float = 0.01) -> AnchorGuardrail:
        """Anchor at the baseline's mean; the floor is this quantile of the baseline's own cosines to it."""
        check_quantile(quantile)
        x = embeddings.vectors.double()
        anchor = x.mean(dim=0)
        cosines = normalize(x, dim=1) @ normalize(anchor, dim=0)
        floor = min(float(torch.quantile(cosines, quantile)), 1 - 1e-6)
        return cls(anchor, floor, scale=float(cosines.std(correction=0)), space=embeddings.space)

    def reading(self, x: Tensor) -> Tensor:
        return unit_rows(x, len(self.anchor)) @ self.anchor

    def penalty(self, x: Tensor) -> Tensor:
        return (self.min_cosine - self.reading(x)).clamp_min(0) / self.scale


class ResidualGuardrail(Watch):
    """Stay near the density's subspace: the residual Q stays below a percentile of held-out samples.

        penalty = (Q / limit - 1)+

    Q is what the subspace does not explain. A density with a variance for every direction has no such rest; its
    `residual` is then the largest deviation along any one direction.

    Parameters
    ----------
    density : has the subspace.
    max_percentile : above 0 to 100; the limit is the Q that this percentage of held-out samples stays below.
    """

    name = "residual"

    @property
    def allowed(self) -> tuple[float, float]:
        return 0.0, self.limit * (1 + TOLERANCE)

    def __init__(self, density: Density, max_percentile: float = 99.0):
        if not 0 < max_percentile <= 100:
            raise RarityError(
                f"A residual guardrail's percentile must be above 0 and at most 100, got {max_percentile}."
            )
        self.density, self.space = density, density.space
        self.limit = density.frame.residual_limit(max_percentile)

    def reading(self, x: Tensor) -> Tensor:
        return self.density.frame.residual(x)

    def penalty(self, x: Tensor) -> Tensor:
        return (self.reading(x) / self.limit - 1).clamp_min(0)


class NormGuardrail(Watch):
    """Keep the length |x| in the range of usual samples, without their shortest and their longest 0.1 %.

        penalty = ((low - |x|)+ + (|x| - high)+) / (high - low)
    """

    name = "norm"

    @property
    def allowed(self) -> tuple[float, float]:
        return self.low - TOLERANCE * self._spread, self.high + TOLERANCE * self._spread

    @property
    def _spread(self) -> float:
        return max(self.high - self.low, 1e-6 * self.high)

    def __init__(self, density: Density):
        self.low, self.high = density.norm_range
        self.density, self.space = density, density.space

    def reading(self, x: Tensor) -> Tensor:
        return here(x).norm(dim=1)

    def penalty(self, x: Tensor) -> Tensor:
        norm = self.reading(x)
        return ((self.low - norm).clamp_min(0) + (norm - self.high).clamp_min(0)) / self._spread


def watches(rail: Guardrail, kind: type, density: Density) -> bool:
    """Whether a guardrail is of this `kind` (residual or norm) and of this very density, not of another one."""
    return isinstance(rail, kind) and rail.density is density


def unit_rows(x: Tensor, width: int) -> Tensor:
    """Rows [N, d] scaled to length one; a RarityError where d is not the width that a guardrail was made for."""
    if x.dim() != 2 or x.shape[1] != width:
        raise RarityError(f"This guardrail was made for embeddings of shape [N, {width}], got {tuple(x.shape)}.")
    return normalize(here(x), dim=1)


def check_quantile(quantile: float) -> None:
    """Raise a RarityError unless this is a quantile of usual samples at which a guardrail can have its limit."""
    if not 0 <= quantile < 1:
        raise RarityError(f"A guardrail's quantile must be from 0 to below 1, got {quantile}.")
