"""A tree of merges in the order of the shards, whatever the order they are finished in."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from . import tasks
from .shards import Origin, Pictures, Samples

FAN = 16  # shards or parts that are merged in one piece of work
SOON = 1  # before shards that were not begun: what is merged needs no memory of its own


class MergeTree:
    """Lets the workers merge finished shards, FAN at a time, then FAN of what comes out, and so on.

    Which are merged together depends on their places only, so the result does not depend, in any bit, on how many workers there
    are and which shard was finished first. Here are only the keys of the rows (8 bytes each): they tell which rows of a shard were
    in an earlier one, too, and count there.

    Parameters
    ----------
    client : of the cluster.   origin, shards : of the job; each shard with its file.

    Attributes
    ----------
    rows : different rows in what was taken so far.
    """

    def __init__(self, client, origin: Origin, shards: list[tuple[Samples | Pictures, Path]]):
        self._client, self._origin, self._shards = client, origin, shards
        self._finished: dict[int, Tensor] = {}  # by place: the keys of shards that wait for an earlier one
        self._next = 0
        self._group: list[int] = []
        self._group_keys: list[Tensor] = []
        self._seen = np.empty(0, dtype=np.int64)  # ascending: the keys of all groups before this one
        self._levels: list[list] = []

    @property
    def rows(self) -> int:
        return len(self._seen)

    def take(self, place: int, keys: Tensor) -> None:
        """The shard at this place is finished, and these are its rows."""
        self._finished[place] = keys
        while self._next in self._finished:
            self._add(self._next)
            self._next += 1

    def take_the_rest(self) -> None:
        """No more shards will be finished: those that waited for others are merged behind them."""
        for place in sorted(self._finished):
            self._add(place)
        self._close_group()

    def learn(self, out: Path, estimator: str, components: int, note: str):
        """A future of the description of the density of all that was taken, which is then written to `out`."""
        parts = [part for level in reversed(self._levels) for part in level]
        return self._client.submit(tasks.learn, parts, self._origin, out, estimator, components, note, pure=False)

    def _add(self, place: int) -> None:
        self._group.append(place)
        self._group_keys.append(self._finished.pop(place))
        if len(self._group) == FAN:
            self._close_group()

    def _close_group(self) -> None:
        if not self._group:
            return
        keys = np.unique(torch.cat(self._group_keys).numpy())
        at = np.searchsorted(self._seen, keys)
        again = np.zeros(len(keys), dtype=bool)
        again[at < len(self._seen)] = self._seen[at[at < len(self._seen)]] == keys[at < len(self._seen)]
        shards = [self._shards[place] for place in self._group]
        self._rise(0, tasks.merge_shards, shards, self._origin, torch.from_numpy(keys[again]))
        self._seen = np.insert(self._seen, at[~again], keys[~again])
        self._group, self._group_keys = [], []

    def _rise(self, level: int, merge, *given) -> None:
        """Have something merged, and what comes out with FAN - 1 others of its level."""
        if level == len(self._levels):
            self._levels.append([])
        self._levels[level].append(self._client.submit(merge, *given, pure=False, priority=SOON))
        if len(self._levels[level]) == FAN:
            parts, self._levels[level] = self._levels[level], []
            self._rise(level + 1, tasks.merge_parts, parts)
