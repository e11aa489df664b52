"""A device that is not the processor, for machines that have only a processor.

Its tensors lie in ordinary memory. They report another device, with a name that torch keeps for devices without
hardware. As with a graphics card, torch's operators refuse to mix them with tensors of the processor, to draw them from
the processor's generators, and to hand them to NumPy. On demand they also refuse float64, as Apple's devices do:
float64 cannot be made there or sent there, and nothing can be fetched as float64, because the conversion would happen
on the device.
"""

from contextlib import contextmanager
from functools import cache

import torch
from torch.utils._python_dispatch import TorchDispatchMode

DEVICE, PROCESSOR = torch.device("lazy:0"), torch.device("cpu")
HOLDERS = (list, tuple, dict)  # what operators are given tensors in
# These operators may mix a graphics card's tensors with the processor's: copies, and indices.
MIXES = {"copy_", "_to_copy", "index", "index_put", "index_put_", "_index_put_impl_"}


@contextmanager
def elsewhere(doubles=True):
    """A context that gives the device, to which tensors and modules may be sent; without `doubles` no float64."""
    parameter, makers = torch.nn.Parameter.__new__, {name: getattr(torch, name) for name in ("tensor", "as_tensor")}
    overwrites = torch.__future__.get_overwrite_module_params_on_conversion()

    def of_its_mode(cls, data=None, requires_grad=True):
        """A Parameter. Outside of inference mode it holds a copy of a weight that was made in inference mode.

        When a module is moved, all its weights are replaced, also those that stay. One of inference mode could not be.
        """
        if data is not None and data.is_inference() and not torch.is_inference_mode_enabled():
            data = data.clone()
        return parameter(cls, data, requires_grad)

    def first_here(make):  # a dispatch mode never sees what these functions do inside
        def made(data, *given, device=None, **told):
            device = data.device if isinstance(data, Elsewhere) and device is None else device
            data = _each(_here, data)
            return make(data, *given, **told) if device is None else make(data, *given, **told).to(device)

        return made

    torch.nn.Parameter.__new__ = of_its_mode
    torch.__future__.set_overwrite_module_params_on_conversion(True)
    for name, make in makers.items():
        setattr(torch, name, first_here(make))
    try:
        with _Mode(), _doubles(doubles):
            yield DEVICE
    finally:
        torch.nn.Parameter.__new__ = parameter
        torch.__future__.set_overwrite_module_params_on_conversion(overwrites)
        for name, make in makers.items():
            setattr(torch, name, make)


class Elsewhere(torch.Tensor):
    """A tensor on the device; `here` is the tensor in ordinary memory."""

    __torch_function__ = torch._C._disabled_torch_function_impl

    @staticmethod
    def __new__(cls, here):
        return torch.Tensor._make_wrapper_subclass(
            cls, here.shape, strides=here.stride(), storage_offset=here.storage_offset(), dtype=here.dtype, device=DEVICE
        )

    def __init__(self, here):
        self.here = here

    def __repr__(self):
        return f"Elsewhere({self.here!r})"

    def __getitem__(self, index):
        index = index if isinstance(index, tuple) else (index,)
        return super().__getitem__(tuple(torch.tensor(one) if isinstance(one, list) else one for one in index))

    def data_ptr(self):
        return self.here.data_ptr()

    def tolist(self):
        return self.here.tolist()

    @property
    def data(self):
        return self.detach()

    @data.setter
    def data(self, value):
        torch.Tensor.data.__set__(self, value)
        self.here = value.here

    @classmethod
    def __torch_dispatch__(cls, operator, types, given=(), told=None):
        return _run(operator, given, told or {})


class _Mode(TorchDispatchMode):
    def __torch_dispatch__(self, operator, types, given=(), told=None):
        return _run(operator, given, told or {})


DOUBLES = True


@contextmanager
def _doubles(there):
    global DOUBLES
    DOUBLES, held = there, DOUBLES
    try:
        yield
    finally:
        DOUBLES = held


def _refuse_doubles(name, away, tensors, made, leaves):
    results = _tensors([made])
    there = results if leaves else tensors if name == "copy_" else results if name == "_to_copy" and away else ()
    if any(one.dtype == torch.float64 for one in (*there, *away)):
        raise TypeError(f"{name}: this device does not hold float64")


def _run(operator, given, told):
    name = _name(operator)
    tensors = _tensors((given, told))
    away = [one for one in tensors if isinstance(one, Elsewhere)]
    if name == "_has_compatible_shallow_copy_type":
        return not away
    if away and name not in MIXES and any(one.dim() for one in tensors if not isinstance(one, Elsewhere)):
        raise RuntimeError(f"{operator}: expected all tensors to be on the same device")
    asked = [one.type for one in (*given, told.get("device")) if type(one) is torch.device]
    leaves = asked[0] == DEVICE.type if asked else bool(away)
    if leaves and told.get("generator") is not None:
        raise RuntimeError(f"{operator}: expected a generator of the device, found the processor's")
    made = operator(*_each(_here, given), **_each(_here, told))
    if not DOUBLES and (away or leaves):
        _refuse_doubles(name, away, tensors, made, leaves)
    if leaves != bool(away) and any(made is _here(one) for one in tensors):
        made = made.detach().clone()  # on the way from one device to another
    if name.endswith("_") and not name.startswith("_"):
        return given[0]
    if "out" in told:
        return told["out"]
    # A view of an ordinary tensor is ordinary, also under inference mode.
    ordinary = operator.is_view and away and not away[0].is_inference()
    if not leaves:
        return made
    with torch.inference_mode(torch.is_inference_mode_enabled() and not ordinary):
        return _each(lambda one: Elsewhere(one) if isinstance(one, torch.Tensor) else one, made)


@cache  # torch builds an operator's schema anew each time
def _name(operator):
    return operator._schema.name.split("::")[1]


def _tensors(things):
    """The tensors in a list, tuple or dictionary, and in those that it holds."""
    found = []
    for one in things.values() if type(things) is dict else things:
        if isinstance(one, torch.Tensor):
            found.append(one)
        elif type(one) in HOLDERS:
            found += _tensors(one)
    return found


def _each(do, things):
    """Apply `do` to the items of lists, tuples and dictionaries. torch's tree_map knows more kinds but is too slow."""
    kind = type(things)
    if kind is dict:
        return {key: _each(do, one) for key, one in things.items()}
    if kind in HOLDERS:
        return kind([_each(do, one) if type(one) in HOLDERS else do(one) for one in things])
    return do(things)


def _here(one):
    if isinstance(one, Elsewhere):
        return one.here
    return PROCESSOR if type(one) is torch.device and one.type == DEVICE.type else one
