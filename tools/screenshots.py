"""Take the pictures of ComfyUI's own page that the readme shows: the quickstart after a run, and as an app.

    python tools/screenshots.py

Needs what the tests in tests/browser need: Debian's chromium, and the newest ComfyUI that tests/comfyui find.
"""

import io
import json
import sys
import tempfile
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT / "tests" / "support"))

from browser import Editor, chromium, what_it_lacks  # noqa: E402
from comfyui import Server  # noqa: E402
from environments import PLACES, find_comfyuis  # noqa: E402
from PIL import Image  # noqa: E402

NAME = "Rarity 01 Quickstart"
# The badges would show the name of the folder that the tests give the pack; the map and the figures of speed hide pictures.
PLAIN = {"Comfy.NodeBadge.NodeSourceBadgeMode": "None", "Comfy.Minimap.Visible": False, "Comfy.Graph.CanvasInfo": False}
RUN = """async () => {
    const ended = new Promise(resolve => app.api.addEventListener("execution_success", resolve))
    await app.queuePrompt(0)
    await ended
}"""
SHOWN = "() => app.graph.nodes.filter(node => node.type === 'SaveImage').every(node => node.imgs?.length)"
AS_APP = "app.extensionManager.command.execute('Comfy.ToggleLinear')"


def keep(page, name):
    """Write docs/NAME.webp."""
    Image.open(io.BytesIO(page.screenshot())).save(ROOT / "docs" / f"{name}.webp", quality=70, method=6)


def take(editor):
    """The pictures, one after the other, on one page."""
    workflow = json.loads((ROOT / "workflows" / f"{NAME}.json").read_text(encoding="utf-8"))
    editor.open(workflow, NAME)
    editor.page.evaluate(RUN)
    editor.page.wait_for_function(SHOWN)
    editor.page.wait_for_timeout(5000)  # messages about the run go away
    keep(editor.page, "quickstart_run")
    editor.page.evaluate(AS_APP)
    editor.page.get_by_text("Number of runs").wait_for()
    editor.page.get_by_role("button", name="Skip").click()  # a tour of apps, offered once
    editor.page.wait_for_timeout(1000)
    keep(editor.page, "quickstart_app")


def main():
    comfyuis = find_comfyuis()
    lacks = what_it_lacks() or ("" if comfyuis else f"no ComfyUI was found ({PLACES})")
    if lacks:
        sys.exit(f"Cannot open ComfyUI's page: {lacks}.")
    with tempfile.TemporaryDirectory() as folder, chromium() as browser:
        server = Server(comfyuis[-1], Path(folder) / "base")
        try:
            server.wait_until_up()
            server.raw("/settings", PLAIN)
            take(Editor(browser, server))
        finally:
            server.stop()


if __name__ == "__main__":
    main()
