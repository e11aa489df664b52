"""A density of any number of samples or pictures: shards are made by a cluster's workers, kept as files, and merged as they come."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path

from ...density.base.errors import RarityError
from ...density.base.progress import steps as counted
from ...density.estimators.choose import check_estimator
from ..kandinsky.load import MINIATURE
from ..runtime.kept_baselines import check_range
from . import tasks
from .shards import Pictures, Samples, check_folder, cut_pictures, cut_samples
from .tree import MergeTree

SHARD = 4096  # samples: seconds of a graphics card's work, and 21 MB at 1,280 dimensions
PICTURES = 1024  # picture files of a shard, about: they take longer
RETRIES = 3  # by the engine, of a shard that failed, as when a disk was away for a moment

Progress = Callable[[int, int], None]


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
    """The density of a prompt's samples first ... first + count - 1, drawn by all workers of a cluster and written to a file.

    The samples are kept beside it in `shard_folder(out)` while they are drawn, in files that `load_embeddings` reads: a second
    call goes on where the first one ended, whatever ended it. Shards are merged in the order of their numbers, whoever draws
    them and whenever they come: the number of workers does not change the result.

    Parameters
    ----------
    model : a Kandinsky folder that all workers see under this name, or MINIATURE.
    prompt, seed, steps, guidance, negative_prompt : as in `Prior.sample`.
    count, first : how many samples, and the number of the first one.
    out : the density's file. It and the folder beside it must lie on a disk that this machine and all workers share.
    client : of a Dask cluster, as `connect` gives it.
    estimator, components : as in `fit_density`.
    shard : samples in one piece of work, and at most in a file.
    progress : called with (pieces of work done, in all).

    Returns
    -------
    The density in words.

    Raises
    ------
    RarityError : what `Prior.sample` and `fit_density` raise; a file in the folder that is not whole or of another model,
        prompt or setting; workers that do not see the folder or have another model; workers that die again and again.
    KeyboardInterrupt : Ctrl+C, after the density of the shards that were finished was written, with a note of how many
        samples they are. What else `progress` raises ends the work at once; the finished shards are kept.
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
    """The density of picture files, looked at by all workers of a cluster, as `draw_baseline` does it.

    A picture that lies there twice counts once. A later call looks at pictures that are new, and again at the few that are
    in one shard with them or with one that is gone.

    Parameters
    ----------
    paths : picture files that all workers see under these names.
    encoder : a Kandinsky folder that all workers see, or MINIATURE: whose eye looks.
    out, client, estimator, components, progress : as in `draw_baseline`.   shard : pictures in a file, about.

    Raises
    ------
    RarityError : as `draw_baseline`; no pictures, or some that cannot be read (named).
    """
    return _work(client, tasks.Job(_everywhere(encoder)), cut_pictures(paths, shard), out, estimator, components, progress)


def shard_folder(out: str | os.PathLike) -> Path:
    """Where the shards of a density's file are kept: usual.shards beside usual.safetensors."""
    return Path(out).with_suffix(".shards")


def _everywhere(model: str | os.PathLike) -> str:
    """The name of a model for workers, who have a working folder of their own."""
    return MINIATURE if str(model) == MINIATURE else os.path.abspath(model)


def _work(client, job, shards: list[Samples | Pictures], out, estimator: str, components: int, progress) -> str:
    check_estimator(estimator)
    if not shards:
        raise RarityError("There are no pictures to learn from: give picture files, or a folder that holds some.")
    out = Path(os.path.abspath(out))  # links are left as they are: others may reach the place they lead to in another way
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
    """Have all shards made, and merged as they come; returns whether Ctrl+C ended it before all were there."""
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
    """Say what an error of the engine means; what was finished is kept whatever it is."""
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
