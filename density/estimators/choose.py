"""One call for every kind of density; "auto" chooses among them by held-out samples."""

from __future__ import annotations

from collections.abc import Iterable

from ..base.embeddings import Embeddings
from ..base.errors import RarityError
from ..base.log import get_logger
from ..base.progress import Progress, steps
from ..base.spaces import EmbeddingSpace
from ..base.tensors import plain
from ..statistics.gather import gather
from ..statistics.sufficient_statistics import Statistics
from .contract import Density, check_shell
from .cross_fit import ESTIMATORS, CrossFit, learn
from .gaussian import GaussianDensity
from .mixture import MixtureDensity
from .mixture_choice import STEPS, learn_mixture
from .neighbour_density import NeighbourDensity

log = get_logger(__name__)

CHOICES = ("auto", *ESTIMATORS, "mixture", "neighbours")


def fit_density(
    embeddings: Embeddings | Iterable[Embeddings],
    estimator: str = "ppca",
    *,
    components: int = 0,
    seed: int = 0,
    progress: Progress | None = None,
) -> Density:
    """Learn a density of any kind.

    Parameters
    ----------
    embeddings : N samples of one prompt, at once or batch by batch.
    estimator : "ppca", "ledoit-wolf", "oas", "full", "qis", "mixture", "neighbours" or "auto". "auto" takes the estimator
        with the highest held-out log-likelihood per dimension, and says so in a note. It never takes "neighbours", whose
        density is not normalised and so cannot be compared.
    components : k of ppca, of a mixture and of the frame around neighbours; 0 chooses it.
    seed : of the calibration's draws and of a mixture's first guess.   progress : called with (done, total).

    Raises
    ------
    RarityError : an unknown estimator; and as `Density.fit`.
    """
    check_estimator(estimator)
    statistics, space, source = gather(embeddings, progress)
    return learn_density(
        statistics, space, estimator, source=source, components=components, seed=seed, progress=progress
    )


def learn_density(
    statistics: Statistics,
    space: EmbeddingSpace,
    estimator: str,
    *,
    source: dict | None = None,
    components: int = 0,
    modes: int = 0,
    seed: int = 0,
    progress: Progress | None = None,
) -> Density:
    """Learn a density from statistics. Parameters as for `fit_density`; modes : K of a mixture, 0 chooses it."""
    check_estimator(estimator)
    options = {"source": source, "components": components, "seed": seed, "progress": progress}
    if estimator == "mixture":
        return MixtureDensity.from_statistics(statistics, space, modes=modes, **options)
    if estimator == "neighbours":
        return NeighbourDensity.from_statistics(statistics, space, **options)
    if estimator == "auto":
        return _best(statistics, space, **options)
    return GaussianDensity.from_statistics(statistics, space, estimator=estimator, **options)


def _best(statistics: Statistics, space: EmbeddingSpace, *, source, components, seed, progress) -> Density:
    """The density with the highest held-out log-likelihood. A note holds the values of all estimators."""
    statistics, tick = statistics.copy(), steps(progress, STEPS)
    with plain():
        cross = CrossFit(statistics, tick)
        cross.require("ppca", components)
        ppca = cross.log_likelihoods("ppca", components)
        k = components or int(ppca.argmax()) + 1
        figures = {"ppca": float(ppca[k - 1])}
        for estimator in ESTIMATORS[1:]:
            if estimator != "full" or (cross.rank == statistics.width < cross.fewest()):
                figures[estimator] = float(cross.log_likelihoods(estimator))
        fields, mixed = learn_mixture(cross, k, 0, seed, tick)
        density = MixtureDensity(space=space, source=source, statistics=statistics, **fields)
        kinds = len(density.modes.weights)
        if kinds > 1:
            figures["mixture"] = mixed
        best = max(figures, key=figures.get)
        if best != "mixture":
            fields = learn(cross, best, k if best == "ppca" else 0, seed)
            density = GaussianDensity(space=space, source=source, statistics=statistics, **fields)
    names = {"ppca": f"ppca with {k} component{'s' * (k > 1)}", "mixture": f"a mixture of {kinds}"}
    listed = ", ".join(f"{names.get(name, name)} {value:.3f}" for name, value in figures.items())
    for note in density.notes:
        log.warning("%s", note)
    chosen = f"Chosen: {names.get(best, best)}; held-out log-likelihood per dimension (higher is better): {listed}."
    log.info("%s", chosen)
    density.notes = (*density.notes, chosen)
    return density


def check_estimator(estimator: str) -> None:
    """Raise a RarityError unless `fit_density` knows the estimator."""
    if estimator not in CHOICES:
        raise RarityError(f"An estimator is one of {', '.join(CHOICES)}; got {estimator!r}.")


def check_steers(estimator: str) -> None:
    """Raise a RarityError if embeddings cannot be moved along the shells of what this estimator learns."""
    for kind in (GaussianDensity, MixtureDensity, NeighbourDensity):
        if estimator in kind.estimators:
            check_shell(kind)
