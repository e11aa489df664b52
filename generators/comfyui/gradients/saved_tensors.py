"""The tensors that a backward pass needs, kept correct although layers change tensors in place and a host removes weights."""

from __future__ import annotations

import weakref
from collections.abc import Callable
from contextlib import AbstractContextManager, ExitStack
from functools import cache

import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

PLAIN = (Tensor, torch.nn.Parameter)  # torch sees the memory of these types; other types may consist of several tensors


class Saved:
    """A context for a function and its gradient. Tensors saved for the backward pass keep the values they had when saved.

    It does what `torch.autograd.graph.allow_mutation_on_saved_tensors` does, and three things more. It notices a change
    through a view that begins further on in the memory, for which torch silently gives a wrong gradient. Tensors of
    inference mode may be changed in place; torch reads their version counter, which they do not have. Weights can be lent
    (`lend`). The function and its gradient both run inside the same context.
    """

    def __init__(self):
        self._kept: dict[int, weakref.WeakSet[_Kept]] = {}  # address of the memory -> what is kept of it
        self._lent: list[_Lent] = []

    def __enter__(self) -> Saved:
        with ExitStack() as stack:
            stack.enter_context(torch.autograd.graph.saved_tensors_hooks(self._keep, lambda kept: kept.tensor))
            stack.enter_context(_BeforeWriting(self._written))
            self._exit = stack.pop_all()
        return self

    def __exit__(self, *error) -> None:
        self._exit.close()

    def lend(self, weight: Tensor, again: Callable[[], AbstractContextManager[Tensor]]) -> Tensor:
        """The weight as a differentiable tensor for the next operation. Its memory may be used for something else later.

        Parameters
        ----------
        weight : may be a tensor of inference mode.
        again : a context that gives the same weight again. If the backward pass needs the weight, it is fetched with this
            context, copied, and given back at once, so that only one weight at a time takes memory of its own.
        """
        lent = passable(weight) if type(weight) in PLAIN else weight.detach().clone()
        self._lent.append(_Lent(lent, again))
        return lent

    def _keep(self, tensor: Tensor) -> _Kept | _Part:
        self._lent = [one for one in self._lent if one.in_use()]
        for one in reversed(self._lent):
            if one.holds(tensor):
                return _Part(one, tensor)
        kept = _Kept(tensor.detach())
        self._kept.setdefault(_memory(tensor), weakref.WeakSet()).add(kept)
        return kept

    def _written(self, tensor: Tensor) -> None:
        for kept in self._kept.pop(_memory(tensor), ()):
            kept.tensor = kept.tensor.clone()


def passable(tensor: Tensor) -> Tensor:
    """A differentiable tensor of the same memory, with the attributes that the host gave it.

    It is a copy if torch cannot see the memory.
    """
    if type(tensor) not in PLAIN:
        tensor = tensor.detach()
        return tensor.clone() if tensor.is_inference() else tensor
    if tensor.is_inference():
        shared = torch.empty(0, dtype=tensor.dtype, device=tensor.device)
        shared = shared.set_(tensor.untyped_storage(), tensor.storage_offset(), tensor.shape, tensor.stride())
    else:
        shared = tensor.detach()
    shared.__dict__.update(tensor.__dict__)
    return shared


class _Kept:
    """A tensor that the backward pass needs. It is copied before something is written to its memory."""

    def __init__(self, tensor: Tensor):
        self.tensor = tensor


class _Lent:
    """A weight while an operation uses it."""

    def __init__(self, weight: Tensor, again: Callable[[], AbstractContextManager[Tensor]]):
        self.again, self._weight = again, weakref.ref(weight)
        self.start, self._kind = weight.data_ptr(), (type(weight), weight.dtype)

    def in_use(self) -> bool:
        """Whether the operation still uses it. Afterwards something else may lie in its memory."""
        return self._weight() is not None

    def holds(self, tensor: Tensor) -> bool:
        """Whether a tensor is the weight, or a part or a transpose of it."""
        weight = self._weight()
        if (type(tensor), tensor.dtype) != self._kind:
            return False
        if type(tensor) is not Tensor:  # such as a quantised tensor, whose memory is smaller than it says; its parts are copies
            return (tensor.data_ptr(), tensor.shape, tensor.stride()) == (self.start, weight.shape, weight.stride())
        return 0 <= tensor.data_ptr() - self.start < weight.numel() * weight.element_size()

    def copy(self) -> Tensor:
        with self.again() as weight:
            return weight.clone()


class _Part:
    """A part of a lent weight that the backward pass needs, such as its transpose. It is fetched when it is needed."""

    def __init__(self, lent: _Lent, tensor: Tensor):
        self._lent, self._place = lent, (tensor.shape, tensor.stride(), (tensor.data_ptr() - lent.start) // tensor.element_size())

    @property
    def tensor(self) -> Tensor:
        weight = self._lent.copy()
        return weight.as_strided(*self._place) if type(weight) is Tensor else weight


class _BeforeWriting(TorchDispatchMode):
    """Reports every ordinary tensor that is about to be changed in place."""

    def __init__(self, tell: Callable[[Tensor], None]):
        super().__init__()
        self._tell = tell

    def __torch_dispatch__(self, operator, types, given=(), told=None):
        told = told or {}
        for place, name in _written(operator):
            for tensor in tree_leaves(given[place] if place < len(given) else told.get(name)):
                if isinstance(tensor, Tensor) and not tensor.is_inference():
                    self._tell(tensor)
        return operator(*given, **told)


@cache  # torch builds an operator's schema anew each time
def _written(operator) -> tuple[tuple[int, str], ...]:
    """Place and name of each argument that an operator changes."""
    arguments = enumerate(operator._schema.arguments)
    return tuple((place, one.name) for place, one in arguments if one.alias_info is not None and one.alias_info.is_write)


def _memory(tensor: Tensor) -> int:
    """The address of the memory that a tensor shares with all its views."""
    return tensor.data_ptr() - tensor.storage_offset() * tensor.element_size()
