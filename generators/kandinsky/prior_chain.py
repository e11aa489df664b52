"""The steps of Kandinsky's prior from noise to embeddings. Each is a function of tensors of fixed sizes."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from functools import partial

import torch
from torch import Tensor

from .cached_prior import CachedPrior, Prefix, predict
from .posterior import factors_of, step_back, steps_back


class PriorChain:
    """The steps of a prior for n texts.

    Parameters
    ----------
    transformer : diffusers.PriorTransformer.   scheduler : its diffusers.UnCLIPScheduler.
    mask : [n, t] on the CPU, False where a text's token is padding.
    steps, guidance : as for `Prior.sample`.
    """

    def __init__(self, transformer, scheduler, mask: Tensor, steps: int, guidance: float):
        self.transformer, self.steps = transformer, steps
        back = steps_back(scheduler, steps)
        self._mask, self._times, self.limit = mask, [step.time for step in back], back[0].limit
        self._factors = torch.cat([factors_of(back), torch.full((steps, 1), guidance)], dim=1)
        self._prefix: Prefix | None = None

    def to(self, device: torch.device) -> PriorChain:
        """Bring all tensors to this device, so that nothing has to be copied there during the steps."""
        if self._prefix is None or self._factors.device != device:
            self._factors, self._prefix = self._factors.to(device), Prefix(self._mask, self._times, device)
        return self

    def read(self, embedding: Tensor, hidden: Tensor, call: Callable | None = None) -> CachedPrior:
        """Read the texts' embeddings [n, d] and the states of their tokens [n, t, d]; `call` as for `draw`."""
        return CachedPrior(self.transformer, embedding, hidden, self._prefix, call)

    def draw(
        self,
        cached: CachedPrior,
        noise: Iterator[Tensor],
        tick: Callable[[int], None] | None = None,
        call: Callable[..., Tensor] | None = None,
    ) -> Tensor:
        """One batch from noise to raw embeddings, [b, d] on the device. The state x stays in float32 between steps.

        Parameters
        ----------
        noise : steps + 1 tensors [b, d].
        tick : called after each step with the number of steps done, and again when gradients pass the step. An exception
            that it raises cancels the work.
        call : called with a step's function, its tensors, and what else it depends on. None just calls the function.
        """
        device = self._factors.device
        step = partial(_step, self.transformer, self.limit)
        x = next(noise).to(device, non_blocking=True)
        for done, factors in enumerate(self._factors):
            given = (x, next(noise).to(device, non_blocking=True), factors, *cached.at(done))
            x = step(*given) if call is None else call(step, *given, depends=self.limit)
            if tick:
                tick(done + 1)
                if x.requires_grad:  # the backward pass takes longer than the forward pass
                    x.register_hook(lambda _, done=done: tick(done + 1))
        return self.transformer.post_process_latents(x)


def _step(
    transformer, limit: float, x: Tensor, noise: Tensor, factors: Tensor, memory: Tensor, time: Tensor, padding: Tensor
) -> Tensor:
    """x_s from x_t [b, d]; with two texts x_hat = u + g (c - u)."""
    predicted, *unconditional = predict(transformer, x, memory, time, padding)
    for other in unconditional:
        predicted = other + factors[3] * (predicted - other)
    return step_back(x, predicted, noise, factors[:3], limit)
