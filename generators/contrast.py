"""Contrast guardrails from words or pictures: the subject, and what it must not turn into."""

from __future__ import annotations

from collections.abc import Iterable

from ..density.embeddings import Embeddings
from ..density.errors import RarityError
from ..density.guardrails import ContrastGuardrail
from .kandinsky_prior import Prior


def contrast_guardrail(
    prior: Prior,
    baseline: Embeddings,
    subject: str,
    alternatives: Iterable[str],
    quantile: float = 0.5,
    centred: bool = False,
) -> ContrastGuardrail:
    """Guard the subject against named alternatives, by the zero-shot margin of the prior's own text encoder.

    Parameters
    ----------
    prior : its text encoder reads the words.
    baseline : usual samples; they show which margin is usual.
    subject : what the pictures must stay, such as "a letter R".
    alternatives : texts; empty ones, repeats and the subject itself are skipped.
    quantile : the threshold is this quantile of the baseline's margins.
    centred : centre texts and pictures first; see `ContrastGuardrail.from_baseline`.

    Returns
    -------
    ContrastGuardrail, whose names are the subject and the alternatives.

    Raises
    ------
    RarityError : no subject, no alternative left, a baseline of another space.
    """
    prior.space.require_same(baseline.space, "baseline of the contrast guardrail")
    subject = subject.strip()
    names = dict.fromkeys([subject, *(text.strip() for text in alternatives if text.strip())])
    if len(names) < 2:
        raise RarityError(
            f"The subject {subject!r} needs at least one alternative that it must not turn into, got none. "
            "Write them one a line, such as 'a letter P'."
        )
    prototypes = prior.encode_text(list(names))
    return ContrastGuardrail.from_baseline(prototypes, 0, baseline, quantile, tuple(names), centred=centred)


def contrast_guardrails(
    baseline: Embeddings,
    prior: Prior | None,
    subject: str,
    alternatives: Iterable[str],
    alternative_pictures: Embeddings | None,
    quantile: float = 0.5,
    centred: bool = False,
) -> tuple[ContrastGuardrail, ...]:
    """Guard by words where a prior reads them, by pictures where there are some, or by both.

    Parameters
    ----------
    prior, subject, alternatives, centred : see `contrast_guardrail`; without a prior the words are not read.
    alternative_pictures : embeddings of what the subject must not turn into; see `ContrastGuardrail.from_pictures`.

    Raises
    ------
    RarityError : neither a prior nor pictures; and as `contrast_guardrail`.
    """
    if prior is None and alternative_pictures is None:
        raise RarityError(
            "A contrast guardrail needs to know what the subject must not turn into: connect a prior, which reads the words, "
            "or embeddings of alternative pictures. Got neither."
        )
    rails = ()
    if prior is not None:
        rails += (contrast_guardrail(prior, baseline, subject, alternatives, quantile, centred),)
    if alternative_pictures is not None:
        rails += (ContrastGuardrail.from_pictures(baseline, alternative_pictures, quantile),)
    return rails
