"""What keeps a rare result the thing that was asked for.

A guardrail watches one number of an embedding. Its penalty is 0 inside and grows linearly outside, in units of that
number's usual spread, so that the penalties of different guardrails can be added. A chain is a tuple of guardrails.
"""

from __future__ import annotations

import math
from typing import Protocol, runtime_checkable

import torch
from torch import Tensor
from torch.nn.functional import normalize

from .embeddings import Embeddings
from .errors import RarityError
from .gaussian import GaussianDensity
from .spaces import EmbeddingSpace
from .tensors import here, ordinary

# What float32 storage of an embedding may cost, in units of a guardrail's spread.
TOLERANCE = 1e-4


@runtime_checkable
class Guardrail(Protocol):
    """What `optimize` needs of a guardrail. x is [N, d]."""

    name: str
    space: EmbeddingSpace | None
    allowed: tuple[float, float]  # the lowest and the highest reading inside; infinite where there is no limit

    def reading(self, x: Tensor) -> Tensor:
        """The number it watches, [N]."""

    def penalty(self, x: Tensor) -> Tensor:
        """[N], differentiable, 0 inside, growing outside."""

    def accepts(self, x: Tensor) -> Tensor:
        """Whether each row is inside, bool [N]."""

    def project(self, x: Tensor) -> Tensor:
        """The nearest rows inside where there is a closed form, else x itself; [N, d]."""


class _Watch:
    """Shared part: inside is where the penalty, up to float32 rounding, is zero."""

    space: EmbeddingSpace | None = None

    def accepts(self, x: Tensor) -> Tensor:
        return self.penalty(x) <= TOLERANCE

    def project(self, x: Tensor) -> Tensor:
        return x


class AnchorGuardrail(_Watch):
    """Stay within a cone around an anchor on the image side: cos(x, anchor) >= min_cosine.

    Parameters
    ----------
    anchor : [d], usually the mean of the baseline (text embeddings are elsewhere: the modality gap).
    min_cosine : the floor, -1 to 1.   scale : spread of the cosine among usual samples, the unit of the penalty.
    """

    name = "anchor"

    @property
    def allowed(self) -> tuple[float, float]:
        return self.min_cosine, math.inf

    def __init__(self, anchor: Tensor, min_cosine: float, *, scale: float = 0.05, space: EmbeddingSpace | None = None):
        if anchor.dim() != 1 or not torch.isfinite(anchor).all() or not anchor.norm() > 0:
            raise RarityError(f"An anchor must be one finite vector that is not zero, got shape {tuple(anchor.shape)}.")
        if not -1 <= min_cosine < 1:
            raise RarityError(f"An anchor's lowest cosine must be from -1 to below 1, got {min_cosine}.")
        self.anchor = ordinary(normalize(anchor.double(), dim=0))
        self.min_cosine, self.scale, self.space = float(min_cosine), max(float(scale), 1e-6), space

    @classmethod
    def from_baseline(cls, embeddings: Embeddings, quantile: float = 0.01) -> AnchorGuardrail:
        """Anchor at the baseline's mean; the floor is this quantile of the baseline's own cosines to it."""
        _check_quantile(quantile)
        x = embeddings.vectors.double()
        anchor = x.mean(dim=0)
        cosines = normalize(x, dim=1) @ normalize(anchor, dim=0)
        floor = min(float(torch.quantile(cosines, quantile)), 1 - 1e-6)
        return cls(anchor, floor, scale=float(cosines.std(correction=0)), space=embeddings.space)

    def reading(self, x: Tensor) -> Tensor:
        return _unit(x, len(self.anchor)) @ self.anchor

    def penalty(self, x: Tensor) -> Tensor:
        return (self.min_cosine - self.reading(x)).clamp_min(0) / self.scale

    def project(self, x: Tensor) -> Tensor:
        """Turn rows outside onto the cone, in the plane of x and the anchor: |x| (c a + sqrt(1 - c^2) u)."""
        x = here(x)
        along = x @ self.anchor
        across = normalize(x - along[:, None] * self.anchor, dim=1)
        on_cone = self.min_cosine * self.anchor + (1 - self.min_cosine**2) ** 0.5 * across
        outside = self.reading(x) < self.min_cosine
        return torch.where(outside[:, None], x.norm(dim=1, keepdim=True) * on_cone, x)


