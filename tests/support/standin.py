"""Put the stand-in for ComfyUI's API on the path, if no real ComfyUI can be imported."""

import importlib.util
import sys
from pathlib import Path

STANDIN = Path(__file__).parent / "comfy_standin"


def use_standin_if_needed():
    """Make `comfy_api`, `comfy` and `folder_paths` importable: the real ones if there are any, else the stand-in."""
    if importlib.util.find_spec("comfy_api") is None:
        sys.path.insert(0, str(STANDIN))
