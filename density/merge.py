"""One density of samples that were drawn apart: on several machines, or at several times."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import reduce

from .embeddings import common
from .errors import RarityError
from .fit import learn_density
from .gaussian import GaussianDensity
from .statistics import Statistics


def merge_densities(
    densities: Sequence[GaussianDensity],
    *,
    components: int = 0,
    seed: int = 0,
    progress: Callable[[int, int], None] | None = None,
) -> GaussianDensity:
    """The density of all samples together: their statistics are merged, and the same estimator learns again from them.

    It is the density that the samples would have given at once, whatever the order.

    Parameters
    ----------
    densities : one or more of one space and one estimator, learnt from different draws.
    components, seed : as for the fit: 0 chooses the components anew, from all samples.
    progress : called with (done, total).

    Returns
    -------
    A density of the same kind; its source holds what all sources have alike.

    Raises
    ------
    RarityError : no density, different spaces or estimators, samples that two of them share.
    """
    densities = list(densities)
    if not densities:
        raise RarityError("There are no densities to merge: give at least one.")
    first = densities[0]
    for other in densities[1:]:
        first.space.require_same(other.space, "densities to merge")
        if other.estimator != first.estimator:
            raise RarityError(
                f"Densities to merge must be of one estimator, got {first.estimator} and {other.estimator}. "
                "Learn all of them with the same one."
            )
    return learn_density(
        reduce(Statistics.merge, (density.statistics for density in densities)),
        first.space,
        first.estimator,
        source=common([density.source for density in densities]),
        components=components,
        seed=seed,
        progress=progress,
    )
