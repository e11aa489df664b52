"""What an encoder reads of a text: its tokens. And what a text holds that it does not read."""

from __future__ import annotations

import re
from typing import NamedTuple

from ...density.base.errors import quoted

# ComfyUI's own prompt boxes know these; an encoder takes every sign of them for a word.
SYNTAX = {
    "a weight": re.compile(r"\([^()]*:\s*[-+]?\d*\.?\d+\s*\)|\(\([^()]+\)\)"),  # (rare:1.3), ((rare))
    "a choice": re.compile(r"\{[^{}]*\|[^{}]*\}"),  # {red|blue}
    "an embedding file": re.compile(r"\bembedding:\S+"),
}
SEARCHED = 10_000  # characters of a text that are looked through: far more than any encoder reads


class Reading(NamedTuple):
    """A text as an encoder reads it.

    text : as it was written.
    tokens : what the encoder sees of it: after lower-casing and the like, padded, and cut to the encoder's length.
    length : how many tokens the whole text has.
    """

    text: str
    tokens: tuple[int, ...]
    length: int

    @property
    def cut(self) -> bool:
        """Whether the text goes on behind the last token that is read."""
        return self.length > len(self.tokens)


def unread(readings: list[Reading]) -> tuple[str, ...]:
    """In sentences: which texts are cut, and where a text speaks ComfyUI's own language for prompts, which is not read here.

    Parameters
    ----------
    readings : of any texts, as `Reader.reads` gives them.
    """
    notes = []
    for one in readings:
        if one.cut:
            notes.append(
                f"Of {quoted(one.text)} the model reads the first {len(one.tokens)} of {one.length:,} tokens, about a word each; "
                "what comes behind them changes nothing. Put what matters to the front, or shorten it."
            )
        found = [f"{what} ({quoted(hit[0], 40)})" for what, sign in SYNTAX.items() if (hit := sign.search(one.text[:SEARCHED]))]
        if found:
            notes.append(
                f"{quoted(one.text)} holds {' and '.join(found)}, which this model reads as ordinary words and signs. "
                "Write it in plain words."
            )
    return tuple(dict.fromkeys(notes))
