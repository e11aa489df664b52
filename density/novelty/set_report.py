"""All measures of how varied a set of pictures is, with a table that explains them in words."""

from __future__ import annotations

import math
from dataclasses import dataclass

from ..base.embeddings import Embeddings
from ..base.errors import RarityError
from ..base.progress import Progress, waiting
from .diversity import density_and_coverage, mean_pairwise_distance, rarity_score, vendi_scores

NEIGHBOURS = 5  # what lies within a reference picture's 5th neighbour counts as like it


@dataclass(frozen=True)
class Variety:
    """Measures of a set of `count` pictures, and of how it lies in a reference of `reference` pictures.

    Attributes
    ----------
    vendi, vendi_2, vendi_inf : Vendi scores of the orders 1, 2 and inf, from 1 to `count`.
    distance : mean Euclidean distance between two pictures, in units of the embedding.
    coverage, density : see `density_and_coverage`.   rarity : mean Rarity Score of the pictures it is defined for.
    outside : number of pictures outside of every ball of the reference. These four are None without a reference.
    """

    count: int
    vendi: float
    vendi_2: float
    vendi_inf: float
    distance: float
    reference: int = 0
    coverage: float | None = None
    density: float | None = None
    rarity: float | None = None
    outside: int | None = None

    def table(self) -> str:
        """One line for each measure, the figure first."""
        rows = [
            (f"{self.count:,}", "pictures"),
            (f"{self.vendi:.2f}", "different pictures in effect (Vendi score)"),
            (f"{self.vendi_2:.2f}", "the same, counting common kinds more (order 2)"),
            (f"{self.vendi_inf:.2f}", "the same, judged by the commonest kind alone (order inf)"),
            (f"{self.distance:.3f}", "mean distance between two of them"),
        ]
        if self.reference:
            rows += [
                (f"{self.coverage:.1%}", f"of the {self.reference:,} reference pictures have one of these near them (coverage)"),
                (f"{self.density:.2f}", "how thickly the reference lies around them; 1 is as in itself (density)"),
                (f"{self.outside:,}", "lie beyond all of the reference"),
            ]
            if not math.isnan(self.rarity):
                rows.append((f"{self.rarity:.3f}", "how sparse the reference is around the others (Rarity Score)"))
        width = max(len(figure) for figure, _ in rows)
        return "\n".join(f"{figure.rjust(width)}  {meaning}" for figure, meaning in rows)


    def brief(self) -> str:
        """What matters most, in a sentence or two."""
        text = f"As varied as {self.vendi:.1f} different pictures; there are {self.count:,}."
        if self.reference:
            text += (
                f"\n{self.coverage:.0%} of the {self.reference:,} reference pictures have one of these near them; "
                f"{self.outside:,} of these lie beyond all of the reference."
            )
        return text


def measure_variety(
    embeddings: Embeddings,
    reference: Embeddings | None = None,
    *,
    progress: Progress | None = None,
) -> Variety:
    """All measures of a set, and of how it lies in a reference if one is given.

    progress : called with (0, 1) several times a second; it may raise to cancel.

    Raises
    ------
    RarityError : different spaces; a reference of one picture; a row of length 0.
    """
    tick = waiting(progress)
    own = (len(embeddings), *vendi_scores(embeddings))
    tick()
    if reference is None:
        return Variety(*own, mean_pairwise_distance(embeddings, tick=tick))
    if len(reference) < 2:
        raise RarityError("A reference needs at least 2 pictures, got 1. Give more of what the set is compared with.")
    k = min(NEIGHBOURS, len(reference) - 1)
    density, coverage = density_and_coverage(reference, embeddings, k, tick=tick)
    rarity = rarity_score(reference, embeddings, k, tick=tick)
    inside = ~rarity.isnan()
    return Variety(
        *own,
        distance=mean_pairwise_distance(embeddings, tick=tick),
        reference=len(reference),
        coverage=coverage,
        density=density,
        rarity=float(rarity[inside].mean()),
        outside=int((~inside).sum()),
    )
