"""Stand-in for `comfy_api.latest`: the extension base class, `io` and `ui`."""

from abc import ABC, abstractmethod

from . import _io as io
from . import _ui as ui

__all__ = ["ComfyExtension", "io", "ui"]


class ComfyExtension(ABC):
    async def on_load(self):
        pass

    @abstractmethod
    async def get_node_list(self):
        pass
