"""A real Dask cluster of three processes, and a smaller one of the same machine."""

import sys

import pytest

distributed = pytest.importorskip("distributed")

HEAVY = [  # what a worker needs of them takes ten seconds to import: a process that is forked has it already
    "diffusers.models.transformers.prior_transformer", "diffusers.models.unets.unet_2d_condition",
    "diffusers.models.autoencoders.vq_model", "transformers.models.clip.modeling_clip", "rarity.generators.cluster",
]


@pytest.fixture(scope="session")
def client():
    """Of three workers, each a process with one thread."""
    import dask
    from distributed.utils import get_mp_context
    from rarity.generators.cluster import connect

    method = "spawn" if sys.platform == "win32" else "forkserver"
    with dask.config.set({"distributed.worker.multiprocessing-method": method}):
        if method == "forkserver":
            get_mp_context().set_forkserver_preload(HEAVY)
        with connect(workers=3) as found:
            yield found


@pytest.fixture(autouse=True)
def as_many_threads_as_a_worker_has():
    """On some processors two threads sum in another order than one, and these tests compare bits."""
    import torch

    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)
