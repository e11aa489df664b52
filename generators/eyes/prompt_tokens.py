"""What an encoder reads of a text (its tokens), and what it does not read."""

from __future__ import annotations

import re
from pathlib import Path
from string import ascii_lowercase
from typing import NamedTuple

from ...density.base.errors import RarityError, quoted
from ..runtime.model_folder import read_json

# ComfyUI's own prompt boxes understand these forms. An encoder takes each sign in them as a word.
SYNTAX = {
    "a weight": re.compile(r"\([^()]*:\s*[-+]?\d*\.?\d+\s*\)|\(\([^()]+\)\)"),  # (rare:1.3), ((rare))
    "a choice": re.compile(r"\{[^{}]*\|[^{}]*\}"),  # {red|blue}
    "an embedding file": re.compile(r"\bembedding:\S+"),
}
SEARCHED = 10_000  # most characters of a text that are searched; no encoder reads nearly as many


class Reading(NamedTuple):
    """A text as an encoder reads it.

    text : the text as it was written.
    tokens : the tokens that the encoder sees: in lower case where it ignores capitals, padded, and cut to its length.
    length : the number of tokens of the whole text.
    known : the words that the model was trained on, in their order; empty if the model does not say.
    """

    text: str
    tokens: tuple[int, ...]
    length: int
    known: tuple[str, ...] = ()

    @property
    def cut(self) -> bool:
        """Whether the text is longer than what the encoder reads."""
        return self.length > len(self.tokens)

    @property
    def strange(self) -> tuple[str, ...]:
        """The words that the model was not trained on; none if the model does not say which words it knows."""
        if not self.known:
            return ()
        known = set(self.known)
        return tuple(word for word in words_of(self.text[:SEARCHED]) if word not in known)


def words_of(text: str) -> tuple[str, ...]:
    """The words of a text, each once and without capitals: "a", "letter", "g" of "A letter G"."""
    return tuple(dict.fromkeys(re.findall(r"[^\W_]+(?:['’][^\W_]+)*", text.casefold())))


def unread(readings: list[Reading]) -> tuple[str, ...]:
    """Sentences for the user about what is not read in some texts.

    They name words that the model does not know, texts that are cut, and forms of ComfyUI's prompt language, which
    encoders do not understand.

    Parameters
    ----------
    readings : of any texts, from `Reader.reads`.
    """
    notes = []
    for one in readings:
        if one.strange:
            notes.append(
                f"This model does not know {_listed(one.strange)} in {quoted(one.text)}: what it draws for that means nothing. "
                f"It knows {_listed(one.known, quote=False, most=200)}."
            )
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


def read_words(folder: Path) -> tuple[str, ...]:
    """The words that a model was trained on, as rarity.json in its folder says ({"words": ["a", "letter"]}); else none.

    Raises
    ------
    RarityError : the file does not hold a list of words.
    """
    path = folder / "rarity.json"
    words = read_json(path).get("words", []) if path.is_file() else []
    if not isinstance(words, list) or not all(isinstance(word, str) and words_of(word) == (word,) for word in words):
        raise RarityError(f"The words in {path} must be a list of words in small letters, got {quoted(repr(words))}. Correct it.")
    return tuple(words)


def _listed(words: tuple[str, ...], quote: bool = True, most: int = 5) -> str:
    """Words for a sentence, such as: 'house', 'red' and 3 more. All letters of the alphabet are written "A to Z"."""
    alphabet = tuple(ascii_lowercase)
    if not quote and set(alphabet) <= set(words):
        words = (*(word for word in words if word not in alphabet[1:]), "A to Z")  # "a" is a word, too
    shown = [quoted(word, 40) if quote else word for word in words[:most]]
    return ", ".join(shown) + (f" and {len(words) - most} more" if len(words) > most else "")
