"""What every encoder of pictures and text does alike: check what it is given, and take some pictures at a time."""

from __future__ import annotations

from collections.abc import Callable
from typing import Protocol

import torch
from torch import Tensor

from ..density.embeddings import Embeddings
from ..density.errors import RarityError, quoted
from ..density.identity import picture_keys
from ..density.pictures import as_pictures
from ..density.spaces import EmbeddingSpace
from .memory import Placement, in_pieces
from .reading import Reading

Progress = Callable[[int, int], None]
PIXELS = 1 << 24  # looked at in one go, at most: resizing so many takes a quarter of a second
ONE_EYE = "Connect one, and the same one throughout the graph: embeddings of two encoders cannot be compared."


class Reader(Protocol):
    """Whatever reads words into the space of its pictures: a Prior, or an encoder of OpenCLIP."""

    space: EmbeddingSpace

    def encode_text(self, prompts: list[str]) -> Tensor: ...

    def reads(self, texts: list[str]) -> list[Reading]: ...


def the_one(node: str, /, *, needed: bool = True, advice: str = ONE_EYE, **sockets):
    """What is connected to the one socket, of several, that something is connected to.

    Parameters
    ----------
    node : whose sockets they are.   needed : whether nothing at all is an error.   advice : what to do, the error's last words.
    sockets : None where nothing is.

    Raises
    ------
    RarityError : several are connected; or none, and one is needed.
    """
    given = {name: value for name, value in sockets.items() if value is not None}
    if len(given) > 1 or (needed and not given):
        *names, last = sockets
        raise RarityError(
            f"{node} needs {'exactly' if needed else 'at most'} one of {', '.join(names)} and {last}, "
            f"got {' and '.join(given) or 'none'}. {advice}"
        )
    return next(iter(given.values()), None)


def encode_pictures(
    images: Tensor,
    encode: Callable[[Tensor], Tensor],
    space: EmbeddingSpace,
    batch_size: int,
    placement: Placement,
    progress: Progress | None = None,
) -> Embeddings:
    """Embeddings of pictures, some at a time.

    Parameters
    ----------
    images : [N, H, W, 3], values 0 to 1.
    encode : pictures [n, H, W, 3] -> [n, d] on any device.
    space : of what it makes.
    batch_size : pictures at a time, fewer of large ones (PIXELS); halved where they do not fit in memory.
    placement : is asked to make room then.
    progress : called with (pictures done, N).

    Returns
    -------
    N embeddings, whose keys are those of the pictures.

    Raises
    ------
    RarityError : another shape or range of pictures; not even one fits in memory.
    """
    images = as_pictures(images)
    at_once = min(batch_size, max(1, PIXELS // (images.shape[1] * images.shape[2])))
    rows = []
    with torch.no_grad():
        pieces = in_pieces(
            range(len(images)), at_once, lambda piece: encode(images[piece.start:piece.stop]).float().cpu(), placement
        )
        for piece, found in pieces:
            rows.append(found)
            if progress:
                progress(piece.stop, len(images))
    keys = picture_keys(images, space.to_dict())
    return Embeddings(torch.cat(rows), space, source={"kind": "pictures"}, keys=keys)


def check_texts(texts: list[str]) -> None:
    """Raise RarityError unless there is at least one text, and each is one that can be read."""
    if not texts:
        raise RarityError("There is no text to encode: give at least one prompt.")
    for text in texts:
        if not isinstance(text, str) or not text.strip():
            raise RarityError(f"The prompt must be some text, got {quoted(text)}. Write what to draw, such as 'a letter R'.")
        if any("\ud800" <= letter <= "\udfff" for letter in text):  # an emoji that was cut in two, as a browser does
            raise RarityError(f"The prompt {quoted(text)} holds half a character. Type it again.")
