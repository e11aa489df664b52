"""Put the stand-in for ComfyUI's API on the path, where no real ComfyUI is importable."""

import importlib.util
import sys
from pathlib import Path

STANDIN = Path(__file__).parent / "comfy_standin"


def use_standin_if_needed():
    """After this, `comfy_api`, `comfy` and `folder_paths` import: the real ones if they did before, else the stand-in."""
    if importlib.util.find_spec("comfy_api") is None:
        sys.path.insert(0, str(STANDIN))
