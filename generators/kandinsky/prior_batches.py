"""Samples of a prior for texts that are read already, some at a time, on the device of the model."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import closing

import torch
from torch import Tensor

from ..runtime.captured import Captured
from ..runtime.memory import Placement, automatic_batch
from ..runtime.noise import normals, normals_beside, streams
from ..runtime.threads import threads_worth
from .prior_chain import PriorChain


class PriorBatches:
    """Draws any consecutive samples of a seed. Sample i is the same whatever else is drawn with it.

    Parameters
    ----------
    chain : the steps for the texts.   read : the `Texts`, one or, with guidance, two.
    placement : brings the transformer to its device.   seed : of the samples' noise.   width : d of the embeddings.
    """

    def __init__(self, chain: PriorChain, read, placement: Placement, seed: int, width: int):
        self._chain, self._texts, self._placement, self._seed, self._width = chain, read, placement, seed, width
        self._cached, self._largest = None, 0

    def draw(self, piece: range, tick: Callable[[int], None] | None = None) -> Tensor:
        """Raw embeddings of the samples with these indices, [n, d] float32 on the CPU. `tick` is called with the steps done."""
        chain, texts, transformer = self._chain, self._texts, self._chain.transformer
        device = self._placement.bring(transformer)
        # These contexts end before the batch is returned: gradients and threads are then as the caller set them.
        with torch.no_grad(), threads_worth(transformer):
            captured = Captured(transformer, "Sampling the prior")
            if self._cached is None:
                call = captured.later if captured.replays else None
                self._cached = chain.to(device).read(texts.embedding.to(device), texts.hidden.to(device), call)
            # A last, smaller piece uses the graph of the others; it is filled up with samples that are thrown away.
            rows = max(len(piece), self._largest) if captured.replays else len(piece)
            own = streams(self._seed, piece.start, rows, "prior")
            noise = normals_beside(own, self._width, chain.steps + 1) if captured.replays else normals(own, self._width)
            with closing(noise):
                x = chain.draw(self._cached, noise, tick, captured)[: len(piece)].float().cpu()
            self._largest = rows
            return x

    def fitting(self, count: int) -> int:
        """How many of `count` samples to draw at a time, if the caller does not say."""
        transformer = self._chain.transformer
        device, config = self._placement.bring(transformer), transformer.config
        width = config.num_attention_heads * config.attention_head_dim
        # Each text has two tokens, and a layer needs about 40 widths of memory for a token, most of it in its wide middle.
        return automatic_batch(count, 2 * len(self._texts.mask) * 40 * width * transformer.dtype.itemsize, device)
