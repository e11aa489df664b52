"""Where a model runs, and what happens if there is not enough memory for it."""

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

# Words in torch's error on devices that have no OutOfMemoryError: the processor, and Apple's GPUs.
_OUT_OF_MEMORY = ("can't allocate memory", "not enough memory", "out of memory")


class Placement:
    """Brings models to the device on which they run. This class leaves each model where it was loaded.

    A host that shares its GPU among many models gives the Prior and the Decoder a placement of its own.
    """

    def bring(self, model: torch.nn.Module) -> torch.device:
        """Bring the whole model to the device on which it runs, and return that device. Called before each use."""
        return next(model.parameters()).device

    def make_room(self) -> None:
        """Free as much memory as possible. Called after something did not fit, before it is tried again."""
        forget()
        if torch.cuda.is_available():
            torch.cuda.empty_cache()


ON_PROCESSOR = 256  # samples at a time on the processor; more are hardly faster
MOST = 2500  # samples at a time on a graphics card; more are hardly faster, and a cancel would take longer


def automatic_batch(count: int, each: int, device: torch.device) -> int:
    """How many samples to draw at a time, so that all pieces are of about one size.

    Parameters
    ----------
    count : number of all samples.   each : bytes that one sample needs on the device.   device : where they are drawn.

    Returns
    -------
    256 on the processor. On a graphics card as many as half of its free memory holds, at most 2,500.
    """
    if device.type != "cuda":
        return ON_PROCESSOR
    most = int(min(MOST, max(1, room(device) // 2 // each)))
    return -(-count // -(-count // most))


def room(device: torch.device) -> float:
    """The bytes that are free on a graphics card, with those that torch holds unused; infinity on other devices."""
    if device.type != "cuda":
        return math.inf
    return torch.cuda.mem_get_info(device)[0] + torch.cuda.memory_reserved(device) - torch.cuda.memory_allocated(device)


ADVICE = "Close other programs, load the model in half precision, or ask for smaller pictures."


def in_pieces(
    rows: range, size: int, work: Callable[[range], Result], placement: Placement, advice: str = ADVICE
) -> Iterator[tuple[range, Result]]:
    """Work through rows, `size` at a time. A piece that does not fit in memory is tried again with half as many rows.

    Parameters
    ----------
    rows : consecutive indices.
    size : how many rows at a time. If it is halved, it stays halved.
    work : a function of a piece of the rows. Its result for a row must not depend on the other rows of the piece.
    placement : is asked to make room before the next try.
    advice : what the error tells the user to do if not even one row fits.

    Returns
    -------
    Pairs (piece, result of `work`), in order. The pieces together are all rows.

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
    """Whether this error of torch means too little memory, on any device."""
    if isinstance(error, torch.cuda.OutOfMemoryError):
        return True
    return isinstance(error, RuntimeError) and any(words in str(error) for words in _OUT_OF_MEMORY)


def too_little_memory(complaint: str, advice: str = ADVICE) -> RarityError:
    """The error if not even one at a time fits. complaint : what torch said."""
    return RarityError(f"There is not enough memory for even one at a time: {complaint} {advice}")


def attempt(work: Callable[..., Result], *given) -> tuple[Result | None, str | None]:
    """(the result of `work`, None); or (None, what torch said) if it ran out of memory.

    The error object is not kept, because it would keep all tensors of the failed work alive.
    """
    try:
        return work(*given), None
    except RuntimeError as error:
        if not is_out_of_memory(error):
            raise
        return None, str(error).splitlines()[0]
