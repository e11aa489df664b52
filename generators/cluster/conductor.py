"""A density of any number of samples or pictures: a cluster's workers make shards, keep them as files, merge them."""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path

from ...density.base.errors import RarityError
from ...density.base.progress import Progress
from ...density.base.progress import steps as counted
from ...density.estimators.choose import check_estimator
from ..kandinsky.load import BUILT_IN, MINIATURE
from ..runtime.kept_baselines import check_range
from . import tasks
from .shards import Pictures, Samples, check_folder, cut_pictures, cut_samples
from .tree import MergeTree

SHARD = 4096  # samples of a shard: a graphics card's work of some seconds, and 21 MB at 1,280 dimensions
PICTURES = 1024  # about as many picture files are in a shard; they take longer than samples
RETRIES = 3  # Dask tries a failed shard again so often: a disk may have been away for a moment


def draw_baseline(
    model: str | os.PathLike,
    prompt: str,
    count: int,
    out: str | os.PathLike,
    *,
    client,
    first: int = 0,
    seed: int = 0,
    steps: int = 25,
    guidance: float = 4.0,
    negative_prompt: str = "",
    estimator: str = "ppca",
    components: int = 0,
    shard: int = SHARD,
    progress: Progress | None = None,
) -> str:
    """Draw samples of a prompt with all workers of a cluster, and write their density to a file.

    The samples have the numbers first ... first + count - 1. While they are drawn, they are kept beside the density in
    `shard_folder(out)`, in files that `load_embeddings` reads. So a second call continues where the first one ended,
    for whatever reason. Shards are merged in the order of their numbers. So the result does not depend on the number of
    workers or on the order in which shards are finished.

    Parameters
    ----------
    model : a Kandinsky folder that all workers see under this name, or a name of BUILT_IN.
    prompt, seed, steps, guidance, negative_prompt : as in `Prior.sample`.
    count, first : the number of samples, and the number of the first one.
    out : the density's file. It and the folder beside it must lie on a disk that this machine and all workers share.
    client : of a Dask cluster, as `connect` gives it.
    estimator, components : as in `fit_density`.
    shard : most samples in one piece of work and in a file.
    progress : called with (pieces of work done, all pieces).

    Returns
    -------
    The density in words.

    Raises
    ------
    RarityError : what `Prior.sample` and `fit_density` raise; a file in the folder that is damaged or of another model,
        prompt or setting; workers that do not see the folder or have another model; workers that die repeatedly.
    KeyboardInterrupt : Ctrl+C. The density of the finished shards is written first, with a note of how many samples
        they hold. Any other exception that `progress` raises ends the work at once; the finished shards are kept.
    """
    check_range(count, first, "samples")
    settings = {"prompt": prompt, "seed": seed, "steps": steps, "guidance": guidance, "negative_prompt": negative_prompt}
    job = tasks.Job(_everywhere(model), settings)
    return _work(client, job, cut_samples(first, count, shard), out, estimator, components, progress)


def fit_pictures(
    paths: Iterable[str | os.PathLike],
    out: str | os.PathLike,
    *,
    client,
    encoder: str | os.PathLike = MINIATURE,
    estimator: str = "ppca",
    components: int = 0,
    shard: int = PICTURES,
    progress: Progress | None = None,
) -> str:
    """Encode picture files with all workers of a cluster, and write their density to a file, as `draw_baseline` does.

    A picture that occurs twice counts once. A later call encodes only new pictures, and those few that share a shard
    with a new or a removed one.

    Parameters
    ----------
    paths : picture files that all workers see under these names.
    encoder : a Kandinsky folder that all workers see, or MINIATURE; its image encoder is used.
    out, client, estimator, components, progress : as in `draw_baseline`.
    shard : about so many pictures are in one piece of work and in a file.

    Raises
    ------
    RarityError : as `draw_baseline`; no pictures; pictures that cannot be read (the error names them).
    """
    return _work(client, tasks.Job(_everywhere(encoder)), cut_pictures(paths, shard), out, estimator, components, progress)


def shard_folder(out: str | os.PathLike) -> Path:
    """The folder for the shards of a density's file: usual.shards beside usual.safetensors."""
    return Path(out).with_suffix(".shards")


def _everywhere(model: str | os.PathLike) -> str:
    """The name of a model for workers, as an absolute path, because a worker has its own working folder."""
    return str(model) if str(model) in BUILT_IN else os.path.abspath(model)


def _work(client, job, shards: list[Samples | Pictures], out, estimator: str, components: int, progress) -> str:
    check_estimator(estimator)
    if not shards:
        raise RarityError("There are no pictures to learn from: give picture files, or a folder that holds some.")
    out = Path(os.path.abspath(out))  # links are not resolved: their target may have another path on other machines
    folder = shard_folder(out)
    folder.mkdir(parents=True, exist_ok=True)
    with _in_words(folder):
        origin, notes = client.submit(tasks.describe, job, pure=False).result()
        check_folder(folder, origin)
        files = [(shard, folder / shard.name(origin)) for shard in shards]
        tree, tick = MergeTree(client, origin, files), counted(progress, len(files) + 1)
        stopped = _make(client, job, files, origin, tree, tick)
        tree.take_the_rest()
        if not tree.rows:
            raise KeyboardInterrupt
        note = f"Stopped after {tree.rows:,} samples, before all that were asked for." if stopped else ""
        report = tree.learn(out, estimator, components, note).result()
    if stopped:
        raise KeyboardInterrupt(report)
    tick()
    return "\n".join([report, *notes])


def _make(client, job, files: list[tuple[Samples | Pictures, Path]], origin, tree: MergeTree, tick) -> bool:
    """Let the workers make all shards and merge them as they are finished. Returns whether Ctrl+C ended this early."""
    from distributed import as_completed

    places = {
        client.submit(tasks.make_shard, job, shard, path, origin, pure=False, retries=RETRIES): place
        for place, (shard, path) in enumerate(files)
    }
    try:
        tick(0)
        for future in as_completed(list(places), loop=client.loop):
            tree.take(places[future], future.result())
            future.release()
            tick()
    except KeyboardInterrupt:
        return True
    finally:
        client.cancel([future for future in places if not future.done()], force=True)
    return False


@contextmanager
def _in_words(folder: Path) -> Iterator[None]:
    """Turn Dask's errors into sentences that say what they mean, and that finished shards are kept."""
    from distributed import KilledWorker
    from distributed.client import FutureCancelledError

    kept = f"What was finished is kept in {folder}: start again to go on."
    try:
        yield
    except KilledWorker as error:
        raise RarityError(
            f"A piece of work was given up, as its workers died: {error}. Look into their own output; mostly their memory is too "
            f"small for the model. {kept}"
        ) from error
    except FutureCancelledError as error:
        reason = str(error).rstrip(".")
        raise RarityError(f"The scheduler ended, or dropped the work: {reason}. {kept}") from error
    except ImportError as error:
        raise RarityError(
            f'The workers or their scheduler lack something: {error}. Install the same "rarity-nodes[cluster]" on all. {kept}'
        ) from error
