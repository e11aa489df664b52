"""How long work tells where it stands: what it calls may raise, and that cancels it."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

PART = 512  # rows that are measured between two calls


def steps(progress: Callable[[int, int], None] | None, total: int) -> Callable[..., None]:
    """A function that counts its calls and tells `progress` of each, as (done, total); called with 0 it tells, and counts nothing."""
    done = 0

    def tick(count: int = 1) -> None:
        nonlocal done
        done += count
        if progress:
            progress(done, total)

    return tick


def waiting(progress: Callable[[int, int], None] | None) -> Callable[[], None]:
    """A function that tells `progress` of nothing done, as (0, 1): the bar waits, cancel works."""
    return lambda: progress and progress(0, 1)


def in_parts(measure: Callable[[Tensor], Tensor], rows: Tensor, tick: Callable[[], None] | None = None) -> Tensor:
    """measure(rows), some rows at a time; `tick` is called after each part, and may raise."""
    parts = []
    for part in rows.split(PART):
        parts.append(measure(part))
        if tick:
            tick()
    return torch.cat(parts)
