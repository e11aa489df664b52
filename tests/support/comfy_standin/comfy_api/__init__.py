"""A small stand-in for ComfyUI's `comfy_api`: what this pack uses of it and no more. tests/comfyui holds it to the real one."""
