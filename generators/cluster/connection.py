"""Connect to a Dask cluster that runs already, or start one on this machine."""

from __future__ import annotations

import signal
from collections.abc import Iterator
from contextlib import contextmanager

from ...density.base.errors import RarityError
from ...density.base.log import get_logger

log = get_logger(__name__)

PATIENCE = 4  # seconds in which a scheduler must answer


@contextmanager
def connect(scheduler: str | None = None, *, workers: int = 1) -> Iterator:
    """A Dask client, which is closed at the end. A cluster that was started here ends with it.

    Parameters
    ----------
    scheduler : the address of a running scheduler, such as tcp://host:8786. None starts a cluster on this machine.
    workers : number of processes of a cluster that is started here; each loads its own model.

    Raises
    ------
    RarityError : Dask is not installed, no scheduler answers within PATIENCE seconds, fewer than one worker.
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
    # Ctrl+C reaches every process of a console. Workers ignore it, because they still have to merge the finished
    # shards. They inherit this from the process that starts them. Python allows setting it in the main thread only.
    heard = signal.signal(signal.SIGINT, signal.SIG_IGN) if _in_main_thread() else None
    try:
        # One thread for each worker, because a model serves one thread at a time. No memory limit: the work itself is
        # small, and Dask's limit would kill a worker for the memory of its model.
        return distributed.LocalCluster(
            n_workers=workers, threads_per_worker=1, processes=True, memory_limit=0, dashboard_address="127.0.0.1:0"
        )
    finally:
        if heard is not None:
            signal.signal(signal.SIGINT, heard)


def _deaf_to_ctrl_c(distributed):
    """A plugin for workers that Dask starts in place of dead ones: they ignore Ctrl+C, too."""

    class DeafToCtrlC(distributed.WorkerPlugin):
        name = "deaf to Ctrl+C"

        def setup(self, worker) -> None:
            if _in_main_thread():
                signal.signal(signal.SIGINT, signal.SIG_IGN)

    return DeafToCtrlC()


def _in_main_thread() -> bool:
    import threading

    return threading.current_thread() is threading.main_thread()
