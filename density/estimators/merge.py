"""One density of samples that were drawn apart: on several machines, or at several times."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

from ..base.embeddings import common
from ..base.errors import RarityError
from ..base.progress import Progress
from ..base.spaces import EmbeddingSpace
from ..statistics.sufficient_statistics import Statistics
from .choose import learn_density
from .contract import Density


def merge_densities(
    densities: Iterable[Density | tuple[Path, Density]],
    *,
    components: int = 0,
    seed: int = 0,
    progress: Progress | None = None,
) -> Density:
    """The density of all samples together: their statistics are merged, and the same estimator learns again from them.

    It is the density that the samples would have given at once, whatever the order. Where the densities are of several
    estimators, as "auto" may choose for each by itself, "auto" chooses anew from all samples. Mixtures for which
    one number of modes was asked merge to one of that number.

    Parameters
    ----------
    densities : one or more of one space, learnt from different draws; each by itself, or with its file, which errors then
        name. They are taken one after the other: of an iterator no more than one is in memory beside the sum.
    components, seed : as for the fit: 0 chooses the components anew, from all samples.
    progress : called with (done, total).

    Returns
    -------
    A density; its source holds what all sources have alike.

    Raises
    ------
    RarityError : no density, different spaces, samples that two of them share; distances to neighbours beside densities
        of another estimator.
    """
    space, statistics, sources, estimators, modes = None, None, [], set(), set()
    for item in densities:
        path, density = item if isinstance(item, tuple) else (None, item)
        estimators.add(density.estimator)
        modes.add(density.asked_modes)
        sources.append(density.source)
        try:
            space = space or density.space
            statistics = _joined(statistics, density, space, estimators)
        except RarityError as error:
            if path is None:
                raise
            raise RarityError(f"{path}: {error}") from error
    if statistics is None:
        raise RarityError("There are no densities to merge: give at least one.")
    return learn_density(
        statistics,
        space,
        estimators.pop() if len(estimators) == 1 else "auto",
        source=common(sources),
        components=components,
        modes=modes.pop() if len(modes) == 1 else 0,
        seed=seed,
        progress=progress,
    )


def _joined(statistics: Statistics | None, density: Density, space: EmbeddingSpace, estimators: set[str]) -> Statistics:
    """The statistics of the densities so far and of one more, whose estimator is among them."""
    space.require_same(density.space, "densities to merge")
    if "neighbours" in estimators and len(estimators) > 1:
        raise RarityError(
            f"Densities to merge are of the estimators {', '.join(sorted(estimators))}. Distances to neighbours cannot be "
            "compared with the others: learn all of them with one estimator."
        )
    return density.statistics if statistics is None else statistics.merge(density.statistics)
