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
            size = slope.abs().max().clamp_min(1e-30)  # half precision knows nothing below 6e-8
            slopes = torch.autograd.grad(made, moving, slope / size, materialize_grads=True)
        slopes = (one * size.to(one.device) for one in slopes)
        return None, *(next(slopes) if need else None for need in needed)


def frozen(module: torch.nn.Module, function: Callable, load: Callable[[], object]) -> Callable:
    """A function of a module, such as one of its methods, that gradients may pass, with the weights of the moment it is called.

    load : brings the module to where it runs, before every call: on the way back another one may have taken its place.
    """
    call = _Call(module, function)

    def run(*given, **told):
        with torch.inference_mode():  # as a host does that keeps its weights so
            load()
        weights = {name: _shared(x) for name, x in (*call.named_parameters(), *call.named_buffers())}
        return torch.func.functional_call(call, weights, given, told)

    return run


def _shared(tensor: Tensor) -> Tensor:
    """The same memory as a tensor that gradients may pass; a copy where torch cannot see the memory."""
    if type(tensor) not in (Tensor, torch.nn.Parameter):
        return own(tensor.detach())
    if not tensor.is_inference():
        return tensor.detach()
    shared = torch.empty(0, dtype=tensor.dtype, device=tensor.device)
    return shared.set_(tensor.untyped_storage(), tensor.storage_offset(), tensor.shape, tensor.stride())


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
