"""Recording of functions on a graphics card of NVIDIA (or of AMD, which torch also calls "cuda")."""

from __future__ import annotations

from collections.abc import Callable
from functools import lru_cache

import torch
from torch import Tensor

WARM = 2  # calls before a capture; in their first calls libraries choose kernels and allocate memory


class NotCaptured(Exception):
    """Raised for a function that runs, but cannot be captured."""


class CudaRecorder:
    """Captures with CUDA's graphs."""

    def __init__(self, device: torch.device):
        self._device = device

    def record(self, functions: list[Callable], inputs: list[Tensor]) -> tuple[list[Callable], list, int]:
        """Call the functions a few times on these inputs, in this order, and then capture them.

        Returns
        -------
        For each function what replays it; for each function its outputs; the bytes that the graphs hold.

        Raises
        ------
        NotCaptured : the functions run, but cannot be captured. Errors of the functions themselves pass.
        """
        here, side = torch.cuda.current_stream(self._device), _side_stream(self._device)
        side.wait_stream(here)
        with torch.cuda.device(self._device), torch.cuda.stream(side):
            for _ in range(WARM):
                for function in functions:
                    function(*inputs)
            side.synchronize()
            torch.cuda.empty_cache()  # memory of the first calls belongs to this stream, and nobody else could use it
            before = torch.cuda.memory_reserved(self._device)
            pool = torch.cuda.graph_pool_handle()
            recorded = [self._capture(function, inputs, pool) for function in functions]
        here.wait_stream(side)
        graphs, outputs = zip(*recorded, strict=True)
        return [one.replay for one in graphs], list(outputs), torch.cuda.memory_reserved(self._device) - before

    def mark(self):
        """An event that happens when the device has done all work that it was given so far."""
        event = torch.cuda.Event()
        event.record(torch.cuda.current_stream(self._device))
        return event

    def _capture(self, function: Callable, inputs: list[Tensor], pool):
        graph = torch.cuda.CUDAGraph()
        try:
            # "thread_local", because other threads, such as those that draw noise, may allocate memory meanwhile.
            graph.capture_begin(pool=pool, capture_error_mode="thread_local")
            try:
                outputs = function(*inputs)
            finally:
                graph.capture_end()
        except torch.cuda.OutOfMemoryError:
            raise
        except RuntimeError as error:
            raise NotCaptured from error
        return graph, outputs


@lru_cache
def _side_stream(device: torch.device):
    return torch.cuda.Stream(device)  # one stream for all captures, because libraries keep a workspace for each stream
