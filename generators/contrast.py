"""Contrast guardrails from words or pictures: the subject, and what it must not turn into."""

from __future__ import annotations

from collections.abc import Iterable

from ..density.contrast import ContrastGuardrail
from ..density.embeddings import Embeddings
from ..density.errors import RarityError
from .encoding import Reader


def contrast_guardrail(
    reader: Reader,
    baseline: Embeddings,
    subject: str,
    alternatives: Iterable[str],
    quantile: float = 0.5,
    centred: bool = False,
) -> ContrastGuardrail:
    """Guard the subject against named alternatives, by the zero-shot margin of an encoder that reads words.

    Parameters
    ----------
    reader : reads the words: a Prior, or an encoder of OpenCLIP.
    baseline : usual samples; they show which margin is usual.
    subject : what the pictures must stay, such as "a letter R".
    alternatives : texts; empty ones, repeats and the subject itself are skipped.
    quantile : the threshold is this quantile of the baseline's margins.
    centred : centre texts and pictures first; see `ContrastGuardrail.from_baseline`.

    Raises
    ------
    RarityError : no subject, no alternative left, a baseline of another space.
    """
    reader.space.require_same(baseline.space, "baseline of the contrast guardrail")
    prototypes = reader.encode_text(subject_first(subject, alternatives))
    return ContrastGuardrail.from_baseline(prototypes, 0, baseline, quantile, centred=centred)


def subject_first(subject: str, alternatives: Iterable[str]) -> list[str]:
    """The subject, then the alternatives that are not empty, repeats or the subject itself.

    Raises
    ------
    RarityError : no subject, or no alternative left.
    """
    subject = subject.strip()
    names = dict.fromkeys([subject, *(text.strip() for text in alternatives if text.strip())])
    if len(names) < 2:
        raise RarityError(
            f"The subject {subject!r} needs at least one alternative that it must not turn into, got none. "
            "Write them one a line, such as 'a letter P'."
        )
    return list(names)


def contrast_guardrails(
    baseline: Embeddings,
    reader: Reader | None,
    subject: str,
    alternatives: Iterable[str],
    alternative_pictures: Embeddings | None,
    quantile: float = 0.5,
    centred: bool = False,
) -> tuple[ContrastGuardrail, ...]:
    """Guard by words where something reads them, by pictures where there are some, or by both.

    Parameters
    ----------
    reader, subject, alternatives, centred : see `contrast_guardrail`; without a reader the words are not read.
    alternative_pictures : embeddings of what the subject must not turn into; see `ContrastGuardrail.from_pictures`.

    Raises
    ------
    RarityError : neither a reader nor pictures; and as `contrast_guardrail`.
    """
    if reader is None and alternative_pictures is None:
        raise RarityError(
            "A contrast guardrail needs to know what the subject must not turn into: connect a prior or an encoder, "
            "which read the words, or embeddings of alternative pictures. Got none."
        )
    rails = ()
    if reader is not None:
        rails += (contrast_guardrail(reader, baseline, subject, alternatives, quantile, centred),)
    if alternative_pictures is not None:
        rails += (ContrastGuardrail.from_pictures(baseline, alternative_pictures, quantile),)
    return rails
