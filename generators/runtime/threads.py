"""How many threads of the processor a model should use."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import torch

SMALL = 50_000_000  # parameters


@contextmanager
def threads_worth(model: torch.nn.Module) -> Iterator[None]:
    """Run a small model on one thread of the processor. A large model, or a model on a GPU, uses all threads.

    A step of a small model takes microseconds, and its threads mostly wait for each other in a busy loop. If another
    program uses one of the cores, they wait for that program, too: on two cores, beside one busy program, the miniature
    was 24 times slower on two threads than on one. Without other programs it is about as fast on one thread.

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
