"""What all encoders of pictures and text share: they check their input, and take some pictures at a time."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Protocol

import torch
from torch import Tensor

from ...density.base.embeddings import Embeddings
from ...density.base.errors import RarityError, quoted
from ...density.base.framing import MIDDLE, WHOLE, framed, view
from ...density.base.identity import picture_keys
from ...density.base.picture_checks import as_pictures
from ...density.base.progress import Progress
from ...density.base.spaces import EmbeddingSpace
from ..runtime.memory import Placement, in_pieces
from .prompt_tokens import Reading

PIXELS = 1 << 24  # most pixels that are encoded at a time; to resize so many takes a quarter of a second


class Looks:
    """How an eye looks at pictures.

    framing : how much of a picture that is not square the eye is shown; see `framed`.
    crops : whether the eye takes the middle square of what it is shown; other eyes squash it to a square.
    mean : the colour that gives the network zeros.
    """

    framing: str = MIDDLE
    crops: bool = True
    mean: Sequence[float] = (0.48145466, 0.4578275, 0.40821073)  # the original CLIP's

    def frame(self, images: Tensor) -> Tensor:
        """Pictures [n, H, W, 3] in the frame in which the eye is shown them; see `framed`."""
        return framed(images, self.framing, self.mean)

    def view(self, height: int, width: int) -> dict:
        """An entry for the source of embeddings: how much of pictures of this size the eye sees; see `view`."""
        return view(height, width, self.framing, self.crops)


class Reader(Protocol):
    """Reads words into the space of its pictures: a Prior, or an encoder of OpenCLIP."""

    space: EmbeddingSpace

    def encode_text(self, prompts: list[str]) -> Tensor: ...

    def reads(self, texts: list[str]) -> list[Reading]: ...


def encode_pictures(
    images: Tensor,
    encode: Callable[[Tensor], Tensor],
    space: EmbeddingSpace,
    batch_size: int,
    placement: Placement,
    progress: Progress | None = None,
    looks: Looks | None = None,
    keys: Tensor | None = None,
) -> Embeddings:
    """Embeddings of pictures, some at a time.

    Parameters
    ----------
    images : [N, H, W, 3], values 0 to 1.
    encode : a function from pictures [n, H, W, 3] to [n, d], on any device.
    space : the space of its results.
    batch_size : pictures at a time; fewer if they are large (PIXELS), and half as many if they do not fit in memory.
    placement : is asked to make room if they do not fit.
    progress : called with (pictures done, N).
    looks : the eye that `encode` belongs to; None looks at the middle square.
    keys : [N], who the pictures are; None makes keys of all their pixels, as the eye sees them.

    Returns
    -------
    N embeddings with these keys. Their source says if the eye did not see the whole pictures as they are (`view`).

    Raises
    ------
    RarityError : pictures of another shape or range; not even one fits in memory.
    """
    images = as_pictures(images)
    looks, (height, width) = looks or Looks(), images.shape[1:3]
    at_once = min(batch_size, max(1, PIXELS // (max(height, width) ** 2 if looks.framing == WHOLE else height * width)))
    rows = []
    with torch.no_grad():
        pieces = in_pieces(
            range(len(images)), at_once, lambda piece: encode(looks.frame(images[piece.start:piece.stop])).float().cpu(),
            placement,
        )
        for piece, found in pieces:
            rows.append(found)
            if progress:
                progress(piece.stop, len(images))
    seen_as = looks.view(height, width)
    keys = picture_keys(images, {**space.to_dict(), **seen_as}) if keys is None else keys
    return Embeddings(torch.cat(rows), space, source={"kind": "pictures", **seen_as}, keys=keys)


def check_text(text: str, name: str = "prompt") -> None:
    """Raise a RarityError unless this is a text that can be read. name : what the error calls it."""
    check_texts([text], name)


def check_texts(texts: list[str], name: str = "prompt") -> None:
    """Raise a RarityError unless there is at least one text, and all can be read. name : what the error calls them."""
    if not texts:
        raise RarityError(f"There is no text to encode: give at least one {name}.")
    for text in texts:
        if not isinstance(text, str) or not text.strip():
            raise RarityError(f"The {name} must be some text, got {quoted(text)}. Write what to draw, such as 'a letter R'.")
        if any("\ud800" <= letter <= "\udfff" for letter in text):  # half of an emoji; browsers can cut one in two
            raise RarityError(f"The {name} {quoted(text)} holds half a character. Type it again.")
