"""Checkpoints of a trajectory as embeddings: all of them, or one for each sample, such as its last valid one."""

from __future__ import annotations

import re
from collections.abc import Sequence
from itertools import accumulate

import torch
from torch import Tensor

from ..base.embeddings import Embeddings
from ..base.errors import RarityError
from ..calibration.surprisal import one_in_from_bits
from .trajectory import Trajectory

MODES = ("last", "by number", "last valid", "all")


def all_checkpoints(trajectory: Trajectory, sample: int = -1) -> Embeddings:
    """All checkpoints, sample by sample: the S checkpoints of the first sample, then those of the second, and so on.

    Parameters
    ----------
    trajectory : S checkpoints of N samples.   sample : number of one sample, counted from 0; -1 takes all samples.

    Returns
    -------
    N S embeddings; S embeddings for one sample.

    Raises
    ------
    RarityError : the trajectory has no sample of this number.
    """
    return _rows(trajectory, [(n, s) for n in _samples(trajectory, sample) for s in range(len(trajectory.steps))])


def pick_checkpoint(
    trajectory: Trajectory,
    mode: str = "last",
    *,
    number: int = 0,
    sample: int = -1,
    answers: Sequence[str] | None = None,
) -> tuple[Embeddings, str]:
    """One checkpoint of each sample, or all of them.

    "last" picks the result. "by number" picks the checkpoint of that number; 0 is the start, -1 the last. "last valid"
    picks each sample's last checkpoint before its first No. A Yes after a No does not count, because the subject was
    lost on the way. A sample whose start is a No has nothing to fall back to and is left out. "all" gives every
    checkpoint, in the order in which the answers about their pictures are expected.

    Parameters
    ----------
    trajectory : S checkpoints of N samples.   number : for "by number".
    sample : number of one sample, counted from 0; -1 picks from all samples.
    answers : for "last valid": one for each row that "all" gives, in that order; see `read_answer`.

    Returns
    -------
    The embeddings, in the order of the samples; a text that says what was picked.

    Raises
    ------
    RarityError : an unknown mode; no such checkpoint or sample; answers that are missing, too few or too many; an
        answer that is neither Yes nor No; a No to every start.
    """
    if mode not in MODES:
        raise RarityError(f"Checkpoints are picked by one of {', '.join(MODES)}; got {mode!r}.")
    samples, count = _samples(trajectory, sample), len(trajectory.steps)
    if mode == "all":
        text = f"{count} checkpoints of each of {len(samples)} samples, sample by sample, from the start to the result."
        return all_checkpoints(trajectory, sample), text
    if mode == "by number" and not -count <= number < count:
        raise RarityError(
            f"This trajectory has {count} checkpoints: choose a number from 0, the start, to {count - 1}, "
            f"or -1 for the last; got {number}."
        )
    picked = [(n, number % count if mode == "by number" else count - 1) for n in samples]
    if mode == "last valid":
        valid = _valid(answers, samples, count)
        lasts = [count - 1 if row.all() else int(row.int().argmin()) - 1 for row in valid]
        picked = [(n, s) for n, s in zip(samples, lasts, strict=True) if s >= 0]
        if not picked:
            raise RarityError(
                f"The answer is No at the very start of {'the sample' if len(samples) == 1 else 'every sample'}: there is "
                "nothing to go back to. Ask a simpler question, or start from samples that are the subject."
            )
    lines = [_line(trajectory, n, s) for n, s in picked]
    kept = {n for n, _ in picked}
    lines += [f"sample {n}: left out, No at the very start" for n in samples if n not in kept]
    return _rows(trajectory, picked), "\n".join(lines)


def pick_checkpoints(
    trajectories: Sequence[Trajectory],
    mode: str = "last",
    *,
    number: int = 0,
    sample: int = -1,
    answers: Sequence[str] | None = None,
) -> tuple[list[Embeddings], list[str]]:
    """`pick_checkpoint` for each of several trajectories, such as those of several seeds.

    Parameters
    ----------
    answers : first those about the first trajectory's pictures, then those about the second's, and so on.

    Raises
    ------
    RarityError : as `pick_checkpoint`.
    """
    shares = [answers] * len(trajectories)
    if answers is not None and len(trajectories) > 1:
        sizes = [len(way.steps) * len(_samples(way, sample)) for way in trajectories]
        if sum(sizes) != len(answers):
            raise RarityError(
                f"Expected {sum(sizes)} answers, for the checkpoints of {len(trajectories)} trajectories one after the other, got "
                f'{len(answers)}. Ask about each picture of "all" by itself (Rebatch Images, batch size 1).'
            )
        ends = list(accumulate(sizes))
        shares = [answers[end - size : end] for size, end in zip(sizes, ends, strict=True)]
    picked = [
        pick_checkpoint(way, mode, number=number, sample=sample, answers=share)
        for way, share in zip(trajectories, shares, strict=True)
    ]
    return [rows for rows, _ in picked], [text for _, text in picked]


def read_answer(answer: str, place: str = "The answer") -> bool:
    """True for Yes, False for No. Only the first word counts; its case and the spaces and punctuation around it do not.

    Raises
    ------
    RarityError : the first word is neither. The message quotes the answer and names its place.
    """
    found = re.match(r"[\W_]*(yes|no)(?![^\W_])", answer, re.IGNORECASE) if isinstance(answer, str) else None
    if not found:
        raise RarityError(
            f"{place} is neither Yes nor No: {str(answer)[:80]!r}. End the question with: Answer with Yes or No."
        )
    return found[1].lower() == "yes"


def _valid(answers: Sequence[str] | None, samples: list[int], count: int) -> Tensor:
    """Answers as bool [N, S]."""
    if answers is None:
        raise RarityError('"last valid" needs answers, one for each checkpoint: connect what was asked of their pictures.')
    if len(answers) != len(samples) * count:
        raise RarityError(
            f"Expected {len(samples) * count} answers, {count} checkpoints of {len(samples)} samples, got {len(answers)}. Ask about "
            'each picture of "all" by itself (Rebatch Images, batch size 1), and about the same sample.'
        )
    places = [f"Answer {i} (sample {samples[i // count]}, checkpoint {i % count})" for i in range(len(answers))]
    read = [read_answer(answer, place) for answer, place in zip(answers, places, strict=True)]
    return torch.tensor(read).view(len(samples), count)


def _samples(trajectory: Trajectory, sample: int) -> list[int]:
    n = len(trajectory.final)
    if not -1 <= sample < n:
        raise RarityError(f"Choose a sample from 0 to {n - 1}, or -1 for every one; got {sample}.")
    return list(range(n)) if sample == -1 else [sample]


def _rows(trajectory: Trajectory, places: list[tuple[int, int]]) -> Embeddings:
    """The embeddings at these places, (sample, checkpoint), in this order."""
    return Embeddings.cat(trajectory.embeddings[s].select([n]) for n, s in places)


def _line(trajectory: Trajectory, n: int, s: int) -> str:
    bits = float(trajectory.readings["bits"][s, n])
    rare = f"{bits:.1f} bits, 1 in {one_in_from_bits(bits):,.0f}"
    return f"sample {n}: checkpoint {s} of 0 to {len(trajectory.steps) - 1}, step {trajectory.steps[s]}, {rare}"
