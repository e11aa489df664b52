"""ComfyUI's own code in this process, on the processor, without its server."""

import sys

import torch


def start_comfyui(comfyui, small=False):
    """Make a checkout importable, as its `main.py --cpu` does. Call this before anything of ComfyUI is imported.

    Parameters
    ----------
    comfyui : the checkout.   small : whether it also knows the small models of tests/support/small_models.
    """
    sys.path.insert(0, str(comfyui))
    sys.argv[1:] = ["--cpu"]  # for ComfyUI's own argument parser
    import comfy.options

    comfy.options.enable_args_parsing()
    torch.set_num_threads(1)
    if small:
        import small_models

        small_models.teach()
