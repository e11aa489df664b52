"""Contrast guardrails from words or pictures, which name the subject and what it must not turn into."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterable

from ...density.base.embeddings import Embeddings
from ...density.base.errors import RarityError, quoted
from ...density.steering.contrast import ContrastGuardrail
from .encoding import Reader, check_text, check_texts
from .prompt_tokens import unread

_ARTICLE = re.compile(r"^(an?|the)\s+")


def contrast_guardrail(
    reader: Reader,
    baseline: Embeddings,
    subject: str,
    alternatives: Iterable[str],
    quantile: float = 0.5,
    centred: bool = False,
) -> ContrastGuardrail:
    """Make a guardrail that keeps the subject against named alternatives, by the zero-shot margin of an encoder that reads words.

    Parameters
    ----------
    reader : reads the words: a Prior, or an encoder of OpenCLIP.
    baseline : usual samples; they show which margin is usual.
    subject : what the pictures must stay, such as "a letter R". An empty text means the prompt of the baseline.
    alternatives : texts; see `subject_first`. If the subject is the prompt, alternatives that the prompt contains are left
        out: "a letter R" is no alternative to "a bold letter R".
    quantile : the threshold is this quantile of the baseline's margins.
    centred : whether texts and pictures are centred first; see `ContrastGuardrail.from_baseline`.

    Raises
    ------
    RarityError : there is neither a subject nor a prompt; no alternative is left; the baseline is of another space.
    """
    reader.space.require_same(baseline.space, "baseline of the contrast guardrail")
    subject, alternatives, said = for_the_prompt("guardrail", subject, alternatives, baseline)
    names, notes = subject_first(reader, subject, alternatives)
    prototypes = reader.encode_text(names)
    return ContrastGuardrail.from_baseline(
        prototypes, 0, baseline, quantile, centred=centred, names=names, notes=(*notes, *said)
    )


def for_the_prompt(
    whose: str, subject: str, alternatives: Iterable[str], baseline: Embeddings
) -> tuple[str, list[str], tuple[str, ...]]:
    """Fit the subject and its alternatives to the prompt that a baseline was made for.

    Parameters
    ----------
    whose : "guardrail" or "gate", a word of the sentences for the user.
    subject : an empty text means the prompt. Then the alternatives that the prompt contains are left out.

    Returns
    -------
    The subject; the alternatives; sentences that say what was left out, or that the prompt does not speak of the subject.

    Raises
    ------
    RarityError : there is neither a subject nor a prompt.
    """
    prompt = _prompt_of(baseline)
    if subject.strip():
        return subject, list(alternatives), _elsewhere(whose, subject, prompt)
    subject = _prompt_as_subject(prompt)
    return subject, *_not_contained(alternatives, subject)


def check_words(subject: str, alternatives: Iterable[str]) -> None:
    """Raise a RarityError if the words of a contrast guardrail cannot be used. The check needs no model."""
    texts = [text.strip() for text in alternatives if text.strip()]
    if not {*texts} - {subject.strip()}:
        raise RarityError(
            f"The subject{f' {quoted(subject)}' if subject.strip() else ''} needs at least one alternative that it must not turn into, "
            f"got {'only the subject itself' if texts else 'none'}. Write them into alternatives, one a line, such as 'a letter P'."
        )
    check_texts(texts, "alternatives")
    if subject.strip():
        check_subject(subject)
    if all(_plain(text) == _plain(subject) for text in texts):
        raise RarityError(
            f"The alternative {quoted(texts[0])} reads as the subject {quoted(subject.strip())} does: capital letters and spaces "
            "make no difference to an encoder, so no picture can be more like the one than like the other. Name something else."
        )


def _plain(text: str) -> str:
    return " ".join(text.split()).casefold()


def check_subject(subject: str) -> None:
    """Raise a RarityError unless the subject is a text that can be read."""
    check_text(subject, "subject")


def _prompt_of(baseline: Embeddings) -> str:
    """The prompt that a baseline was made for; "" if it was made of pictures, or if the prompt is not known."""
    prompt = baseline.source.get("prompt", "")
    return prompt if isinstance(prompt, str) else ""


def _prompt_as_subject(prompt: str) -> str:
    if not prompt.strip():
        raise RarityError(
            "The subject is empty, which means the prompt of the baseline, but these embeddings do not say what prompt they were "
            "made for. Write the subject, such as 'a letter R'."
        )
    return prompt


def _elsewhere(whose: str, subject: str, prompt: str) -> tuple[str, ...]:
    """A sentence for the user if the prompt does not mention the subject; otherwise nothing."""
    if not prompt.strip() or _contains(prompt, subject):
        return ()
    return (
        f"The {whose}'s subject {quoted(subject.strip())} is not in the prompt {quoted(prompt.strip())}: it keeps what is near to "
        "its subject, and may refuse what the prompt asks for. Name the subject as the prompt does, or leave it empty: then it is "
        "the prompt.",
    )


def _not_contained(alternatives: Iterable[str], subject: str) -> tuple[list[str], tuple[str, ...]]:
    """The alternatives that the subject does not contain, and a sentence that names the others."""
    texts = [text.strip() for text in alternatives if text.strip()]
    kept = [text for text in texts if not _contains(subject, text)]
    told = [text for text in texts if _contains(subject, text) and not _contains(text, subject)]
    if not told:
        return kept, ()
    more = f" and {len(told) - 1} more are" if len(told) > 1 else " is"
    left = "they were" if len(told) > 1 else "it was"
    return kept, (f"The alternative {quoted(told[0])}{more} part of the prompt {quoted(subject.strip())}, so {left} left out.",)


def _contains(text: str, part: str) -> bool:
    """Whether a text has all words of `part`, in any order. An article at the start of a text does not count."""
    words, those = (Counter(re.findall(r"\w+", _ARTICLE.sub("", one.strip().casefold()))) for one in (text, part))
    return those <= words


def subject_first(reader: Reader, subject: str, alternatives: Iterable[str]) -> tuple[list[str], tuple[str, ...]]:
    """List the subject, then the alternatives that the reader tells from the subject and from each other.

    The encoder decides whether two texts are the same: most encoders ignore capital letters, take any space for one
    space, and read only a limited number of tokens. An alternative that the encoder reads as the subject would be as near
    to every picture as the subject is, and no picture could be refused. Therefore it is left out.

    Parameters
    ----------
    reader : reads the words.   subject : what the pictures must stay.   alternatives : texts; empty ones are skipped.

    Returns
    -------
    The texts, the subject first; and sentences that name alternatives which were left out although they are written
    differently, and words which are not read.

    Raises
    ------
    RarityError : there is no subject; no alternative is left.
    """
    subject, alternatives = subject.strip(), [text.strip() for text in alternatives if text.strip()]
    check_words(subject, alternatives)
    check_subject(subject)
    names = list(dict.fromkeys([subject, *alternatives]))
    first, *others = readings = reader.reads(names)
    same = [one.text for one in others if one.tokens == first.tokens]
    kept: dict[tuple[int, ...], str] = {}
    for one in readings:
        kept.setdefault(one.tokens, one.text)  # of texts with the same tokens the first one is kept
    if len(kept) < 2:
        raise RarityError(
            f"The alternative {quoted(same[0])} reads as the subject {quoted(subject)} does: this encoder sees the same "
            f"{len(first.tokens)} tokens of both, so no picture can be more like the one than like the other. Name something else."
        )
    notes = unread(readings)
    if same:
        more = f" and {len(same) - 1} more read" if len(same) > 1 else " reads"
        notes = (f"The alternative {quoted(same[0])}{more} as the subject {quoted(subject)} does, so it was left out.", *notes)
    return list(kept.values()), notes


def contrast_guardrails(
    baseline: Embeddings,
    reader: Reader | None,
    subject: str,
    alternatives: Iterable[str],
    alternative_pictures: Embeddings | None,
    quantile: float = 0.5,
    centred: bool = False,
) -> tuple[ContrastGuardrail, ...]:
    """Make guardrails from words if there is a reader, from pictures if there are pictures, or from both.

    Parameters
    ----------
    reader, subject, alternatives, centred : see `contrast_guardrail`. Without a reader the words are ignored.
    alternative_pictures : embeddings of what the subject must not turn into; see `ContrastGuardrail.from_pictures`.

    Raises
    ------
    RarityError : there are neither a reader nor pictures; the errors of `contrast_guardrail`.
    """
    if reader is None and alternative_pictures is None:
        raise RarityError(
            "A contrast guardrail needs to know what the subject must not turn into: connect an eye that reads the words, or "
            "embeddings of alternative pictures. Got none."
        )
    rails = ()
    if reader is not None:
        rails += (contrast_guardrail(reader, baseline, subject, alternatives, quantile, centred),)
    if alternative_pictures is not None:
        rails += (ContrastGuardrail.from_pictures(baseline, alternative_pictures, quantile),)
    return rails
