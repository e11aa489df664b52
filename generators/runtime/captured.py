"""Functions of tensors of fixed sizes, captured once on a graphics card and replayed: the card no longer waits for Python.

A captured graph is a list of kernels with the addresses that they read and write. It therefore fits only one size of its
inputs and one place of the model's weights, and it holds the memory of all tensors in between. Only a few graphs are
kept. A graph that holds much memory is not kept, and neither is one whose model has moved. If a function cannot be
captured, it runs as usual.
"""

from __future__ import annotations

import logging
from collections import OrderedDict, deque
from collections.abc import Callable, Hashable
from contextlib import contextmanager
from weakref import WeakKeyDictionary

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable
from torch.utils._python_dispatch import _get_current_dispatch_mode

from .cuda_recorder import CudaRecorder, NotCaptured

FEW = 3  # most graphs that are kept for one model
LITTLE = 256 * 2**20  # bytes; a graph that holds more is dropped when its work is done

logger = logging.getLogger(__name__)

_kept: WeakKeyDictionary[torch.nn.Module, OrderedDict[Hashable, Graph]] = WeakKeyDictionary()
_asked: WeakKeyDictionary[torch.nn.Module, deque[Hashable]] = WeakKeyDictionary()  # for `later`
_refused: set[str] = set()  # kinds of work whose capture has failed


class Graph:
    """Functions that are called in this order and captured together. Inputs and outputs are always the same tensors.

    Parameters
    ----------
    recorder : captures the functions.
    state : what the graph depends on besides its inputs.
    functions : functions of `inputs`. Each returns one tensor or several. The second may use what the first left behind,
        as gradients do.
    inputs : the tensors that the functions read. The calls before the capture use their present values.
    """

    def __init__(self, recorder, state: tuple, functions: list[Callable], inputs: list[Tensor]):
        self.state = state
        # A tensor made in inference mode cannot be changed outside of it. Leaving inference mode switches gradients on.
        with torch.inference_mode(False), torch.set_grad_enabled(torch.is_grad_enabled()):
            self._inputs = [torch.empty_like(given, requires_grad=given.requires_grad) for given in inputs]
            self._fill(self._inputs, inputs)
            self._replays, self._outputs, self.held = recorder.record(functions, self._inputs)
        self.turn = 0  # how often the first function was replayed

    def replay(self, inputs: tuple[Tensor, ...]):
        """The outputs of the first function for these inputs. The next replay overwrites them."""
        self._fill(self._inputs[: len(inputs)], inputs)
        self.turn += 1
        self._replays[0]()
        return self._outputs[0]

    def replay_second(self, inputs: tuple[Tensor, ...]):
        """The outputs of the second function: its first inputs are those of the first function, its last inputs are these."""
        self._fill(self._inputs[-len(inputs) :], inputs)
        self._replays[1]()
        return self._outputs[1]

    @staticmethod
    def _fill(mine: list[Tensor], given: tuple[Tensor, ...]) -> None:
        with torch.no_grad():
            for one, value in zip(mine, given, strict=True):
                one.copy_(value, non_blocking=True)


class Captured:
    """Calls the functions of a model, captured if the device can capture. Each piece of work makes a new one.

    Parameters
    ----------
    model : the model whose weights the functions read; its device counts. The model is not kept alive.
    kind : the kind of work, for the log.
    """

    def __init__(self, model: torch.nn.Module, kind: str):
        self._model, self._kind = model, kind
        self._recorder = recorder_of(next(model.parameters()).device) if _fits(model) else None
        self._state = self._recorder and state(model)
        self._marks: deque = deque()
        _drop(model, lambda graph: graph.state != self._state)  # the model has moved, or has other weights
        for graph in _kept.get(model, {}).values():
            graph.state = self._state  # equal; the same tuple of thousands of values is compared with itself in no time

    @property
    def replays(self) -> bool:
        """Whether functions will be captured here. The first capture may still fail."""
        return self._recorder is not None and self._kind not in _refused

    def __call__(self, function: Callable, *inputs: Tensor, depends: Hashable = ()):
        """function(*inputs).

        Parameters
        ----------
        function : a function of tensors only. All else that it depends on is in `depends`, or never changes.
        inputs : tensors on the device. A graph fits their sizes and types only.

        Returns
        -------
        What the function returns. If it was replayed, the next call overwrites the result.
        """
        graph = self._graph([function], inputs, depends)
        if graph is None:
            return function(*inputs)
        outputs = graph.replay(inputs)
        self._pace()
        return outputs

    def later(self, function: Callable, *inputs: Tensor, depends: Hashable = ()) -> tuple[Tensor, ...]:
        """function(*inputs), several tensors. The function is captured when it is called for the second time.

        A capture costs as much as three calls. The returned tensors belong to the caller and are not overwritten.
        """
        key, asked = self._key(inputs, depends), _asked.setdefault(self._model, deque(maxlen=FEW))
        if key not in asked:
            asked.append(key)
            return function(*inputs)
        return tuple(one.clone() for one in self(function, *inputs, depends=depends))

    def with_gradients(self, function: Callable, learnt: list[Tensor], inputs: tuple[Tensor, ...], like: Tensor) -> Tensor:
        """function(*inputs), a tensor with gradients to `learnt` and to those inputs that require them.

        One graph runs forward, and one runs backward.

        Parameters
        ----------
        function : a function of tensors only, which also reads `learnt`.
        like : a tensor of the type and size of the result.

        Returns
        -------
        A tensor. Its gradients can be computed until the next call.
        """
        live = []

        def there(*given: Tensor) -> Tensor:
            live[:] = [function(*given[:-1])]
            return live[0].detach()

        def back(*given: Tensor):
            wanted = [*learnt, *(one for one in given[:-1] if one.requires_grad)]
            return torch.autograd.grad(live.pop(), wanted, given[-1], allow_unused=True)

        graph = self._graph([there, back], (*inputs, torch.zeros_like(like)), "gradients")
        return function(*inputs) if graph is None else _Replay.apply(graph, len(learnt), *learnt, *inputs)

    def _graph(self, functions: list[Callable], inputs: tuple[Tensor, ...], depends: Hashable) -> Graph | None:
        if not self.replays or _watched():
            return None
        key = self._key(inputs, depends)
        graphs = _kept.setdefault(self._model, OrderedDict())
        if key not in graphs or graphs[key].state != self._state:
            graphs.pop(key, None)
            with refusing(self._kind):
                graphs[key] = Graph(self._recorder, self._state, functions, list(inputs))
            if key not in graphs:
                return None
            while len(graphs) > FEW:
                graphs.popitem(last=False)
        graphs.move_to_end(key)
        return graphs[key]

    def _key(self, inputs: tuple[Tensor, ...], depends: Hashable) -> Hashable:
        return (self._kind, depends, *((one.shape, one.dtype) for one in inputs))

    def _pace(self) -> None:
        """Wait for the call before this one. So a cancel is noticed between two calls, and the card always has work."""
        self._marks.append(self._recorder.mark())
        if len(self._marks) > 2:
            self._marks.popleft().synchronize()


