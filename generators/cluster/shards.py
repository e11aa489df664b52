"""A shard, which is the samples or pictures of one piece of work; its file; and the checks of a file."""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import torch

from ...density.base.embeddings import Embeddings
from ...density.base.errors import RarityError, quoted
from ...density.base.identity import sample_keys
from ...density.base.spaces import EmbeddingSpace
from ...density.files.store import load_embeddings, save_embeddings, stream_embeddings

OF_ONE_SHARD = ("first", "producer")  # entries of a shard's source that the density's source does not have


@dataclass(frozen=True)
class Origin:
    """Where all rows of a job come from. A worker knows this after it has loaded the model.

    space : of the rows.   source : of the density, JSON values.
    producer : a name for the weights that draw samples; "" for pictures.
    """

    space: EmbeddingSpace
    source: dict
    producer: str = ""

    @property
    def digest(self) -> str:
        return digest([self.space.to_dict(), self.source, self.producer])

    def keys(self, numbers: range) -> torch.Tensor:
        """The keys of the samples with these numbers."""
        return sample_keys({**self.source, "space": self.space.to_dict(), "producer": self.producer}, numbers)

    def check(self, path: Path, space: EmbeddingSpace, source: dict) -> None:
        """Raise a RarityError unless the file's rows have this origin; it names the file and what differs."""
        wanted = {**self.source, "producer": self.producer}
        wrong = [
            f"{key} {quoted(source.get(key))} (asked for: {quoted(value)})"
            for key, value in wanted.items() if source.get(key) != value
        ]
        wrong += [] if space == self.space else [f"space {space} (asked for: {self.space})"]
        if wrong:
            raise RarityError(
                f"{path} is of another job: {', '.join(wrong)}. Take it out of this folder, or give another name to what is written."
            )


@dataclass(frozen=True)
class Samples:
    """Samples of a prior, by their numbers."""

    numbers: range

    def name(self, origin: Origin) -> str:
        return f"{self.numbers.start:09d}-{self.numbers.stop - 1:09d}-{origin.digest}.safetensors"

    def check(self, path: Path, part: Embeddings, origin: Origin) -> None:
        if not torch.equal(part.keys, origin.keys(self.numbers)):
            raise RarityError(f"{path} does not hold the samples {self.numbers.start:,} to {self.numbers.stop - 1:,}. Delete it.")


@dataclass(frozen=True)
class Pictures:
    """Picture files, and a digest of their sizes and times of change, so that a changed file makes another shard."""

    paths: tuple[str, ...]
    state: str

    def name(self, origin: Origin) -> str:
        return f"pictures-{digest([self.paths, self.state])}-{origin.digest}.safetensors"

    def check(self, path: Path, part: Embeddings, origin: Origin) -> None:
        if part.labels != self.paths:
            raise RarityError(f"{path} does not hold the pictures from {self.paths[0]} to {self.paths[-1]}. Delete it.")


def cut_samples(first: int, count: int, size: int) -> list[Samples]:
    """Shards of the samples first ... first + count - 1.

    Every shard but the first begins at a multiple of `size`, so that a longer run can use the shards of a shorter one.
    """
    _check_size(size)
    starts = [first, *range(first - first % size + size, first + count, size)]
    return [Samples(range(a, b)) for a, b in zip(starts, [*starts[1:], first + count], strict=True)]


def cut_pictures(paths: Iterable[str | os.PathLike], size: int) -> list[Pictures]:
    """Shards of about `size` picture files, in the order of their names.

    The digest of a file's name decides whether a shard ends there, not the number of files before it. So a picture that
    is added or removed changes only its own shard.
    """
    _check_size(size)
    shards, group = [], []
    for path in sorted({os.path.abspath(path) for path in paths}):
        group.append(path)
        if int(digest(path), 16) % size == 0:
            shards.append(group)
            group = []
    return [_pictures(group) for group in [*shards, group] if group]


def _check_size(size: int) -> None:
    if size < 1:
        raise RarityError(f"A shard must hold at least 1, got {size}.")


def _pictures(paths: list[str]) -> Pictures:
    states = []
    for path in paths:
        try:
            found = os.stat(path)
        except OSError as error:
            raise RarityError(f"{path} cannot be read: {error.strerror or error}.") from error
        states.append((found.st_size, found.st_mtime_ns))
    return Pictures(tuple(paths), digest(states))


def write_shard(path: Path, part: Embeddings, origin: Origin, first: int = 0) -> None:
    """Save the rows of a shard in one step, together with their origin."""
    save_embeddings(replace(part, source={**part.source, **origin.source, "producer": origin.producer, "first": first}), path)


def read_shard(path: Path, shard: Samples | Pictures, origin: Origin) -> Embeddings:
    """The rows of a shard's file; a RarityError that names the file if it is damaged or of another job."""
    part = load_embeddings(path)
    origin.check(path, part.space, part.source)
    shard.check(path, part, origin)
    return replace(part, labels=(), source={key: value for key, value in part.source.items() if key not in OF_ONE_SHARD})


def check_folder(folder: Path, origin: Origin) -> None:
    """Raise a RarityError if a file in the folder is damaged or of another model, prompt or setting; it names the file.

    Only the headers of files are read here. The workers check the content.
    """
    for path in sorted(folder.glob("*.safetensors")):
        space, source, *_ = stream_embeddings(path)
        origin.check(path, space, source)


def digest(value: str | Sequence) -> str:
    """A digest of 16 hexadecimal digits for a text or for JSON values."""
    return hashlib.blake2b(json.dumps(value, sort_keys=True).encode(), digest_size=8).hexdigest()
