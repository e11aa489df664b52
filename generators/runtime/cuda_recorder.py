"""Recording of functions on a graphics card of NVIDIA's (or of AMD's, which torch calls the same)."""

from __future__ import annotations

from collections.abc import Callable
from functools import lru_cache

import torch
from torch import Tensor

WARM = 2  # calls before a capture: libraries choose their kernels, and allocate, at their first ones


class NotCaptured(Exception):
    """A function ran, but could not be captured."""


class CudaRecorder:
    """Captures with CUDA's graphs."""

    def __init__(self, device: torch.device):
        self._device = device

    def record(self, functions: list[Callable], inputs: list[Tensor]) -> tuple[list[Callable], list, int]:
        """Warm up and capture functions of these inputs, in this order.

        Returns
        -------
        What replays each; the outputs of each; the bytes that the graphs hold.

        Raises
        ------
        NotCaptured : the functions run, but cannot be captured. What they raise themselves passes.
        """
        here, side = torch.cuda.current_stream(self._device), _side_stream(self._device)
        side.wait_stream(here)
        with torch.cuda.device(self._device), torch.cuda.stream(side):
            for _ in range(WARM):
                for function in functions:
                    function(*inputs)
            side.synchronize()
            torch.cuda.empty_cache()  # what warming up allocated belongs to this stream, and would lie idle
            before = torch.cuda.memory_reserved(self._device)
            pool = torch.cuda.graph_pool_handle()
            recorded = [self._capture(function, inputs, pool) for function in functions]
        here.wait_stream(side)
        graphs, outputs = zip(*recorded, strict=True)
        return [one.replay for one in graphs], list(outputs), torch.cuda.memory_reserved(self._device) - before

    def mark(self):
        """An event behind what the device was given so far."""
        event = torch.cuda.Event()
        event.record(torch.cuda.current_stream(self._device))
        return event

    def _capture(self, function: Callable, inputs: list[Tensor], pool):
        graph = torch.cuda.CUDAGraph()
        try:
            # Of this thread alone: others may allocate meanwhile, such as those that draw noise.
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
    return torch.cuda.Stream(device)  # one for all: libraries keep workspaces for each stream
