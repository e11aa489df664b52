"""How many of the processor's threads a model is worth."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import torch

SMALL = 50_000_000  # parameters


@contextmanager
def threads_worth(model: torch.nn.Module) -> Iterator[None]:
    """Run a small model on one thread of the processor; a large one, or one on a GPU, keeps them all.

    A step of a small model is done in microseconds. Its threads then mostly wait for each other, which they do by
    spinning, and as soon as another program wants one of the cores they wait for that program, too: beside one busy
    program on two cores the miniature was 24 times slower on two threads than on one. Alone it is about as fast on one.

    Parameters
    ----------
    model : decides by its device and its number of parameters.
    """
    alone = next(model.parameters()).device.type == "cpu" and sum(p.numel() for p in model.parameters()) < SMALL
    before = torch.get_num_threads()
    torch.set_num_threads(1 if alone else before)
    try:
        yield
    finally:
        torch.set_num_threads(before)