class _Replay(torch.autograd.Function):
    """An autograd function: forward replays a graph's first function, backward replays the second, which gives gradients."""

    @staticmethod
    def forward(ctx, graph: Graph, learnt: int, *tensors: Tensor) -> Tensor:
        outputs = graph.replay(tensors[learnt:])
        ctx.graph, ctx.turn, ctx.wanted = graph, graph.turn, [one.requires_grad for one in tensors]
        return outputs.clone()

    @staticmethod
    @once_differentiable
    def backward(ctx, slope: Tensor):
        if ctx.turn != ctx.graph.turn:
            raise RuntimeError("What these gradients need has been overwritten by a later call.")
        found = iter(ctx.graph.replay_second((slope,)))
        # Copies, because the next replay overwrites these tensors, and autograd may still be summing gradients.
        slopes = [next(found) if wanted else None for wanted in ctx.wanted]
        return None, None, *(None if one is None else one.clone() for one in slopes)


@contextmanager
def refusing(kind: str):
    """A context in which a capture may fail. The failure is logged once, and this kind of work is not captured again.

    Other errors pass.
    """
    try:
        yield
    except NotCaptured as error:
        if kind not in _refused:
            logger.warning("%s runs without a captured graph, more slowly: %s", kind, str(error.__cause__).splitlines()[0])
        _refused.add(kind)


def forget(model: torch.nn.Module | None = None) -> None:
    """Drop all graphs of a model, or of all models, with the memory that they hold."""
    for one in [model] if model is not None else list(_kept):
        _drop(one, lambda graph: True)


def forget_large(model: torch.nn.Module) -> None:
    """Drop the graphs of a model that hold much memory. Its work is done, and others may need the memory."""
    _drop(model, lambda graph: graph.held > LITTLE)


def state(model: torch.nn.Module) -> tuple:
    """What a captured graph of a model depends on: the places of its weights and buffers, and which adapters are on.

    The values in these places may change, because a replay reads them again.
    """
    tensors = [*model.parameters(), *model.buffers()]
    switches = [module.disable_adapters for module in model.modules() if hasattr(module, "disable_adapters")]
    return (model.training, *switches, *((one.data_ptr(), one.shape, one.dtype, one.device) for one in tensors))


def recorder_of(device: torch.device):
    """The recorder of a device; None if nothing can be captured there."""
    return CudaRecorder(device) if device.type == "cuda" else None


def _drop(model: torch.nn.Module, which: Callable[[Graph], bool]) -> None:
    graphs = _kept.get(model, {})
    gone = [key for key, graph in graphs.items() if which(graph)]
    for key in gone:
        del graphs[key]
    if gone and torch.cuda.is_available():
        torch.cuda.empty_cache()


def _fits(model: torch.nn.Module) -> bool:
    """Whether a model has no hooks. Hooks are Python code, which a replay would leave out."""
    return not any(module._forward_hooks or module._forward_pre_hooks for module in model.modules())


def _watched() -> bool:
    """Whether a profiler, a dispatch mode or autocast is active. These look at each operation, and a replay shows none."""
    return torch.autograd._profiler_enabled() or _get_current_dispatch_mode() is not None or torch.is_autocast_enabled()
