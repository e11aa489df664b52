"""What runs on a worker: make a shard, merge shards, learn the density. A process loads its model once."""

from __future__ import annotations

import socket
import threading
from dataclasses import dataclass
from functools import lru_cache, reduce
from pathlib import Path
from typing import NamedTuple

import torch
from torch import Tensor

from ...density.base.embeddings import Embeddings, common
from ...density.base.errors import RarityError
from ...density.base.keys import member
from ...density.estimators.choose import learn_density
from ...density.files.store import save_density
from ...density.statistics.sufficient_statistics import Statistics
from ..eyes.encoding import check_texts
from ..eyes.picture_files import encode_picture_files
from ..eyes.prompt_tokens import unread
from ..kandinsky.load import BUILT_IN, load_kandinsky
from ..kandinsky.prior import Prior, sampling_source
from .shards import Origin, Pictures, Samples, read_shard, write_shard

ONE_AT_A_TIME = threading.Lock()  # a worker may have several threads, but a model serves one at a time


@dataclass(frozen=True)
class Job:
    """The model that draws samples or encodes pictures, and the samples' settings.

    model : a Kandinsky folder that every worker has, or a name of BUILT_IN.
    settings : prompt, seed, steps, guidance and negative_prompt of samples; None for pictures.
    """

    model: str
    settings: dict | None = None


class Part(NamedTuple):
    """The merged statistics of some shards, and the source that they share."""

    statistics: Statistics
    source: dict


def describe(job: Job) -> tuple[Origin, list[str]]:
    """The origin of a job's rows, and notes on what the model does not read of the prompt."""
    with ONE_AT_A_TIME:
        prior = load(job.model)
        if job.settings is None:
            return Origin(prior.space, {"kind": "pictures"}), []
        texts = [job.settings["prompt"], job.settings["negative_prompt"]]
        check_texts(texts[:1])
        return Origin(prior.space, sampling_source(**job.settings), prior.producer), unread(prior.reads(texts))


def make_shard(job: Job, shard: Samples | Pictures, path: Path, origin: Origin) -> Tensor:
    """Write the file of a shard, unless it is there already. Returns the keys of its rows, [n] int64."""
    if not path.parent.is_dir():
        raise RarityError(
            f"{socket.gethostname()} does not see the folder {path.parent}. All workers and the machine that starts the work "
            "write to one folder: put it on a disk that all of them share, under the same name."
        )
    if path.is_file():
        return read_shard(path, shard, origin).keys
    with ONE_AT_A_TIME:
        prior = load(job.model)
        if (prior.space, prior.producer) != (origin.space, origin.producer or prior.producer):
            raise RarityError(
                f"{socket.gethostname()} has another model in {job.model} than the other workers. Copy the same one to all."
            )
        if isinstance(shard, Pictures):
            part, first = encode_picture_files(prior, shard.paths), 0
        else:
            numbers, first = shard.numbers, shard.numbers.start
            part = Embeddings.cat(prior.sample_batches(count=numbers.stop, first=first, **job.settings))
    write_shard(path, part, origin, first)
    return part.keys


def merge_shards(shards: list[tuple[Samples | Pictures, Path]], origin: Origin, seen: Tensor) -> Part:
    """The statistics of the rows of these files, in their order. Rows whose keys are in `seen` count as repeats."""
    statistics, sources = Statistics(origin.space.width), []
    for shard, path in shards:
        part = read_shard(path, shard, origin)
        new = ~member(part.keys, seen)
        statistics.update(part.vectors[new], part.keys[new])
        statistics.repeats += int((~new).sum())
        sources.append(part.source)
    return Part(statistics, common(sources))


def merge_parts(parts: list[Part]) -> Part:
    """Merge parts in their order."""
    return Part(reduce(Statistics.merge, (part.statistics for part in parts)), common([part.source for part in parts]))


def learn(parts: list[Part], origin: Origin, out: Path, estimator: str, components: int, note: str) -> str:
    """Learn the density of all parts, write it to `out`, and describe it."""
    statistics, source = merge_parts(parts)
    density = learn_density(statistics, origin.space, estimator, source=source, components=components)
    density.notes += (note,) if note else ()
    save_density(density, out)
    return density.describe()


@lru_cache(maxsize=1)
def load(model: str) -> Prior:
    """The prior of a folder, on the worker's graphics card if it has one.

    On a card it is in float16, as in ComfyUI. Samples carry the name of their weights, which is the same in float32.
    """
    card = torch.cuda.is_available()
    half = torch.float16 if card and model not in BUILT_IN else None
    try:
        prior, _ = load_kandinsky(model, device="cuda" if card else "cpu", dtype=half)
    except RarityError as error:
        raise RarityError(f"On {socket.gethostname()}: {error}") from error
    return prior
