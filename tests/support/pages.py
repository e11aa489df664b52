"""ComfyUI's dynamic VRAM without a graphics card, on the device of `elsewhere`.

ComfyUI's own code is used: its patchers, layers, casts and files, and the parts of comfy-aimdo that need no card. The
card's pages are imitated in the worst way that comfy-aimdo may behave. One weight in three stays where it is. One is
taken away as soon as its layer has used it. One never finds room: it passes through a buffer, which the next such
weight overwrites. A weight that was taken away reads as NaN.
"""

import ctypes
import itertools
import os
from contextlib import nullcontext

import torch
from elsewhere import Elsewhere

STAYS, LEAVES, NO_ROOM = range(3)
GONE = 255  # two or four bytes of this value are a NaN


def start_dynamic_vram():
    """Do what `main.py` does if comfy-aimdo finds a card. Call this inside `elsewhere`, before models are loaded."""
    import comfy.memory_management
    import comfy.model_patcher
    import comfy_aimdo.control
    import comfy_aimdo.host_buffer
    import comfy_aimdo.model_vbar
    import comfy_aimdo.torch
    import comfy_aimdo.vram_buffer

    assert comfy_aimdo.control.lib is not None, "comfy_aimdo.control.init() comes before the first import of ComfyUI"
    comfy_aimdo.model_vbar.ModelVBAR, comfy_aimdo.vram_buffer.VRAMBuffer = Pages, Buffer
    comfy_aimdo.torch.aimdo_to_tensor = lambda place, device: Elsewhere(place[0].memory(place))
    comfy_aimdo.host_buffer.read_file_to_device = _read
    comfy.model_patcher.CoreModelPatcher = comfy.model_patcher.ModelPatcherDynamic
    _place_odd_weights(comfy.model_patcher.ModelPatcherDynamic)
    comfy.memory_management.aimdo_enabled = True


def start_streams(device):
    """Let ComfyUI copy weights to the device as to a card: into a buffer that the next weight overwrites."""
    import comfy.model_management

    comfy.model_management.NUM_STREAMS, comfy.model_management.STREAMS[device] = 1, [Stream()]


def _place_odd_weights(patcher):
    """Place weights that belong to no layer, because `weight.data = ...` cannot send a tensor to this device."""
    listed = patcher._load_list

    def load_list(self, for_dynamic=False, default_device=None):
        for module in self.model.modules():
            beside = dict(module.named_parameters(recurse=False))
            if default_device is not None and len(list(module.parameters())) > len(beside):
                for name, weight in beside.items():
                    module.register_parameter(name, torch.nn.Parameter(weight.to(default_device), requires_grad=False))
        return listed(self, for_dynamic)

    patcher._load_list = load_list


class Pages:
    """Replaces `ModelVBAR`: a model's weights on the device."""

    def __init__(self, size, device):
        self._pages, self._signatures = [], itertools.count()
        self.evicted = 0

    def alloc(self, size):
        self._pages.append({"kind": len(self._pages) % 3, "bytes": None})
        return self, len(self._pages) - 1, size

    def fault(self, number, size):
        page = self._pages[number]
        if page["kind"] == NO_ROOM:
            return None
        if page["bytes"] is None:
            page |= {"bytes": torch.full((size,), GONE, dtype=torch.uint8), "signature": next(self._signatures)}
        return page["signature"].to_bytes(8, "little")

    def unpin(self, number, size):
        if self._pages[number]["kind"] == LEAVES:
            self._evict(self._pages[number])

    def memory(self, place):
        return self._pages[place[1]]["bytes"]

    def free_memory(self, size):
        for page in self._pages:
            self._evict(page)
        return 0

    def loaded_size(self):
        return sum(len(page["bytes"]) for page in self._pages if page["bytes"] is not None)

    def prioritize(self):
        pass

    def _evict(self, page):
        if page["bytes"] is not None:
            with torch.inference_mode():
                page["bytes"].fill_(GONE)
            page["bytes"] = None
            self.evicted += 1


class Buffer:
    """Replaces `VRAMBuffer`: the buffer for weights that find no room."""

    def __init__(self, size, device):
        self._bytes = torch.empty(2**28, dtype=torch.uint8)

    def get(self, size, offset=0):
        return self, int(offset), int(size)

    def size(self):
        return len(self._bytes)

    def memory(self, place):
        return self._bytes[place[1]:place[1] + place[2]]


class Stream:
    """Replaces a card's stream: everything is done at once."""

    def as_context(self, _):
        return nullcontext()

    def wait_stream(self, other):
        pass

    def synchronize(self):
        pass


def _read(file, offset, size, stream, address, device, mark_cold=True):
    content = os.pread(file if isinstance(file, int) else file.fileno(), size, offset)
    ctypes.memmove(address, content, size)
