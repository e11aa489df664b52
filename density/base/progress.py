"""How long work reports its progress. It calls a function, which cancels the work by raising an exception."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

PART = 512  # rows that are measured between two calls

Progress = Callable[[int, int], None]  # called with (done, total)


def steps(progress: Progress | None, total: int) -> Callable[..., None]:
    """A function that counts its calls and reports each as progress(done, total). Called with 0, it only reports."""
    done = 0

    def tick(count: int = 1) -> None:
        nonlocal done
        done += count
        if progress:
            progress(done, total)

    return tick


def waiting(progress: Progress | None) -> Callable[[], None]:
    """A function that calls progress(0, 1): the bar stays where it is, and the work can be cancelled."""
    return lambda: progress and progress(0, 1)


def in_parts(measure: Callable[[Tensor], Tensor], rows: Tensor, tick: Callable[[], None] | None = None) -> Tensor:
    """measure(rows), computed for PART rows at a time; `tick` is called after each part, and may raise."""
    parts = []
    for part in rows.split(PART):
        parts.append(measure(part))
        if tick:
            tick()
    return torch.cat(parts)
