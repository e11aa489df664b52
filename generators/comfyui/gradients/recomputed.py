"""Gradients through networks whose weights are of inference mode, and whose layers change tensors in place."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext

import torch
from torch import Tensor

from .saved_tensors import PLAIN, Saved, passable


def recomputed(function: Callable[..., Tensor], *tensors: Tensor, within: Callable[[Saved], AbstractContextManager] = nullcontext):
    """function(*tensors), without keeping its inner tensors: the backward pass calls the function again.

    Chen et al. (2016), arXiv 1604.06174. The function may change tensors in place. Its second call must give the same
    result. The first call runs in inference mode, as if no gradient were wanted.

    within : makes the context of the second call; its argument is a `Saved`.
    """
    return _Recomputed.apply(function, within, *tensors)


class _Recomputed(torch.autograd.Function):
    @staticmethod
    def forward(ctx, function, within, *tensors):
        ctx.function, ctx.within = function, within
        ctx.save_for_backward(*tensors)
        with torch.inference_mode():
            made = function(*(x.clone() for x in tensors))
        return made.clone()

    @staticmethod
    def backward(ctx, slope):
        needed = ctx.needs_input_grad[2:]
        with torch.enable_grad(), Saved() as saved:
            leaves = [x.detach().clone().requires_grad_(need) for x, need in zip(ctx.saved_tensors, needed, strict=True)]
            with ctx.within(saved):
                made = ctx.function(*(leaf.clone() for leaf in leaves))  # a function may change a copy in place, but not a leaf
            moving = [leaf for leaf in leaves if leaf.requires_grad]
            size = slope.abs().max().clamp_min(1e-30)  # half precision has no numbers below 6e-8
            slopes = torch.autograd.grad(made, moving, slope / size, materialize_grads=True)
        slopes = (one * size.to(one.device) for one in slopes)
        return None, None, *(next(slopes) if need else None for need in needed)


def frozen(module: torch.nn.Module, function: Callable, load: Callable[[], object]) -> Callable:
    """A function of a module, such as one of its methods, made differentiable. It uses the weights at the time of the call.

    Layers of ComfyUI with `comfy_cast_weights` cast their weights themselves. If such weights are no plain tensors they stay
    in their places, and the cast results are differentiable.

    load : brings the module to its device. It is called before every call, because another model may have taken its place
        before the backward pass.
    """
    places = []

    def run(*given, **told):
        with torch.inference_mode():  # as in a host that keeps its weights in inference mode
            load()
        if not torch.is_grad_enabled():
            return function(*given, **told)
        places[:] = places or _places(module)
        with _passable_weights(places):
            return function(*given, **told)

    return run


def _places(module: torch.nn.Module) -> list[tuple[torch.nn.Module, dict[str, Tensor | None], str]]:
    """The places of a module's weights and buffers: the layer, its dictionary of them, and the name in the dictionary."""
    return [
        (layer, held, name) for layer in module.modules() for held in (layer._parameters, layer._buffers) for name in held
    ]


@contextmanager
def _passable_weights(places: list) -> Iterator[None]:
    """A context in which differentiable tensors lie in the places of a module's weights.

    `torch.func.functional_call` does the same by names. For a U-Net of 2,000 weights that takes 30 ms, a tenth of a step.
    """
    replaced = []
    try:
        for layer, held, name in places:
            x = held.get(name)
            if x is not None and (type(x) in PLAIN or not getattr(layer, "comfy_cast_weights", False)):
                replaced.append((held, name, x))
                held[name] = passable(x)
        yield
    finally:
        for held, name, x in reversed(replaced):
            held[name] = x


def own(told):
    """A copy of nested lists and dictionaries in which tensors of inference mode are copied as ordinary tensors."""
    if isinstance(told, Tensor):
        return told.clone() if told.is_inference() else told
    if isinstance(told, dict):
        return {key: own(value) for key, value in told.items()}
    return [own(value) for value in told] if isinstance(told, list) else told


@contextmanager
def own_tensors(thing) -> Iterator[None]:
    """A context in which an object has ordinary copies of its tensors of inference mode, which gradients cannot pass."""
    held = {name: x for name, x in vars(thing).items() if isinstance(x, Tensor) and x.is_inference()}
    vars(thing).update(own(held))
    try:
        yield
    finally:
        vars(thing).update(held)
