"""What is usual, in words: which share of samples an eye reads as each of several phrases, or as none of them."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Protocol, runtime_checkable

from torch import Tensor

from ...density.base.embeddings import Embeddings
from ...density.base.errors import RarityError, quoted
from ...density.base.progress import waiting
from ...density.base.tables import text_table
from ...density.novelty.kinds import Kinds, Shares, estimate_shares, read_by_texts
from .encoding import Progress, Reader, check_texts
from .prompt_tokens import unread

NONE = "none of these"
EXAMPLES = 64
POOR = 0.8  # if a smaller share of a phrase's own examples is read as the phrase, a note says so
MOST_UNSURE = 0.5  # if a larger share of pictures is read as none of the phrases, a note says so


@runtime_checkable
class Imagines(Reader, Protocol):
    """A Prior: it reads words, and imagines what they name."""

    def sample(self, prompt: str, count: int, **settings) -> Embeddings: ...


def usual_in_words(
    usual: Embeddings,
    phrases: str,
    eye: Reader,
    *,
    rare: Embeddings | None = None,
    examples: int = EXAMPLES,
    seed: int = 0,
    progress: Progress | None = None,
) -> str:
    """Write a table of the share of samples that the eye reads as each phrase, with 90 % intervals, and notes in sentences.

    An eye that imagines (a prior) makes examples of each phrase (`Kinds`), with the steps and the guidance of the usual samples. An
    encoder has no examples and reads by words alone (`read_by_texts`).

    Parameters
    ----------
    usual : samples or pictures of what is usual.   rare : samples to compare, such as results of `optimize`.
    phrases : two or more, one a line; empty and repeated phrases are skipped. A good phrase is the prompt with one word
        changed.
    eye : the eye of these embeddings.
    examples : the number of examples of each phrase.   seed : the seed of the examples.
    progress : it is called several times a second with the number of samples drawn, and may raise to cancel.

    Raises
    ------
    RarityError : there are fewer than two phrases; the samples are of another space.
    """
    names = phrases_of(phrases)
    sets = {"usual": usual} | ({"rare": rare} if rare is not None else {})
    for name, rows in sets.items():
        eye.space.require_same(rows.space, f"{name} samples")
    if isinstance(eye, Imagines):
        read, confusion = _by_examples(eye, names, usual.source, examples, seed, progress)
    else:
        read, confusion = partial(read_by_texts, texts=eye.encode_text(names)), None
    tick = waiting(progress)
    found = {name: estimate_shares(read(rows, tick=tick), len(names), confusion, seed) for name, rows in sets.items()}
    return "\n".join([_table(names, found, confusion), "", *_notes(names, found, confusion, examples), *unread(eye.reads(names))])


def phrases_of(phrases: str) -> list[str]:
    """List the phrases, one a line, without empty and repeated ones. Raise a RarityError unless two readable ones are left."""
    names = list(dict.fromkeys(text.strip() for text in phrases.splitlines() if text.strip()))
    if len(names) < 2:
        raise RarityError(
            f"Phrases must be at least two, one a line, such as 'a woman' and 'a man'; got {quoted(names[0]) if names else 'none'}."
        )
    check_texts(names, "phrases")
    return names


def _by_examples(
    prior: Imagines, names: list[str], source: dict, count: int, seed: int, progress: Progress | None
) -> tuple[Callable, Tensor]:
    like = {key: source[key] for key in ("steps", "guidance") if isinstance(source.get(key), (int, float))}
    parts = []
    for done, name in enumerate(names):
        tick = progress and (lambda step, steps, done=done: progress(done * steps + step, len(names) * steps))
        parts.append(prior.sample(name, count, seed=seed, progress=tick, **like))
    kinds = Kinds(parts)
    return kinds.read, kinds.confusion


def _table(names: list[str], found: dict[str, Shares], confusion: Tensor | None) -> str:
    right = [] if confusion is None else [*(confusion.diagonal() / confusion.sum(dim=1)).tolist(), None]
    heads = ["read as", *found, *(["change"] if "rare" in found else []), *(["its examples read right"] if right else [])]
    rows = []
    for i, name in enumerate([*names, NONE]):
        row = [name, *(f"{s.share[i]:.0%} ({100 * s.low[i]:.0f} to {100 * s.high[i]:.0f})" for s in found.values())]
        row += [_change(found["usual"], found["rare"], i)] if "rare" in found else []
        rows.append(row + ([f"{right[i]:.0%}" if right[i] is not None else ""] if right else []))
    return text_table(heads, rows)


def _change(usual: Shares, rare: Shares, i: int) -> str:
    """Only intervals that do not touch show a change."""
    return "more" if rare.low[i] > usual.high[i] else "less" if rare.high[i] < usual.low[i] else "not sure"


def _notes(names: list[str], found: dict[str, Shares], confusion: Tensor | None, examples: int) -> list[str]:
    notes = ["In brackets: the 90 % interval."]
    if confusion is None:
        notes.append(
            "Read by words alone: how often this eye misreads is not known, so intervals count pictures only, and "
            f"'{NONE}' are pictures for which no phrase is likely enough. With a prior it is told from examples."
        )
        unsure = [name for name, shares in found.items() if shares.share[-1] > MOST_UNSURE]
        notes += [f"The eye cannot tell these phrases apart in most {name} pictures." for name in unsure]
        return notes
    notes.append(f"Told from {examples:,} examples of each phrase; what the eye misread among them is taken into account.")
    for i, row in enumerate(confusion):
        if row[i] < POOR * row.sum():
            others = row.clone().index_fill_(0, row.new_tensor([i]), -1)
            taken = int(others.argmax())
            notes.append(f"The eye often takes {quoted(names[i])} for {quoted(names[taken]) if taken < len(names) else NONE}.")
    return notes
