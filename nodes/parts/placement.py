"""ComfyUI's memory management for this pack's models: they are loaded before they run, and unloaded when others need room."""

import comfy.model_management
import torch
from comfy.model_patcher import ModelPatcher
from comfy.patcher_extension import CallbacksMP

from ...generators.kandinsky.load import BUILT_IN
from ...generators.runtime.captured import forget
from ...generators.runtime.memory import Placement

HALF_FIRST = (torch.float16, torch.bfloat16, torch.float32)
WIDE_FIRST = (torch.bfloat16, torch.float16, torch.float32)  # numbers in language models exceed the range of float16


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
            # If the model has to go, the memory of its captured graphs is needed, too.
            self._patchers[model].add_callback(CallbacksMP.ON_DETACH, lambda *_: forget(model))
        patcher = self._patchers[model]
        # Weights that are moved in ComfyUI's inference mode could not carry gradients later. The whole model is loaded,
        # because only ComfyUI's own layers can run with their weights on another device.
        with torch.inference_mode(False):
            comfy.model_management.load_models_gpu([patcher], force_full_load=True)
        return super().bring(model)  # with --novram ComfyUI leaves the model where it was

    def make_room(self):
        comfy.model_management.unload_all_models()  # models that are needed are loaded again before the next try
        comfy.model_management.soft_empty_cache()


class _Plain(torch.nn.Module):
    """A wrapper on which ComfyUI can set `device`. In models of diffusers and transformers it is read-only."""

    def __init__(self, model):
        super().__init__()
        self.model = model


def model_dtype(folder, halves=HALF_FIRST):
    """The type for a model's weights: float32 for the built-in models, for other models what ComfyUI chooses for this machine.

    halves : the types to choose from, the best one for the model first.
    """
    if folder in BUILT_IN:
        return torch.float32
    device = comfy.model_management.get_torch_device()
    chosen = comfy.model_management.unet_dtype(device, supported_dtypes=list(halves))
    return chosen if chosen in halves else torch.float32  # ComfyUI's command line may ask for eight bits
