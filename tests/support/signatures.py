"""Look up in the real ComfyUI everything that the stand-in offers.

    python tests/support/signatures.py                     names and parameters of everything the stand-in offers
    python tests/support/signatures.py --comfyui FOLDER    the same names, looked up in a ComfyUI checkout
"""

import argparse
import importlib
import inspect
import json
import sys
from pathlib import Path

STANDIN = Path(__file__).parent / "comfy_standin"
MODULES = ["comfy_api.latest", "comfy_api.latest.io", "comfy_api.latest.ui", "comfy.utils", "comfy.model_management",
           "comfy.model_patcher", "comfy.clip_vision", "comfy_execution.utils", "comfy.samplers", "comfy.sd1_clip", "folder_paths"]
PARTS = {"Input", "Output", "__init__"}


def module(name):
    """Import a module of ComfyUI; io and ui are attributes of comfy_api.latest, not modules."""
    if name.startswith("comfy_api.latest."):
        return getattr(importlib.import_module("comfy_api.latest"), name.rpartition(".")[2])
    return importlib.import_module(name)


def offered():
    """Dotted names of everything public that the stand-in defines itself, methods and nested classes included."""
    names = []
    for name in MODULES:
        home = module(name)
        for key, value in vars(home).items():
            own = getattr(value, "__module__", home.__name__) == home.__name__ and not inspect.ismodule(value)
            if own and not key.startswith("_"):
                names += [f"{name}:{key}", *(f"{name}:{key}.{part}" for part in _parts(value))]
    return names


def _parts(value):
    if not inspect.isclass(value):
        return
    for key, part in vars(value).items():
        if key in PARTS or not key.startswith("_"):
            yield key
            yield from (f"{key}.{inner}" for inner in _parts(part) if inner == "__init__" or inner.startswith("as_"))
            if inspect.isclass(part) and "__init__" not in vars(part):
                yield f"{key}.__init__"


def describe(name):
    """kind and parameters (name, kind, default) of a dotted name, or None where it does not exist."""
    home, _, path = name.partition(":")
    value = module(home)
    for key in path.split("."):
        if key in getattr(value, "__dataclass_fields__", {}):
            return {"is": "value"}  # whether the class has it as an attribute depends on how its default is written
        try:
            value = getattr(value, key)
        except AttributeError:
            return None
    if inspect.isclass(value):
        return {"is": "class"}
    if not callable(value):
        return {"is": "value"}
    parameters = inspect.signature(value).parameters.values()
    return {"is": "function", "parameters": [
        [item.name, item.kind.name, None if item.default is item.empty else _default(item.default)] for item in parameters
    ]}


def _default(value):
    """A default as it is written. A dataclass's own list counts as None, which older ComfyUIs have in its place."""
    return "None" if repr(value) == "<factory>" else repr(value)


def main():
    parser = argparse.ArgumentParser(description="Signatures of what the stand-in offers.")
    parser.add_argument("--names", type=Path, help="JSON list of the names to look up")
    parser.add_argument("--comfyui", type=Path)
    arguments = parser.parse_args()
    sys.path.insert(0, str(arguments.comfyui or STANDIN))
    if arguments.comfyui:
        sys.argv[1:] = ["--cpu"]
        import comfy.options

        comfy.options.enable_args_parsing()
    names = json.loads(arguments.names.read_text()) if arguments.names else offered()
    json.dump({name: describe(name) for name in names}, sys.stdout, indent=1)


if __name__ == "__main__":
    main()
