"""One density of samples that were drawn apart: on several machines, or at several times."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import reduce

from ..base.embeddings import common
from ..base.errors import RarityError
from ..statistics.sufficient_statistics import Statistics
from .choose import learn_density
from .gaussian import GaussianDensity


def merge_densities(
    densities: Sequence[GaussianDensity],
    *,
    components: int = 0,
    seed: int = 0,
    progress: Callable[[int, int], None] | None = None,
) -> GaussianDensity:
    """The density of all samples together: their statistics are merged, and the same estimator learns again from them.

    It is the density that the samples would have given at once, whatever the order. Where the densities are of several
    estimators, as "auto" may choose for each by itself, "auto" chooses anew from all samples. Mixtures for which
    one number of modes was asked merge to one of that number.

    Parameters
    ----------
    densities : one or more of one space, learnt from different draws.
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
    densities = list(densities)
    if not densities:
        raise RarityError("There are no densities to merge: give at least one.")
    first = densities[0]
    for other in densities[1:]:
        first.space.require_same(other.space, "densities to merge")
    estimators = {density.estimator for density in densities}
    if "neighbours" in estimators and len(estimators) > 1:
        raise RarityError(
            f"Densities to merge are of the estimators {', '.join(sorted(estimators))}. Distances to neighbours cannot be "
            "compared with the others: learn all of them with one estimator."
        )
    modes = {density.asked_modes if density.estimator == "mixture" else 0 for density in densities}
    return learn_density(
        reduce(Statistics.merge, (density.statistics for density in densities)),
        first.space,
        first.estimator if len(estimators) == 1 else "auto",
        source=common([density.source for density in densities]),
        components=components,
        modes=modes.pop() if len(modes) == 1 else 0,
        seed=seed,
        progress=progress,
    )
