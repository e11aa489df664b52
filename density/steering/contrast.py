"""A guardrail that keeps a result more like the asked subject than like anything else it might turn into."""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
from torch import Tensor
from torch.nn.functional import normalize

from ..base.embeddings import Embeddings
from ..base.errors import RarityError, quoted
from ..base.spaces import EmbeddingSpace
from ..base.tensors import here, ordinary
from .guardrails import TOLERANCE, Watch, check_quantile, unit_rows


class ContrastGuardrail(Watch):
    """Stay more like the asked subject than like any alternative, by the encoder's own zero-shot margin.

        margin(x) = cos(x, p_asked) - max over the others of cos(x, p_other),    penalty = (threshold - margin)+ / scale

    A high cosine to the subject alone is easy to reach without showing the subject; a margin over named alternatives is
    much harder to fool. Texts lie apart from pictures (the modality gap: Liang et al. 2022). What all prototypes have
    in common cancels in a margin. The gap may still favour one alternative over another, equally for every picture.
    With a centre c, pictures and prototypes are centred first:

        x -> x / |x| - c,    p_i -> p_i / |p_i| - mean over all prototypes

    Parameters
    ----------
    prototypes : [P, d], P >= 2: text embeddings of the same encoder, or mean image embeddings. All texts or all pictures.
    asked : row of the asked subject.   threshold : lowest margin.
    scale : spread of the margin among usual samples, the unit of the penalty.
    centre : [d], the mean of unit picture embeddings over everything the prototypes name; None centres nothing.
    """

    name = "contrast"

    @property
    def allowed(self) -> tuple[float, float]:
        return self.threshold - TOLERANCE * self.scale, math.inf

    def __init__(
        self,
        prototypes: Tensor,
        asked: int,
        threshold: float,
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
        self.threshold, self.scale, self.space = float(threshold), max(float(scale), 1e-6), space

    @classmethod
    def from_baseline(
        cls,
        prototypes: Tensor,
        asked: int,
        baseline: Embeddings,
        quantile: float = 0.5,
        *,
        centred: bool = False,
        names: Sequence[str] = (),
        notes: tuple[str, ...] = (),
    ) -> ContrastGuardrail:
        """A guardrail whose threshold is this quantile of the usual samples' own margins, its scale their spread.

        The spread is the standard deviation. `names` are the names of the prototypes, for the notes; `notes` are
        further sentences for the user. A threshold of 0 or below accepts embeddings that are as much like an
        alternative as like the subject; the guardrail then gets a note that says so.

        `centred` centres pictures and prototypes. The baseline's own mean cannot be the centre: the baseline shows only
        the asked subject, so subtracting its mean removes the subject. But this mean differs from the asked prototype
        only by the gap, so the centre is

            c = mean of x / |x| - (p_asked / |p_asked| - mean of p_i / |p_i|)

        For prototypes made of pictures this is very nearly the prototypes' mean. The built-in miniature was trained on
        these letters and needs no centring. Its letters were decoded, encoded again and told from the 25 others: the
        AUC is 0.9998 without and with centring (worst letter 0.997 and 0.994; picture prototypes 0.9999 and 0.9999).
        The share of margins above zero rises from 0.975 to 0.998 with centring. Subtracting the baseline's own mean
        instead lowers it from 98 to 20 in 100.
        """
        check_quantile(quantile)
        if prototypes.dim() == 2 and prototypes.shape[1] != baseline.space.width:
            raise RarityError(
                f"Prototypes are {prototypes.shape[1]} wide, the embeddings {baseline.space.width}. "
                "Encode the subject and its alternatives with the model that made the embeddings."
            )
        rail = cls(prototypes, asked, 0.0, space=baseline.space)
        if centred:
            unit = normalize(here(prototypes), dim=1)
            centre = normalize(baseline.vectors.double(), dim=1).mean(dim=0) - (unit[asked] - unit.mean(dim=0))
            rail = cls(prototypes, asked, 0.0, space=baseline.space, centre=centre)
        margins = rail.reading(baseline.vectors)
        rail.threshold = float(torch.quantile(margins, quantile))
        rail.scale = max(float(margins.std(correction=0)), 1e-6)
        rail.notes = (*notes, *rail._doubt(baseline.vectors, margins, asked, quantile, names))
        return rail

    def _doubt(self, x: Tensor, margins: Tensor, asked: int, quantile: float, names: Sequence[str]) -> tuple[str, ...]:
        """A sentence if usual samples themselves are not clearly the subject; it names the nearest alternative."""
        slack = TOLERANCE * self.scale  # the margin of a text to itself is not always exactly 0
        if self.threshold > slack:
            return ()
        nearest = int((self._unit(x) @ self.others.T).argmax(dim=1).mode().values)
        others = [name for i, name in enumerate(names) if i != asked]
        rival = f"the alternative {quoted(others[nearest])}" if others else f"alternative {nearest + 1}"
        return (
            f"The contrast guardrail keeps little: {int((margins <= slack).sum()):,} of {len(margins):,} usual samples are no more like "
            f"the subject than like an alternative, and from them its threshold is {round(self.threshold, 3) + 0.0:.3f}, not above 0 (quantile "
            f"{quantile:g}). Nearest is {rival}. Leave that one out, name the subject as the prompt does, or raise the quantile.",
        )

    @classmethod
    def from_pictures(cls, baseline: Embeddings, alternatives: Embeddings, quantile: float = 0.5) -> ContrastGuardrail:
        """A guardrail for encoders that read no words: prototypes are the means of the baseline and the alternatives.

        The alternatives' labels say which rows belong together; without labels all rows are one alternative.
        """
        baseline.space.require_same(alternatives.space, "pictures of alternatives")
        labels = alternatives.labels or ("alternative",) * len(alternatives)
        named = [[label == name for label in labels] for name in dict.fromkeys(labels)]
        groups = [baseline.vectors, *(alternatives.vectors[mask] for mask in named)]
        prototypes = torch.stack([normalize(rows.double(), dim=1).mean(dim=0) for rows in groups])
        return cls.from_baseline(prototypes, 0, baseline, quantile, names=("", *dict.fromkeys(labels)))

    def reading(self, x: Tensor) -> Tensor:
        unit = self._unit(x)
        return unit @ self.subject - (unit @ self.others.T).amax(dim=1)

    def _unit(self, x: Tensor) -> Tensor:
        unit = unit_rows(x, len(self.subject))
        return unit if self.centre is None else normalize(unit - self.centre, dim=1)

    def penalty(self, x: Tensor) -> Tensor:
        return (self.threshold - self.reading(x)).clamp_min(0) / self.scale
