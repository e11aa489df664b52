"""Directions from words, from pictures or from a density."""

from __future__ import annotations

from dataclasses import replace

from ...density.base.embeddings import Embeddings
from ...density.base.errors import RarityError, quoted
from ...density.estimators.contract import Density
from ...density.steering.directions import Direction
from .encoding import Reader
from .prompt_tokens import unread


def text_direction(reader: Reader, towards: str, away_from: str, strength: float = 1.0) -> Direction:
    """The direction from one text to another, by an encoder that reads words.

    Texts and pictures lie apart in the space. Both ends are texts here, so this gap cancels in their difference.

    Parameters
    ----------
    reader : reads the words: a Prior, or an encoder of OpenCLIP.
    towards, away_from : one phrase in each line, such as "a bold letter R" and "a light letter R"; phrases of one end are
        averaged. Ends that differ in only one word make the clearest direction.
    strength : in standard deviations of usual samples.

    Raises
    ------
    RarityError : an end without words, two ends that say the same.
    """
    check_ends(towards, away_from)
    sides = [_lines(text) for text in (away_from, towards)]
    start, end = (reader.encode_text(side) for side in sides)
    found = Direction.between(start, end, reader.space, strength, name=sides[1][0])
    return replace(found, notes=unread(reader.reads(sides[0] + sides[1])))


def check_ends(towards: str, away_from: str) -> None:
    """Raise a RarityError unless both ends of a direction have words."""
    if not _lines(towards) or not _lines(away_from):
        raise RarityError(
            "A direction from words needs both ends, such as towards 'a bold letter R', away from 'a light letter R'; "
            f"got {quoted(towards)} and {quoted(away_from)}."
        )


def _lines(text: str) -> list[str]:
    return [line.strip() for line in text.splitlines() if line.strip()]


def direction(
    strength: float,
    *,
    eye: Reader | None = None,
    towards: str = "",
    away_from: str = "",
    embeddings_towards: Embeddings | None = None,
    embeddings_away: Embeddings | None = None,
    density: Density | None = None,
    component: int = 0,
) -> Direction:
    """A direction from exactly one source: words (with an eye that reads them), pictures, or a density.

    Parameters
    ----------
    strength : in standard deviations of usual samples; a negative strength goes the other way.
    eye : reads the words.   towards, away_from : as in `text_direction`.
    embeddings_towards, embeddings_away : with both, the direction goes from the mean of one set to that of the other. One
        alone holds examples to come near to, or to stay away from.
    density, component : component 1 is the first principal component of the density. 0 goes towards what it calls usual.

    Raises
    ------
    RarityError : no source, or more than one.
    """
    pictures = [rows for rows in (embeddings_away, embeddings_towards) if rows is not None]
    sources = {"eye": eye, "embeddings": pictures or None, "density": density}
    given = [name for name, source in sources.items() if source is not None]
    if len(given) != 1:
        raise RarityError(
            "A direction needs exactly one source: an eye that reads words, embeddings towards or away "
            f"(pictures), or a density; got {', '.join(given) or 'none'}. Chain one direction for each."
        )
    if eye is not None:
        return text_direction(eye, towards, away_from, strength)
    if density is not None:
        return Direction.component(density, component, strength) if component else Direction.towards(density, strength)
    if len(pictures) == 2:
        pictures[0].space.require_same(pictures[1].space, "embeddings towards")
        return Direction.between(*(rows.vectors for rows in pictures), pictures[0].space, strength, "pictures")
    toward = embeddings_away is None
    return (Direction.towards if toward else Direction.away_from)(pictures[0], strength)
