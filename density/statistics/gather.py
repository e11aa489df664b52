"""Gather the statistics that a density is learnt from, from embeddings at once or batch by batch."""

from __future__ import annotations

from collections.abc import Iterable

from ..base.embeddings import Embeddings, common
from ..base.errors import RarityError
from ..base.progress import Progress
from ..base.spaces import EmbeddingSpace
from .sufficient_statistics import Statistics


def gather(
    embeddings: Embeddings | Iterable[Embeddings], progress: Progress | None = None
) -> tuple[Statistics, EmbeddingSpace, dict]:
    """Statistics, space and source of embeddings. Only one batch is in memory at a time.

    Parameters
    ----------
    embeddings : one set, or batches of one space.   progress : called with (0, 1) after every batch, and may raise.

    Raises
    ------
    RarityError : no batch, something that is no embeddings, batches of different spaces.
    """
    statistics, space, source = None, None, {}
    for batch in (embeddings,) if isinstance(embeddings, Embeddings) else embeddings:
        if not isinstance(batch, Embeddings):
            raise RarityError(f"A density is learnt from embeddings, got {type(batch).__name__}.")
        if statistics is None:
            statistics, space, source = Statistics(batch.space.width), batch.space, batch.source
        space.require_same(batch.space, "embeddings to learn from")
        source = common([source, batch.source])
        statistics.update(batch.vectors, batch.keys)
        if progress:
            progress(0, 1)
    if statistics is None:
        raise RarityError("There are no embeddings to learn a density from: give at least one batch.")
    return statistics, space, source
