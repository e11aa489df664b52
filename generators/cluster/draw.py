"""A density of any number of samples or pictures: shards are made by a cluster's workers, kept as files, and merged as they come."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable
from pathlib import Path

from ...density.errors import RarityError
from ...density.fit import check_estimator
from ..baseline import check_range
from ..kandinsky import MINIATURE
from . import worker
from .merging import Merging
from .shards import Pictures, Samples, check_folder, cut_pictures, cut_samples

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
    job = worker.Job(str(model), settings)
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
    shards = cut_pictures(paths, shard)
    if not shards:
        raise RarityError("There are no pictures to learn from: give picture files, or a folder that holds some.")
    return _work(client, worker.Job(str(encoder)), shards, out, estimator, components, progress)


def shard_folder(out: str | os.PathLike) -> Path:
    """Where the shards of a density's file are kept: usual.shards beside usual.safetensors."""
    return Path(out).with_suffix(".shards")


def _work(client, job, shards: list[Samples | Pictures], out, estimator: str, components: int, progress) -> str:
    from distributed import KilledWorker, as_completed

    check_estimator(estimator)
    out = Path(out).resolve()
    folder = shard_folder(out)
    folder.mkdir(parents=True, exist_ok=True)
    origin, notes = client.submit(worker.describe, job, pure=False).result()
    check_folder(folder, origin)
    paths = [folder / shard.name(origin) for shard in shards]
    merging = Merging(client, origin, list(zip(shards, paths, strict=True)))
    draws = {
        client.submit(worker.make_shard, job, shard, path, origin, pure=False, retries=RETRIES): place
        for place, (shard, path) in enumerate(zip(shards, paths, strict=True))
    }
    total, stopped = len(draws) + 1, False
    try:
        if progress:
            progress(0, total)
        for done, future in enumerate(as_completed(list(draws), loop=client.loop), start=1):
            merging.take(draws[future], future.result())
            future.release()
            if progress:
                progress(done, total)
    except KeyboardInterrupt:
        stopped = True
    except KilledWorker as error:
        raise RarityError(
            f"A piece of work was given up: {error}. Look into the workers' own output; mostly their memory is too small for the "
            f"model. What was finished is kept in {folder}: start again to go on."
        ) from error
    finally:
        client.cancel([future for future in draws if not future.done()], force=True)
    merging.take_the_rest()
    counted = merging.rows
    note = f"Stopped after {counted:,} samples, before all that were asked for." if stopped else ""
    if not counted:
        raise KeyboardInterrupt
    report = merging.learn(out, estimator, components, note).result()
    if progress:
        progress(total, total)
    if stopped:
        raise KeyboardInterrupt(report)
    return "\n".join([report, *notes])
