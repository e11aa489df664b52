"""Gradients through networks that were not made for it: weights of inference mode, and layers that change tensors in place."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor


def recomputed(function: Callable[..., Tensor], *tensors: Tensor) -> Tensor:
    """function(*tensors), of whose inside nothing is kept: on the way back it is called once more.

    Chen et al. (2016), arXiv 1604.06174. The function may change tensors in place. It must be the same when called again.
    """
    return _Recomputed.apply(function, *tensors)


class _Recomputed(torch.autograd.Function):
    @staticmethod
    def forward(ctx, function, *tensors):
        ctx.function = function
        ctx.save_for_backward(*tensors)
        return function(*(x.clone() for x in tensors))

    @staticmethod
    def backward(ctx, slope):
        needed = ctx.needs_input_grad[1:]
        with torch.enable_grad(), torch.autograd.graph.allow_mutation_on_saved_tensors():
            leaves = [x.detach().clone().requires_grad_(need) for x, need in zip(ctx.saved_tensors, needed, strict=True)]
            made = ctx.function(*(leaf.clone() for leaf in leaves))  # a leaf may not be changed in place, a copy may
            moving = [leaf for leaf in leaves if leaf.requires_grad]
            slopes = iter(torch.autograd.grad(made, moving, slope, allow_unused=True))
        return None, *(next(slopes) if need else None for need in needed)


def copies_of(module: torch.nn.Module) -> dict[str, Tensor]:
    """A module's weights and buffers by name, as gradients may pass them; copies only of those made under inference mode."""
    tensors = {**dict(module.named_parameters()), **dict(module.named_buffers())}
    return {name: own(tensor.detach()) for name, tensor in tensors.items()}


def frozen(module: torch.nn.Module, function: Callable, copies: dict[str, Tensor]) -> Callable:
    """A function of a module, such as one of its methods, with these weights in place of its own for the length of a call."""
    call, named = _Call(module, function), {f"module.{name}": tensor for name, tensor in copies.items()}
    return lambda *given, **told: torch.func.functional_call(call, named, given, told)


class _Call(torch.nn.Module):
    """A function of a module as a forward, as `functional_call` wants it."""

    def __init__(self, module: torch.nn.Module, function: Callable):
        super().__init__()
        self.module, self._function = module, function

    def forward(self, *given, **told):
        return self._function(*given, **told)


def own(told):
    """The same, with every tensor made under inference mode copied; lists and dictionaries in it are new ones."""
    if isinstance(told, Tensor):
        return told.clone() if told.is_inference() else told
    if isinstance(told, dict):
        return {key: own(value) for key, value in told.items()}
    return [own(value) for value in told] if isinstance(told, list) else told
