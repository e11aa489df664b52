"""Stand-in for `comfy.model_management`: the device, models brought to it, and the cancel flag."""

import torch

_interrupted = False
current_loaded_models = []


class InterruptProcessingException(Exception):
    pass


def interrupt_current_processing(value=True):
    global _interrupted
    _interrupted = value


def throw_exception_if_processing_interrupted():
    global _interrupted
    if _interrupted:
        _interrupted = False
        raise InterruptProcessingException()


def get_torch_device():
    return torch.device("cpu")


def intermediate_device():
    return torch.device("cpu")


def load_model_gpu(model):
    pass


def unet_offload_device():
    return torch.device("cpu")


def unet_dtype(device=None, model_params=0, supported_dtypes=[torch.float16, torch.bfloat16, torch.float32], weight_dtype=None):
    return torch.float32


def load_models_gpu(models, memory_required=0, force_patch_weights=False, minimum_memory_required=None, force_full_load=False):
    for patcher in models:
        patcher.model.device = patcher.load_device  # the real one writes it, too
        patcher.model.to(patcher.load_device)
        current_loaded_models[:] = [patcher, *(other for other in current_loaded_models if other is not patcher)]


def unload_all_models():
    for patcher in current_loaded_models:
        patcher.detach()
    current_loaded_models.clear()


def soft_empty_cache(force=False):
    pass
