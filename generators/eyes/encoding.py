"""What every encoder of pictures and text does alike: check what it is given, and take some pictures at a time."""

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

PIXELS = 1 << 24  # looked at in one go, at most: resizing so many takes a quarter of a second
ONE_EYE = "Connect one, and the same one throughout the graph: embeddings of two encoders cannot be compared."


class Looks:
    """What every eye knows of how it looks at pictures.

    framing : how much of a picture that is not square it is shown; see `framed`.
    crops : whether it takes the middle square of what it is shown; some eyes squash it.
    mean : the colour that it takes for no signal.
    """

    framing: str = MIDDLE
    crops: bool = True
    mean: Sequence[float] = (0.48145466, 0.4578275, 0.40821073)  # the original CLIP's

    def frame(self, images: Tensor) -> Tensor:
        """Pictures [n, H, W, 3] as it is shown them; see `framed`."""
        return framed(images, self.framing, self.mean)

    def view(self, height: int, width: int) -> dict:
        """What a source says of how much of pictures of this size it sees; see `view`."""
        return view(height, width, self.framing, self.crops)


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
    looks: Looks | None = None,
    keys: Tensor | None = None,
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
    looks : the eye whose `encode` it is; None looks at the middle square.
    keys : [N], who the pictures are, where somebody knows; None asks all of their pixels.

    Returns
    -------
    N embeddings, whose keys are these, else those of the pictures as they were seen, and whose source tells where not all of them was
    seen as it is (`view`).

    Raises
    ------
    RarityError : another shape or range of pictures; not even one fits in memory.
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
    """Raise RarityError unless this is some text that can be read; `name` is what it is called."""
    check_texts([text], name)


def check_texts(texts: list[str], name: str = "prompt") -> None:
    """Raise RarityError unless there is at least one text, and each is one that can be read; `name` is what they are called."""
    if not texts:
        raise RarityError(f"There is no text to encode: give at least one {name}.")
    for text in texts:
        if not isinstance(text, str) or not text.strip():
            raise RarityError(f"The {name} must be some text, got {quoted(text)}. Write what to draw, such as 'a letter R'.")
        if any("\ud800" <= letter <= "\udfff" for letter in text):  # an emoji that was cut in two, as a browser does
            raise RarityError(f"The {name} {quoted(text)} holds half a character. Type it again.")
