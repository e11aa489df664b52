"""Which pictures to keep: the most novel of those that are novel enough, or those that a user names by number."""

from __future__ import annotations

import re
from collections.abc import Sequence

from torch import Tensor

from ..base.embeddings import Embeddings
from ..base.errors import RarityError
from ..base.progress import Progress, waiting
from ..base.tensors import here
from ..calibration.surprisal import one_in_from_bits


def rank(items: Embeddings, novelty: Tensor | Sequence[float], keep: int, floor_bits: float = 0.0) -> Tensor:
    """The `keep` most novel pictures that reach the floor, most novel first. Of equal ones the earlier comes first.

    Parameters
    ----------
    items : N pictures.   novelty : N numbers, bits, such as `Novelty.novelty`.
    keep : number to keep; fewer are kept if fewer reach the floor.   floor_bits : 0 lets every picture pass.

    Returns
    -------
    [k] indices into `items`, 1 <= k <= keep.

    Raises
    ------
    RarityError : not one score for each picture; a score that is NaN; `keep` below 1; no picture reaches the floor.
    """
    bits = here(novelty).detach()
    if bits.shape != (len(items),):
        got = f"{len(bits):,}" if bits.dim() == 1 else f"shape {tuple(bits.shape)}"
        raise RarityError(f"Expected {len(items):,} scores, one for each picture, got {got}. Score these very pictures.")
    if bits.isnan().any():
        raise RarityError(f"{int(bits.isnan().sum()):,} of {len(bits):,} scores are not a number. Score the pictures again.")
    if keep < 1:
        raise RarityError(f"Keep at least 1 picture, got {keep}.")
    order = bits.sort(descending=True, stable=True).indices
    passed = order[bits[order] >= floor_bits]
    if len(passed) == 0:
        best = float(bits.max())
        raise RarityError(
            f"None of {len(bits):,} pictures is novel enough: the most novel has {best:.2f} bits "
            f"(1 in {one_in_from_bits(best):,.0f}), the floor is {floor_bits:g} bits "
            f"(1 in {one_in_from_bits(floor_bits):,.0f}). Draw others with another seed, draw more, or lower the floor."
        )
    return passed[:keep]


def most_novel(
    images: Tensor,
    items: Embeddings,
    novelty: Tensor | Sequence[float],
    keep: int,
    floor_bits: float = 0.0,
    *,
    progress: Progress | None = None,
) -> tuple[Tensor, Embeddings, list[float], list[int]]:
    """The pictures, embeddings and scores that `rank` keeps, in its order, and their indices.

    Parameters
    ----------
    images : [N, H, W, 3], the pictures of `items`.   The other parameters : see `rank`.
    progress : called with (0, 1) after every picture; it may raise to cancel.

    Raises
    ------
    RarityError : not one picture for each embedding; and as `rank`.
    """
    if len(images) != len(items):
        raise RarityError(
            f"There are {len(images):,} pictures but {len(items):,} embeddings. "
            "Give the embeddings that these very pictures were drawn from, or encode these pictures."
        )
    kept = rank(items, novelty, keep, floor_bits)
    scores = here(novelty)[kept]
    tick, pictures = waiting(progress), images.new_empty(len(kept), *images.shape[1:])
    for picture, i in zip(pictures, kept.tolist(), strict=True):
        picture.copy_(images[i])
        tick()
    return pictures, items.select(kept), scores.tolist(), kept.tolist()


def read_indices(text: str, count: int) -> list[int]:
    """The numbers that a text such as "0, 2, 5-8" names, in the order of the text, counted from 0.

    Parameters
    ----------
    count : how many items there are to choose from.

    Raises
    ------
    RarityError : no number, something other than numbers and ranges, or a number that no item has.
    """
    indices = []
    for part in filter(None, re.split(r"[\s,;]+", text)):
        found = re.fullmatch(r"([0-9]{1,9})(?:-([0-9]{1,9}))?", part)
        first, last = (int(found[1]), int(found[2] or found[1])) if found else (0, -1)
        if not first <= last < count:
            raise RarityError(
                f'Choose with whole numbers from 0 to {count - 1:,} and ranges such as "0, 2, 5-8", got {part[:40]!r}.'
            )
        indices += range(first, last + 1)
    if not indices:
        raise RarityError(f"Nothing is chosen: name at least one of 0 to {count - 1:,}.")
    return indices


def check_indices(text: str) -> None:
    """Raise RarityError unless a text could choose with `read_indices` from enough items."""
    parts = [part for part in re.split(r"[\s,;]+", text) if part]
    wrong = [part for part in parts if not re.fullmatch(r"[0-9]{1,9}(-[0-9]{1,9})?", part)]
    if wrong or not parts:
        got = repr(wrong[0][:40]) if wrong else "nothing"
        raise RarityError(f'The indices must be whole numbers from 0 and ranges, such as "0, 2, 5-8", got {got}.')
