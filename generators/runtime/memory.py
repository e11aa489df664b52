"""Where a model runs, and what to do when there is not enough memory for it."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from typing import TypeVar

import torch

from ...density.base.errors import RarityError
from ...density.base.log import get_logger
from .captured import forget

Result = TypeVar("Result")

logger = get_logger(__name__)

# What torch says where it has no OutOfMemoryError: on the processor, and on Apple's GPUs.
_OUT_OF_MEMORY = ("can't allocate memory", "not enough memory", "out of memory")


class Placement:
    """Brings models to the device they run on. This one leaves each where it was loaded.

    A host that shares its GPU among many models gives the Prior and the Decoder a placement of its own.
    """

    def bring(self, model: torch.nn.Module) -> torch.device:
        """Make sure that the whole model is where it runs, and return that device. Called before each use."""
        return next(model.parameters()).device

    def make_room(self) -> None:
        """Free what can be freed. Called after something did not fit, before it is tried again."""
        forget()
        if torch.cuda.is_available():
            torch.cuda.empty_cache()


ON_PROCESSOR = 256  # samples at a time: more are hardly faster there
MOST = 2500  # on a graphics card: more are hardly faster, and whoever cancels waits longer


def automatic_batch(count: int, each: int, device: torch.device) -> int:
    """How many samples to draw at a time, in pieces of one size.

    Parameters
    ----------
    count : samples in all.   each : bytes that one needs on the device.   device : where they are drawn.

    Returns
    -------
    256 on the processor; on a graphics card as many as half of its free memory holds, at most 2,500.
    """
    if device.type != "cuda":
        return ON_PROCESSOR
    most = int(min(MOST, max(1, room(device) // 2 // each)))
    return -(-count // -(-count // most))


def room(device: torch.device) -> float:
    """The bytes that are free on a graphics card, those that torch holds idle among them; without end elsewhere."""
    if device.type != "cuda":
        return math.inf
    return torch.cuda.mem_get_info(device)[0] + torch.cuda.memory_reserved(device) - torch.cuda.memory_allocated(device)


ADVICE = "Close other programs, load the model in half precision, or ask for smaller pictures."


def in_pieces(
    rows: range, size: int, work: Callable[[range], Result], placement: Placement, advice: str = ADVICE
) -> Iterator[tuple[range, Result]]:
    """Work through rows, `size` at a time; what does not fit in memory is tried again with half as many.

    Parameters
    ----------
    rows : consecutive indices.
    size : how many of them at a time; once halved it stays so.
    work : makes something of a piece of the rows. It must not matter to it what lies beside a row.
    placement : is asked to make room before the next try.
    advice : what to do where not even one row fits.

    Returns
    -------
    Pairs (piece, what `work` made of it), in order, which together cover the rows.

    Raises
    ------
    RarityError : not even one row fits, or a size below 1.
    """
    if size < 1:
        raise RarityError(f"The batch size must be at least 1, got {size}.")
    start = rows.start
    while start < rows.stop:
        piece = range(start, min(start + size, rows.stop))
        found, complaint = attempt(work, piece)
        if complaint is None:
            yield piece, found
            start = piece.stop
            continue
        placement.make_room()
        if len(piece) == 1:
            raise too_little_memory(complaint, advice)
        size = (len(piece) + 1) // 2
        logger.warning("%d at a time do not fit in memory; going on with %d.", len(piece), size)


def is_out_of_memory(error: Exception) -> bool:
    """Whether torch ran out of memory, on whatever device."""
    if isinstance(error, torch.cuda.OutOfMemoryError):
        return True
    return isinstance(error, RuntimeError) and any(words in str(error) for words in _OUT_OF_MEMORY)


def too_little_memory(complaint: str, advice: str = ADVICE) -> RarityError:
    """The error for when not even one at a time fits; `complaint` is what torch said."""
    return RarityError(f"There is not enough memory for even one at a time: {complaint} {advice}")


def attempt(work: Callable[..., Result], *given) -> tuple[Result | None, str | None]:
    """(what `work` makes, None), or (None, what torch said) where it ran out of memory.

    The error is let go here: it holds on to every tensor so far.
    """
    try:
        return work(*given), None
    except RuntimeError as error:
        if not is_out_of_memory(error):
            raise
        return None, str(error).splitlines()[0]