class ResidualGuardrail(_Watch):
    """Stay near the density's subspace: Q, what it does not explain, below a percentile of held-out samples."""

    name = "residual"

    @property
    def allowed(self) -> tuple[float, float]:
        return 0.0, self.limit

    def __init__(self, density: GaussianDensity, max_percentile: float = 99.0):
        if not 0 < max_percentile <= 100:
            raise RarityError(
                f"A residual guardrail's percentile must be above 0 and at most 100, got {max_percentile}."
            )
        self.density, self.space = density, density.space
        self.limit = density.residual_limit(max_percentile)

    def reading(self, x: Tensor) -> Tensor:
        return self.density.residual(x)

    def penalty(self, x: Tensor) -> Tensor:
        return (self.reading(x) / self.limit - 1).clamp_min(0)

    def project(self, x: Tensor) -> Tensor:
        """Shorten the residual to the limit, r sqrt(limit / Q); what lies inside the subspace stays."""
        w, r = self.density.whiten(x)
        shrink = (self.limit / r.square().sum(dim=1).clamp_min(1e-300)).sqrt().clamp_max(1)
        return self.density.unwhiten(w, r * shrink[:, None])


class NormGuardrail(_Watch):
    """Keep the length |x| inside the range usual samples have, lowest to highest 0.1 %."""

    name = "norm"

    @property
    def allowed(self) -> tuple[float, float]:
        return self.low, self.high

    def __init__(self, density: GaussianDensity):
        self.low, self.high = density.norm_range
        self.space = density.space

    def reading(self, x: Tensor) -> Tensor:
        return here(x).norm(dim=1)

    def penalty(self, x: Tensor) -> Tensor:
        spread = max(self.high - self.low, 1e-6 * self.high)
        norm = self.reading(x)
        return ((self.low - norm).clamp_min(0) + (norm - self.high).clamp_min(0)) / spread

    def project(self, x: Tensor) -> Tensor:
        x = here(x)
        norm = x.norm(dim=1, keepdim=True)
        return x * (norm.clamp(self.low, self.high) / norm.clamp_min(1e-300))


