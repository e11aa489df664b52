"""One density of samples that were drawn on several machines, or at several times."""

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
    """The density of all samples together: the statistics are merged, and the same estimator learns from them.

    It is the density that one fit of all samples would have given, in any order. If the densities are of several
    estimators, "auto" chooses again from all samples. If all densities are mixtures for which the same number of modes
    was asked, the result has that number, too.

    Parameters
    ----------
    densities : one or more densities of one space, learnt from different draws. Each stands alone, or in a pair with its
        file, which errors then name. They are read one after the other, so that of an iterator only one is in memory.
    components, seed : as for the fit. 0 chooses the components again, from all samples.
    progress : called with (done, total).

    Returns
    -------
    A density. Its source holds what is the same in all sources.

    Raises
    ------
    RarityError : no density, different spaces, samples that two densities share; a density of neighbours beside one of
        another estimator.
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
    """The statistics of the densities so far and of one more; `estimators` holds the estimators of all of them."""
    space.require_same(density.space, "densities to merge")
    if "neighbours" in estimators and len(estimators) > 1:
        raise RarityError(
            f"Densities to merge are of the estimators {', '.join(sorted(estimators))}. Distances to neighbours cannot be "
            "compared with the others: learn all of them with one estimator."
        )
    return density.statistics if statistics is None else statistics.merge(density.statistics)
