"""A baseline that is kept on disk while it is drawn, and that ends when more samples would change hardly anything."""

from __future__ import annotations

import os
import re
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import NamedTuple

from ...density.base.embeddings import Embeddings
from ...density.base.errors import RarityError, quoted
from ...density.base.spaces import EmbeddingSpace
from ...density.estimators.convergence import Convergence, until_enough
from ...density.files.store import load_embeddings, save_embeddings

SHARD = 4096  # samples in a file


class Drawn(NamedTuple):
    """Embeddings that can be drawn in order, and again from any number on.

    space : of all embeddings.
    source : everything that decides what an embedding is, except its number.
    after : a function of a number. It gives batches from this number to the end; the source of each batch holds the number
        of its first row as `first`.
    check : called with the first kept embeddings before more are drawn. It raises if these were drawn in another way.
    shard : embeddings in a file.
    first : the number of the first embedding.
    """

    space: EmbeddingSpace
    source: dict
    after: Callable[[int], Iterator[Embeddings]]
    check: Callable[[Embeddings], None] | None = None
    shard: int | None = None
    first: int = 0


def gather(
    drawn: Drawn, count: int, what: str, *, stop_when_enough: bool = False, folder: str | Path | None = None
) -> tuple[Embeddings, str]:
    """All embeddings in memory, and a report in words: how many there are, and whether they are known to be enough.

    Parameters
    ----------
    drawn : what to draw.   count : how many.   what : the name of the embeddings in the report.
    stop_when_enough : end before `count` when `Convergence` has seen enough.
    folder : where to keep them, as `keep` does; None keeps nothing.

    Raises
    ------
    RarityError : as `keep`; and what the drawing raises.
    """
    batches = drawn.after(drawn.first) if folder is None else keep(drawn, folder, count)
    convergence = Convergence(drawn.space)
    parts = list(until_enough(batches, convergence) if stop_when_enough else batches)
    batches.close()  # this saves rows that were drawn beyond the end
    whole = replace(Embeddings.cat(parts), source=drawn.source)
    report = [f"{len(whole):,} {what}."] + [convergence.report()] * stop_when_enough
    return whole, "\n".join(report)


def keep(drawn: Drawn, folder: str | Path, count: int) -> Iterator[Embeddings]:
    """The first `count` embeddings, batch by batch. They are read from the folder; missing ones are drawn and kept there.

    Whatever ends the drawing, drawn embeddings are kept, and the next call with the same settings goes on after them. At
    most one shard and one batch are in memory at a time.

    Parameters
    ----------
    drawn : what to draw.
    folder : a folder for this baseline only; it is made if it is missing. Its files are ordinary embeddings files.
    count : how many.

    Returns
    -------
    Batches, in order.

    Raises
    ------
    RarityError : the folder holds embeddings of another model, prompt or setting (the error names it), or files in it are
        missing or damaged; and what the drawing raises.
    """
    number, end = drawn.first, drawn.first + count
    for path in sorted(Path(folder).glob("*.safetensors")):
        part = load_embeddings(path)
        _check_shard(path, part, drawn, number)
        if number == drawn.first and drawn.check:
            drawn.check(part)
        if number < end:
            yield part.select(range(min(len(part), end - number))) if number + len(part) > end else part
        number += len(part)
    if number >= end:
        return
    fresh: list[Embeddings] = []
    try:
        for batch in drawn.after(number):
            fresh.append(batch)
            if sum(map(len, fresh)) >= (drawn.shard or SHARD):
                _write_shard(Path(folder), fresh)
            yield batch
    finally:
        _write_shard(Path(folder), fresh)


def is_shard(name: str) -> bool:
    """Whether a file inside a folder is called as `keep` calls a part of a baseline: folder/000004096.safetensors."""
    return re.search(r"/\d{9,}\.safetensors$", name.replace(os.sep, "/")) is not None


def load_kept(paths: Sequence[Path]) -> Embeddings:
    """The embeddings of one file, or of all the files that a baseline was kept in, as drawing them gave them.

    Parameters
    ----------
    paths : the files, in order.

    Raises
    ------
    RarityError : as `load_embeddings`; files of different baselines (named), or one is missing between others.
    """
    parts = [load_embeddings(path) for path in paths]
    source = {key: value for key, value in parts[0].source.items() if key != "first"}
    number = first = parts[0].source.get("first", 0)
    for path, part, before in zip(paths[1:], parts[1:], parts[:-1], strict=True):
        number += len(before)
        _check_shard(path, part, Drawn(parts[0].space, source, iter, first=first), number)
    return replace(Embeddings.cat(parts), source=source)


def check_range(count: int, first: int, what: str) -> None:
    """Raise a RarityError unless count is at least 1 and first, the number of the first sample, is at least 0."""
    if count < 1:
        raise RarityError(f"The count must be at least 1, got {count}.")
    if first < 0:
        raise RarityError(f"The {what} are numbered from 0 on: first must be 0 or more, got {first}.")


def _write_shard(folder: Path, parts: list[Embeddings]) -> None:
    """Save the parts as one file, named by the index of its first sample, and forget them."""
    if parts:
        whole = replace(Embeddings.cat(parts), source=parts[0].source)
        save_embeddings(whole, folder / f"{parts[0].source['first']:09d}.safetensors")
        parts.clear()


def check_kept(folder: str | Path | None, source: dict) -> None:
    """Raise a RarityError if a folder holds embeddings whose source says something else than this about one of these keys."""
    for path in sorted(Path(folder).glob("*.safetensors"))[:1] if folder else ():
        _check_source(path, load_embeddings(path), source)


def _check_source(path: Path, part: Embeddings, source: dict) -> None:
    wrong = [
        f"{key} {quoted(part.source.get(key))} (asked for: {quoted(value)})"
        for key, value in source.items()
        if part.source.get(key) != value
    ]
    if wrong:
        raise RarityError(
            f"{path.parent} holds samples of another baseline: {', '.join(wrong)}. "
            "Choose another name, or ask for the same."
        )


def _check_shard(path: Path, part: Embeddings, drawn: Drawn, number: int) -> None:
    drawn.space.require_same(part.space, f"samples in {path}")
    _check_source(path, part, drawn.source)
    begins = part.source.get("first")
    if begins != number and number == drawn.first:
        raise RarityError(
            f"{path.parent} holds a baseline whose first file begins with sample {begins}; asked for were samples from "
            f"{number:,} on. Choose another name for this part, or set first to what the folder holds."
        )
    if begins != number:
        raise RarityError(
            f"{path} should begin with sample {number:,}, but begins with {begins}. A file before "
            "it is missing: delete this one and those behind it to draw them again."
        )