class ContrastGuardrail(_Watch):
    """Stay more like the asked subject than like any alternative, by the encoder's own zero-shot margin.

        margin(x) = cos(x, p_asked) - max over the others of cos(x, p_other),    penalty = (threshold - margin)+ / scale

    A cosine to the subject alone can be fooled; a margin over named alternatives much less. Texts lie apart from pictures
    (the modality gap: Liang et al. 2022), but what all prototypes have in common cancels in a margin, except that it may
    favour one alternative over another for every picture alike. With a centre c both sides are centred first:

        x -> x / |x| - c,    p_i -> p_i / |p_i| - mean over all prototypes

    Parameters
    ----------
    prototypes : [P, d], P >= 2: text embeddings of the same encoder, or mean image embeddings. All texts or all pictures.
    asked : row of the asked subject.   threshold : lowest margin.   names : P texts, or none.
    scale : spread of the margin among usual samples, the unit of the penalty.
    centre : [d], the mean of unit picture embeddings over everything the prototypes name, or None: nothing is centred.
    """

    name = "contrast"

    @property
    def allowed(self) -> tuple[float, float]:
        return self.threshold, math.inf

    def __init__(
        self,
        prototypes: Tensor,
        asked: int,
        threshold: float,
        names: tuple[str, ...] = (),
        *,
        scale: float = 0.05,
        space: EmbeddingSpace | None = None,
        centre: Tensor | None = None,
    ):
        if prototypes.dim() != 2 or len(prototypes) < 2:
            raise RarityError(
                "A contrast guardrail needs the asked subject and at least one alternative, one prototype each, "
                f"got shape {tuple(prototypes.shape)}. Name alternatives that the subject must not turn into."
            )
        if not torch.isfinite(prototypes).all() or not (prototypes.norm(dim=1) > 0).all():
            raise RarityError("Prototypes of a contrast guardrail must be finite and not zero.")
        if not 0 <= asked < len(prototypes):
            raise RarityError(f"The asked subject must be one of the {len(prototypes)} prototypes, got number {asked}.")
        if names and len(names) != len(prototypes):
            raise RarityError(f"Expected {len(prototypes)} names of prototypes, got {len(names)}.")
        unit = normalize(here(prototypes), dim=1)
        if centre is not None:
            if centre.shape != unit.shape[1:] or not torch.isfinite(centre).all():
                raise RarityError(
                    f"The centre of a contrast guardrail must be {unit.shape[1]} finite numbers, got shape {tuple(centre.shape)}."
                )
            unit = normalize(unit - unit.mean(dim=0), dim=1)
        self.centre = None if centre is None else ordinary(centre)
        self.subject = ordinary(unit[asked])
        self.others = ordinary(torch.cat([unit[:asked], unit[asked + 1 :]]))
        self.names, self.asked, self.space = tuple(names), int(asked), space
        self.threshold, self.scale = float(threshold), max(float(scale), 1e-6)

    @classmethod
    def from_baseline(
        cls,
        prototypes: Tensor,
        asked: int,
        baseline: Embeddings,
        quantile: float = 0.5,
        names: tuple[str, ...] = (),
        *,
        centred: bool = False,
    ) -> ContrastGuardrail:
        """The threshold is this quantile of the usual samples' own margins, the scale their standard deviation.

        `centred` centres both sides. The baseline shows the asked subject alone, and its own mean is no centre: taking
        that away takes the subject away. But it lies where the asked prototype lies, a gap apart, so the centre is

            c = mean of x / |x| - (p_asked / |p_asked| - mean of p_i / |p_i|),

        for picture prototypes very nearly their mean. With the built-in miniature, which was trained on these letters,
        nothing needs centring: letters decoded, encoded again and told from the 25 others have an AUC of 0.9998 either way
        (worst letter 0.997 and 0.994; picture prototypes 0.9999 and 0.9999); with the baseline's mean taken away 98 of
        100 margins above zero become 20. Centred, the share of margins above zero rises from 0.975 to 0.998.
        """
        _check_quantile(quantile)
        if prototypes.dim() == 2 and prototypes.shape[1] != baseline.space.width:
            raise RarityError(
                f"Prototypes are {prototypes.shape[1]} wide, the embeddings {baseline.space.width}. "
                "Encode the subject and its alternatives with the model that made the embeddings."
            )
        rail = cls(prototypes, asked, 0.0, names, space=baseline.space)
        if centred:
            unit = normalize(here(prototypes), dim=1)
            centre = normalize(baseline.vectors.double(), dim=1).mean(dim=0) - (unit[asked] - unit.mean(dim=0))
            rail = cls(prototypes, asked, 0.0, names, space=baseline.space, centre=centre)
        margins = rail.reading(baseline.vectors)
        rail.threshold = float(torch.quantile(margins, quantile))
        rail.scale = max(float(margins.std(correction=0)), 1e-6)
        return rail

    @classmethod
    def from_pictures(cls, baseline: Embeddings, alternatives: Embeddings, quantile: float = 0.5) -> ContrastGuardrail:
        """Prototypes from pictures, for encoders that read no words: the baseline's mean, and that of each alternative.

        The alternatives' labels say which rows belong together; without labels all rows are one alternative.
        """
        baseline.space.require_same(alternatives.space, "pictures of alternatives")
        labels = alternatives.labels or ("alternative",) * len(alternatives)
        names = tuple(dict.fromkeys(labels))
        groups = [baseline.vectors, *(alternatives.vectors[[label == name for label in labels]] for name in names)]
        prototypes = torch.stack([normalize(rows.double(), dim=1).mean(dim=0) for rows in groups])
        return cls.from_baseline(prototypes, 0, baseline, quantile, ("subject", *names))

    def reading(self, x: Tensor) -> Tensor:
        unit = _unit(x, len(self.subject))
        if self.centre is not None:
            unit = normalize(unit - self.centre, dim=1)
        return unit @ self.subject - (unit @ self.others.T).amax(dim=1)

    def penalty(self, x: Tensor) -> Tensor:
        return (self.threshold - self.reading(x)).clamp_min(0) / self.scale


def _unit(x: Tensor, width: int) -> Tensor:
    if x.dim() != 2 or x.shape[1] != width:
        raise RarityError(f"This guardrail was made for embeddings of shape [N, {width}], got {tuple(x.shape)}.")
    return normalize(here(x), dim=1)


def _check_quantile(quantile: float) -> None:
    if not 0 <= quantile < 1:
        raise RarityError(f"A guardrail's quantile must be from 0 to below 1, got {quantile}.")
