"""ComfyUI's memory management for this pack's models: moved in before they run, moved out when others need the room."""

import comfy.model_management
import torch
from comfy.model_patcher import ModelPatcher
from comfy.patcher_extension import CallbacksMP

from ...generators.kandinsky.load import MINIATURE
from ...generators.runtime.captured import forget
from ...generators.runtime.memory import Placement

HALF_FIRST = (torch.float16, torch.bfloat16, torch.float32)
WIDE_FIRST = (torch.bfloat16, torch.float16, torch.float32)  # language models outgrow the range of float16


class ComfyPlacement(Placement):
    """Each model in a ModelPatcher of its own, so that an encoder can leave while the U-Net runs."""

    def __init__(self):
        self._patchers = {}

    def bring(self, model):
        if model not in self._patchers:
            self._patchers[model] = ModelPatcher(
                _Plain(model),
                load_device=comfy.model_management.get_torch_device(),
                offload_device=comfy.model_management.unet_offload_device(),
            )
            # Whoever needs the model's room needs that of its captured graphs, too.
            self._patchers[model].add_callback(CallbacksMP.ON_DETACH, lambda *_: forget(model))
        patcher = self._patchers[model]
        # Weights moved under ComfyUI's inference mode could never be learned from later. In full: these models are not
        # made of ComfyUI's own layers, which can run with their weights elsewhere.
        with torch.inference_mode(False):
            comfy.model_management.load_models_gpu([patcher], force_full_load=True)
        return super().bring(model)  # with --novram ComfyUI leaves it where it was

    def make_room(self):
        comfy.model_management.unload_all_models()  # what is needed comes back before the next try
        comfy.model_management.soft_empty_cache()


class _Plain(torch.nn.Module):
    """ComfyUI writes a `device` on what it moves; models of diffusers and transformers have a read-only one."""

    def __init__(self, model):
        super().__init__()
        self.model = model


def model_dtype(folder, halves=HALF_FIRST):
    """The type for a model's weights: float32 for the miniature, for others what ComfyUI chooses for this machine.

    `halves` are the types to choose from, the best for the model first.
    """
    if folder == MINIATURE:
        return torch.float32
    device = comfy.model_management.get_torch_device()
    chosen = comfy.model_management.unet_dtype(device, supported_dtypes=list(halves))
    return chosen if chosen in halves else torch.float32  # eight bits, from ComfyUI's command line
