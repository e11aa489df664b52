"""The project's one error type, and how its sentences quote what a user wrote."""

from __future__ import annotations

QUOTED = 80  # a sentence has room for so many characters of a text


class RarityError(ValueError):
    """Something the user can put right: the message says what was wrong, expected and got, and what to do."""


def quoted(text, most: int = QUOTED) -> str:
    """A text in quotes for an error, a report or the console; a long text is cut to its beginning and its end.

    Parameters
    ----------
    text : as the user wrote it; anything else becomes its `repr`.
    most : characters, about half of them from each end.
    """
    if not isinstance(text, str) or len(text) <= most:
        return repr(text)
    half = (most - 5) // 2
    return repr(f"{text[:half]} ... {text[-half:]}")
