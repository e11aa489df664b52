"""The gradients of one batch, computed in as many pieces as memory requires. The learning step stays the same."""

from __future__ import annotations

import math
from collections.abc import Callable

import torch
from torch import Tensor

from ...density.base.log import get_logger
from ..runtime.memory import Placement, attempt, too_little_memory

logger = get_logger(__name__)


class Gradients:
    """Sets the gradients of the learnt tensors, one batch after the other.

    Parameters
    ----------
    draw : gives the samples of a range of rows, [n, d], with gradients to the learnt tensors.
    learnt : the tensors that get gradients.
    size : samples at a time. It is halved, and stays halved, if they do not fit in memory.
    placement : makes room in memory before the next try.
    """

    def __init__(self, draw: Callable[[range], Tensor], learnt: list[Tensor], size: int, placement: Placement):
        self._draw, self._learnt, self.size, self._placement = draw, learnt, size, placement

    def pull(self, rows: range, loss_of: Callable[[Tensor], Tensor]) -> Tensor:
        """Set the gradients of loss_of(samples of the rows), and return that loss, a number.

        The loss may combine the samples in any way. If the batch is drawn in pieces, all samples are first drawn
        without gradients. They give the loss's slope at every sample, dL/dx. Then every piece is drawn again, and its
        own part of the slope is sent back through it:

            dL/dw  =  sum over pieces  (dx_piece/dw)' dL/dx_piece

        The slopes are scaled before they pass the model, and the gradients are scaled back.

        Parameters
        ----------
        loss_of : the loss of samples [b, d], float64 on the CPU.

        Raises
        ------
        RarityError : not even one sample fits in memory.
        """
        while True:
            for tensor in self._learnt:
                tensor.grad = None
            loss, complaint = attempt(self._try, rows, loss_of)
            if complaint is None:
                return loss
            tried = min(self.size, len(rows))
            self._placement.make_room()
            if tried == 1:
                raise too_little_memory(complaint)
            self.size = (tried + 1) // 2
            logger.warning("Learning from %d samples at a time does not fit in memory; going on with %d.", tried, self.size)

    def _try(self, rows: range, loss_of) -> Tensor:
        pieces = [rows[start : start + self.size] for start in range(0, len(rows), self.size)]
        with torch.set_grad_enabled(len(pieces) == 1):
            drawn = [self._draw(piece) for piece in pieces]
        x = torch.cat(drawn).detach().double().requires_grad_(True)
        loss = loss_of(x)
        (slope,) = torch.autograd.grad(loss, x)
        scale = _scale(slope)
        for piece, part in zip(pieces, (slope * scale).split(self.size), strict=True):
            again = drawn[0] if len(pieces) == 1 else self._draw(piece)
            again.backward(part.to(again.dtype))
        for tensor in self._learnt:
            tensor.grad /= scale
        return loss.detach()


def _scale(slope: Tensor) -> float:
    """The power of two that brings the largest slope near 1: 16-bit weights lose very small and very large slopes."""
    largest = float(slope.abs().max())
    return 2.0 ** -math.frexp(largest)[1] if 0 < largest < math.inf else 1.0
