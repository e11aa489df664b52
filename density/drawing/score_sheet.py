"""Scores as one picture: each under its picture, or as bars if there are no pictures."""

from __future__ import annotations

from torch import Tensor

from ..base.embeddings import Embeddings
from ..base.errors import RarityError
from ..base.progress import Progress
from ..base.tables import text_table
from ..calibration.surprisal import one_in_from_bits
from ..novelty.originality import Originality
from ..novelty.scores import Novelty
from .bar_chart import bar_chart
from .contact_sheet import annotated, beside_nearest

SHOWN = 6  # pictures that a short list names
ON_SHEET = 100  # most kept pictures on a sheet


def novelty_sheet(
    novelty: Novelty, images: Tensor | None = None, *, progress: Progress | None = None
) -> Tensor:
    """Draw how new each picture is.

    Parameters
    ----------
    novelty : readings of N pictures.   images : [N, H, W, 3], 0 to 1; None draws the scores as bars.
    progress : as for `contact_sheet`.

    Returns
    -------
    [1, height, width, 3] float32, 0 to 1.

    Raises
    ------
    RarityError : another number of pictures than readings.
    """
    heading = "How new each picture is"
    if images is None:
        behind = {"behind": novelty.bits, "behind_name": "what it would be if nothing had been seen"}
        return bar_chart(novelty.novelty, heading, "novelty in bits", **behind)
    _same_number(images, len(novelty.novelty))
    captions = [f"{i} · {bits:.1f} bits\n{_one_in(bits)}" for i, bits in enumerate(novelty.novelty.clamp_min(0).abs().tolist())]
    return annotated(images, captions, heading, progress=progress)


def kept_sheet(
    images: Tensor, scores: list[float], indices: list[int], *, progress: Progress | None = None
) -> Tensor:
    """Draw the first ON_SHEET of the kept pictures, newest first, each with its number and how new it is.

    Parameters
    ----------
    images : [k, H, W, 3], 0 to 1.   scores : k, in bits.   indices : k numbers among all pictures.
    progress : as for `contact_sheet`.

    Returns
    -------
    [1, height, width, 3] float32, 0 to 1.
    """
    captions = [f"{i} · {bits:.1f} bits\n{_one_in(bits)}" for i, bits in zip(indices, scores, strict=True)][:ON_SHEET]
    heading = "What was kept, newest first" + (f": {ON_SHEET} of {len(images):,}" if len(images) > ON_SHEET else "")
    return annotated(images[:ON_SHEET], captions, heading, progress=progress)


def originality_sheet(
    found: Originality,
    reference: Embeddings,
    images: Tensor | None = None,
    reference_images: Tensor | None = None,
    *,
    progress: Progress | None = None,
) -> Tensor:
    """Draw how probably each picture is a copy: beside its nearest reference picture, alone, or as a bar.

    Parameters
    ----------
    found : readings of N pictures.   reference : the R embeddings that the pictures were compared with.
    images : [N, H, W, 3], 0 to 1; None draws bars.   reference_images : [R, h, w, 3], the pictures of `reference`, or None.
    progress : as for `contact_sheet`.

    Raises
    ------
    RarityError : another number of pictures than embeddings, on either side.
    """
    probability, nearest = found.copy_probability[:, 0], found.indices[:, 0]
    if reference_images is not None:
        _same_number(reference_images, len(reference), "reference pictures")
    if images is None:
        return bar_chart(probability, "How probable it is that each was copied", "copy probability", top=1.0)
    _same_number(images, len(found.indices))
    captions = [
        f"{i} · nearest is {j}\ncopied: {p:.0%}"
        for i, (j, p) in enumerate(zip(nearest.tolist(), probability.tolist(), strict=True))
    ]
    if reference_images is None:
        return annotated(images, captions, "How probable it is that each was copied", progress=progress)
    return beside_nearest(images, reference_images[nearest], captions, progress=progress)


def originality_table(found: Originality) -> str:
    """One line for each picture: the nearest reference item, its distance, and the probability of a copy; then the notes."""
    rows = [(str(i), *_first(nearest)) for i, nearest in enumerate(found.rows())]
    return "\n".join([text_table(("picture", "nearest", "distance", "copied"), rows), *found.notes])


def originality_brief(found: Originality) -> str:
    """The pictures that are most probably copies, the most probable first; then the notes."""
    probability = found.copy_probability[:, 0]
    order = [i for i in probability.argsort(descending=True, stable=True).tolist() if probability[i] >= 0.5]
    lines = [f"picture {i}: {probability[i]:.0%} a copy of {int(found.indices[i, 0])}" for i in order[:SHOWN]]
    if len(order) > SHOWN:
        lines.append(f"and {len(order) - SHOWN:,} more are probably copies")
    return "\n".join([*lines, *found.notes] if lines else ["No picture looks copied.", *found.notes])


def _one_in(bits: float) -> str:
    return f"1 in {one_in_from_bits(bits):,.0f}" if round(bits, 1) >= 1 else "not new"


def _first(nearest: list[dict]) -> tuple[str, str, str]:
    one = nearest[0]
    return str(one["index"]), f"{one['distance']:.3f}", f"{one['copy_probability']:.1%}"


def _same_number(images: Tensor, expected: int, what: str = "pictures") -> None:
    if len(images) != expected:
        raise RarityError(
            f"There are {len(images):,} {what} but {expected:,} embeddings of them. "
            "Give the pictures that these very embeddings belong to."
        )
