"""Rarity: make image models creative on purpose, with one dial in plain units, "1 in 1,000".

ComfyUI finds the nodes through `comfy_entrypoint` and the help pages through `WEB_DIRECTORY`. Nothing here imports
ComfyUI or anything heavy, so that a Python script can `import rarity` without either.
"""

WEB_DIRECTORY = "./web"


async def comfy_entrypoint():
    """Hand ComfyUI this pack's nodes.

    Returns
    -------
    comfy_api.latest.ComfyExtension
    """
    from .nodes import RarityExtension

    return RarityExtension()


__all__ = ["WEB_DIRECTORY", "comfy_entrypoint"]
