"""A prompt and the same prompt in other words, as CONDITIONINGs: what Seed Variety and evolution move between."""

from __future__ import annotations

from ....density.base.errors import RarityError
from ....density.base.progress import Progress

WORDS = "seen from above\nseen from the side\nfrom far away\nclose up\nin bright sunlight\nat night\nold\nornate"


def check_wordings(prompt: str, words: str) -> list[str]:
    """The wordings of a prompt: for each line of `words` the prompt, a comma and the line. Each once.

    Raises
    ------
    RarityError : no prompt, no line.
    """
    prompt, lines = prompt.strip(), list(dict.fromkeys(line.strip() for line in words.splitlines() if line.strip()))
    if not prompt:
        raise RarityError("The prompt is empty: there is nothing to say in other words. Write what the pictures show.")
    if not lines:
        raise RarityError("The words are empty. Expected one or more lines, each with words to add to the prompt, such as: at night.")
    return [f"{prompt}, {line}" for line in lines]


def encode_wordings(clip, prompt: str, words: str, progress: Progress | None = None) -> tuple[list, list]:
    """The CONDITIONING of the prompt, and one with an entry for each other wording.

    Parameters
    ----------
    clip : ComfyUI's text encoder.   prompt : the text.   words : lines that are added to it, each for a wording.
    progress : called with (done, total) after each text; it may raise.

    Raises
    ------
    RarityError : no prompt, no line.
    """
    encoded, texts = [], [prompt, *check_wordings(prompt, words)]
    for done, text in enumerate(texts, 1):
        encoded.append(clip.encode_from_tokens_scheduled(clip.tokenize(text)))
        if progress:
            progress(done, len(texts))
    return encoded[0], [entry for one in encoded[1:] for entry in one]
