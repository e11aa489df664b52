"""Time what a new user does: start ComfyUI, open the quickstart, run it, turn the dial, run it again; and `rarity demo`.

    python tools/first_minutes.py

Needs what the tests in tests/browser need: Debian's chromium, and the newest ComfyUI that tests/comfyui find, on the processor.
The window has 1440 x 900 pixels; the command fails if one would have to zoom to read the first note or to turn the dial.
"""

import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT / "tests" / "support"))

from browser import Editor, chromium, what_it_lacks  # noqa: E402
from comfyui import Server  # noqa: E402
from environments import PLACES, find_comfyuis, version_of  # noqa: E402
from new_user import open_from_templates, use  # noqa: E402

DEMO = "import sys; from rarity.cli import main; sys.exit(main(['demo', '--out', sys.argv[1]]))"


def steps(comfyui, folder):
    """(what a new user does, seconds), one after the other on one fresh server."""
    start = time.perf_counter()
    server = Server(comfyui, folder)
    try:
        server.wait_until_up()
        yield f"start ComfyUI {version_of(comfyui)}", time.perf_counter() - start
        with chromium() as browser:
            start = time.perf_counter()
            editor = Editor(browser, server)
            yield "open its page", time.perf_counter() - start
            start = time.perf_counter()
            open_from_templates(editor)
            yield "open the quickstart in Templates", time.perf_counter() - start
            yield from use(editor).items()
    finally:
        server.stop()


def main():
    comfyuis = find_comfyuis()
    lacks = what_it_lacks() or ("" if comfyuis else f"no ComfyUI was found ({PLACES})")
    if lacks:
        sys.exit(f"Cannot open ComfyUI's page: {lacks}.")
    print(f"{os.cpu_count()} cores; other work kept {os.getloadavg()[0]:.1f} of them busy in the minute before")
    with tempfile.TemporaryDirectory() as folder:
        for step, seconds in steps(comfyuis[-1], Path(folder) / "base"):
            print(f"{seconds:6.1f} s  {step}", flush=True)
        start = time.perf_counter()
        subprocess.run([sys.executable, "-c", DEMO, folder], check=True, capture_output=True)
        print(f"{time.perf_counter() - start:6.1f} s  rarity demo")


if __name__ == "__main__":
    main()
