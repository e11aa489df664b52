"""A tree of merges in the order of the shards, whatever the order in which they are finished."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from . import tasks
from .shards import Origin, Pictures, Samples

FAN = 16  # shards or parts that are merged in one piece of work
SOON = 1  # priority: merges come before shards that have not begun, because merged parts free their memory


class MergeTree:
    """Lets the workers merge finished shards, FAN at a time, then FAN of the merged parts, and so on.

    The places of shards alone decide which are merged together. So the number of workers, and the order in which shards
    are finished, change no bit of the result. This object holds only the keys of the rows (8 bytes each). They show
    which rows of a shard were in an earlier shard already and count there.

    Parameters
    ----------
    client : of the cluster.   origin, shards : of the job; each shard with its file.

    Attributes
    ----------
    rows : number of different rows so far.
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
        """Take the shard at this place, which is finished and has rows with these keys."""
        self._finished[place] = keys
        while self._next in self._finished:
            self._add(self._next)
            self._next += 1

    def take_the_rest(self) -> None:
        """Take the shards that wait for an earlier one, because no more shards will be finished."""
        for place in sorted(self._finished):
            self._add(place)
        self._close_group()

    def learn(self, out: Path, estimator: str, components: int, note: str):
        """Let a worker learn the density of all shards and write it to `out`. Returns a future of its description."""
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
        """Let a worker merge something. When a level holds FAN results, they are merged on the next level."""
        if level == len(self._levels):
            self._levels.append([])
        self._levels[level].append(self._client.submit(merge, *given, pure=False, priority=SOON))
        if len(self._levels[level]) == FAN:
            parts, self._levels[level] = self._levels[level], []
            self._rise(level + 1, tasks.merge_parts, parts)
