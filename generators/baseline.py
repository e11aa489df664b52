"""A baseline as long as it has to be: kept on disk while it is drawn, and ended when more would change nothing."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import torch

from ..density.convergence import Convergence, until_enough
from ..density.embeddings import Embeddings
from ..density.errors import RarityError
from ..density.files import load_embeddings, save_embeddings
from .kandinsky_prior import Prior, Progress, sampling_source

SHARD = 4096  # samples a file


def draw_baseline(
    prior: Prior,
    prompt: str,
    count: int,
    *,
    stop_when_enough: bool = False,
    folder: str | Path | None = None,
    progress: Progress | None = None,
    **settings,
) -> tuple[Embeddings, str]:
    """The samples of a prompt in memory, and a report in words.

    Parameters
    ----------
    prior, prompt, count, progress : as in `Prior.sample`; `settings` are its seed, steps, guidance, negative_prompt and
        batch_size.
    stop_when_enough : end before `count` when `Convergence` has seen enough.
    folder : where to keep them, as `keep_samples` does; None keeps nothing.

    Returns
    -------
    At most `count` embeddings; how many they are, and whether they are known to be enough.

    Raises
    ------
    RarityError : as `Prior.sample` and `keep_samples`.
    """
    if folder is None:
        batches = prior.sample_batches(prompt, count, progress=progress, **settings)
    else:
        batches = keep_samples(prior, folder, prompt, count, progress=progress, **settings)
    convergence = Convergence(prior.space)
    parts = list(until_enough(batches, convergence) if stop_when_enough else batches)
    batches.close()  # which keeps what was drawn beyond the end
    vectors = torch.cat([part.vectors for part in parts])
    report = [f"{len(vectors):,} samples of {prompt!r}."] + [convergence.report()] * stop_when_enough
    return Embeddings(vectors, prior.space, source=_settings(parts[0])), "\n".join(report)


def keep_samples(
    prior: Prior,
    folder: str | Path,
    prompt: str,
    count: int,
    *,
    batch_size: int = 256,
    progress: Progress | None = None,
    **settings,
) -> Iterator[Embeddings]:
    """The samples 0 ... count - 1 batch by batch: read where the folder has them, else drawn and kept there.

    Whatever ends the sampling, what was drawn is kept: the next call with the same settings goes on behind it. No more
    than SHARD samples and a batch are in memory at a time.

    Parameters
    ----------
    folder : of this baseline alone; made when it is missing. Its files are ordinary embeddings files.
    prior, prompt, count, batch_size, progress, settings : as in `draw_baseline`.

    Returns
    -------
    Batches of samples, in order.

    Raises
    ------
    RarityError : the folder holds samples of another model, prompt or setting (named), or some are missing or damaged;
        and as `Prior.sample`.
    """
    first, expected = 0, sampling_source(prompt, **settings)
    for path in sorted(Path(folder).glob("*.safetensors")):
        part = load_embeddings(path)
        _check_shard(path, part, prior, expected, first)
        first += len(part)
        if first - len(part) < count:
            yield part if first <= count else part.select(range(count - first + len(part)))
    if first >= count:
        return
    fresh: list[Embeddings] = []
    try:
        drawn = prior.sample_batches(prompt, count, first=first, batch_size=batch_size, progress=progress, **settings)
        for batch in drawn:
            fresh.append(batch)
            if sum(map(len, fresh)) >= SHARD:
                _write_shard(Path(folder), fresh)
            yield batch
    finally:
        _write_shard(Path(folder), fresh)


def _write_shard(folder: Path, parts: list[Embeddings]) -> None:
    """Save the parts as one file, named by the index of its first sample, and forget them."""
    if parts:
        whole = Embeddings(torch.cat([part.vectors for part in parts]), parts[0].space, source=parts[0].source)
        save_embeddings(whole, folder / f"{parts[0].source['first']:09d}.safetensors")
        parts.clear()


def _settings(part: Embeddings) -> dict:
    return {key: value for key, value in part.source.items() if key != "first"}


def _check_shard(path: Path, part: Embeddings, prior: Prior, expected: dict, first: int) -> None:
    prior.space.require_same(part.space, f"samples in {path}")
    found = _settings(part)
    wrong = [
        f"{key} {found.get(key)!r} (asked for: {value!r})"
        for key, value in expected.items()
        if found.get(key) != value
    ]
    if wrong:
        raise RarityError(
            f"{path.parent} holds samples of another baseline: {', '.join(wrong)}. "
            "Choose another name, or ask for the same."
        )
    if part.source.get("first") != first:
        raise RarityError(
            f"{path} should begin with sample {first:,}, but begins with {part.source.get('first')}. A file before "
            "it is missing: delete this one and those behind it to draw them again."
        )
