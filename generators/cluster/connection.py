"""A client of Dask's engine: of a cluster that runs already, or of one that is started on this machine."""

from __future__ import annotations

import signal
from collections.abc import Iterator
from contextlib import contextmanager

from ...density.base.errors import RarityError
from ...density.base.log import get_logger

log = get_logger(__name__)

PATIENCE = 4  # seconds for a scheduler to answer


@contextmanager
def connect(scheduler: str | None = None, *, workers: int = 1) -> Iterator:
    """A Dask client, closed at the end; a cluster that was started here ends with it.

    Parameters
    ----------
    scheduler : the address of a scheduler that runs, as tcp://host:8786. None starts a cluster on this machine.
    workers : processes of that cluster, each with a model of its own.

    Raises
    ------
    RarityError : Dask is not installed, no scheduler answers within PATIENCE seconds, less than one worker.
    """
    try:
        import distributed
    except ImportError as error:
        raise RarityError(
            'Work on several machines or processes needs Dask. Install it with: pip install "rarity-nodes[cluster]"'
        ) from error
    if scheduler is None:
        with _own_cluster(distributed, workers) as cluster, distributed.Client(cluster, set_as_default=False) as client:
            client.register_plugin(_deaf_to_ctrl_c(distributed))
            yield client
        return
    try:
        client = distributed.Client(scheduler, timeout=PATIENCE, set_as_default=False)
    except (OSError, ValueError) as error:  # a TimeoutError is an OSError
        raise RarityError(
            f"No scheduler answers at {scheduler}: {error}. Start one with `dask scheduler`, or give the address that it "
            "prints, such as tcp://192.168.0.7:8786."
        ) from error
    with client:
        if not client.scheduler_info(n_workers=-1)["workers"]:
            log.warning("The scheduler at %s has no worker yet. The work begins when one joins: `dask worker %s`.", scheduler, scheduler)
        yield client


def _own_cluster(distributed, workers: int):
    if workers < 1:
        raise RarityError(f"A cluster needs at least 1 worker, got {workers}.")
    # Workers take no notice of Ctrl+C, which reaches every process of a console: what is finished has to be merged then.
    # They take this over from the process that starts them, which may set it in its main thread only.
    heard = signal.signal(signal.SIGINT, signal.SIG_IGN) if _in_main_thread() else None
    try:
        # One thread each: a model is used by one at a time. No limit of memory: Dask's would kill a worker for what its
        # model takes, and the parts of the work are small.
        return distributed.LocalCluster(
            n_workers=workers, threads_per_worker=1, processes=True, memory_limit=0, dashboard_address="127.0.0.1:0"
        )
    finally:
        if heard is not None:
            signal.signal(signal.SIGINT, heard)


def _deaf_to_ctrl_c(distributed):
    """The same for workers that are started again in place of those that died."""

    class DeafToCtrlC(distributed.WorkerPlugin):
        name = "deaf to Ctrl+C"

        def setup(self, worker) -> None:
            if _in_main_thread():
                signal.signal(signal.SIGINT, signal.SIG_IGN)

    return DeafToCtrlC()


def _in_main_thread() -> bool:
    import threading

    return threading.current_thread() is threading.main_thread()
