"""Directions from words, from pictures or from a density, whichever is given."""

from __future__ import annotations

from ..density.directions import Direction
from ..density.embeddings import Embeddings
from ..density.errors import RarityError
from ..density.gaussian import GaussianDensity
from .kandinsky_prior import Prior


def text_direction(prior: Prior, towards: str, away_from: str, strength: float = 1.0) -> Direction:
    """From one text to another, by the prior's own text encoder: both lie on the text side, the gap to pictures cancels.

    Parameters
    ----------
    prior : its text encoder reads the words.
    towards, away_from : one phrase a line, averaged; such as "a bold letter R" and "a light letter R". Phrases that
        differ in one word only make the clearest direction.
    strength : in standard deviations of usual samples.

    Raises
    ------
    RarityError : a side without words, two sides that say the same.
    """
    sides = [[line.strip() for line in text.splitlines() if line.strip()] for text in (away_from, towards)]
    if not all(sides):
        raise RarityError(
            "A direction from words needs both ends, such as towards 'a bold letter R', away from 'a light letter R'; "
            f"got {towards!r} and {away_from!r}."
        )
    start, end = (prior.encode_text(side) for side in sides)
    return Direction.between(start, end, prior.space, strength, name=sides[1][0])


def direction(
    strength: float,
    *,
    prior: Prior | None = None,
    towards: str = "",
    away_from: str = "",
    embeddings_towards: Embeddings | None = None,
    embeddings_away: Embeddings | None = None,
    density: GaussianDensity | None = None,
    component: int = 0,
) -> Direction:
    """The one direction that is described: in words (a prior), by pictures, or by a density.

    Parameters
    ----------
    strength : in standard deviations of usual samples; below 0 the other way.
    prior, towards, away_from : as `text_direction`.
    embeddings_towards, embeddings_away : both are two ends, from the mean of one to that of the other; one alone is
        examples to come near, or to stay clear of.
    density, component : a principal component from 1, or with 0 nearer to what this density calls usual.

    Raises
    ------
    RarityError : none of the three, or more than one.
    """
    pictures = [rows for rows in (embeddings_away, embeddings_towards) if rows is not None]
    given = {"prior": prior is not None, "embeddings": bool(pictures), "density": density is not None}
    if sum(given.values()) != 1:
        found = ", ".join(name for name, is_given in given.items() if is_given) or "none"
        raise RarityError(
            "A direction needs exactly one source: a prior (for words), embeddings towards or away (pictures), or a "
            f"density; got {found}. Chain one direction for each."
        )
    if prior is not None:
        return text_direction(prior, towards, away_from, strength)
    if density is not None:
        return Direction.component(density, component, strength) if component else Direction.towards(density, strength)
    if len(pictures) == 2:
        pictures[0].space.require_same(pictures[1].space, "embeddings towards")
        return Direction.between(*(rows.vectors for rows in pictures), pictures[0].space, strength, "pictures")
    toward = embeddings_away is None
    return (Direction.towards if toward else Direction.away_from)(pictures[0], strength)
