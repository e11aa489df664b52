"""Run the shipped workflows on a real ComfyUI and keep the picture of each that the template browser shows.

    python tools/render_workflows.py              all of them
    python tools/render_workflows.py "Rarity 01 Quickstart"   one

ComfyUI is looked for where tests/comfyui look; of several the oldest is taken.
"""

import argparse
import json
import sys
import tempfile
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT / "tests" / "support"))

from comfyui import Server, messages  # noqa: E402
from environments import PLACES, find_comfyuis  # noqa: E402
from graph import next_run, nodes_of, to_api  # noqa: E402
from PIL import Image  # noqa: E402
from thumbnails import cut, diagram  # noqa: E402

RARE_HALF = (0.49, 0, 1, 1)  # of a contact sheet
# workflow -> (prefix of the Save Image to show, how often Run is pressed before, which part of the picture)
SHOWN = {
    "Rarity 01 Quickstart": ("rarity_contact_sheet", 0, RARE_HALF),
    "Rarity 02 Never the same twice": ("rarity_twice_scores", 2, (0, 0, 0.66, 1)),
    "Rarity 03 Variations of a picture": ("rarity_near", 0, RARE_HALF),
    "Rarity 04 Which way to be rare": ("rarity_direction", 0, RARE_HALF),
    "Rarity 05 Teach the model a word": ("rarity_concept_elsewhere", 0, RARE_HALF),
    "Rarity 06 Everything with a Kandinsky": ("rarity_kandinsky_curve", 0, (0, 0, 1, 0.87)),
    "Rarity 07 The newest of many": ("rarity_scores", 0, (0, 0, 0.82, 1)),
    "Rarity 08 New pictures without a model": ("rarity_patch_origins", 0, (0, 0, 0.735, 1)),
}
IN_TEXTS = {"Rarity 01 Quickstart": "quickstart.jpg", "Rarity 08 New pictures without a model": "patch_origins.jpg"}  # whole
# Their models are downloads of many gigabytes, or they need several machines: instead of what they would draw, what they do.
DIAGRAMS = {
    "Rarity 09 Rank any graph": ("Rank any graph", ["your graph", "how new is each?*", "the 4 newest*", "remembered*"]),
    "Rarity 10 A rare prompt for Stable Diffusion": (
        "A rare prompt\nSD 1.5", ["the prompt", "moved to 1 in 100*", "KSampler, any seed"]),
    "Rarity 11 Stable Diffusion XL": ("Stable Diffusion XL", ["what SDXL usually makes*", "1 in 100*", "Revision (unCLIP)", "KSampler"]),
    "Rarity 12 Stable Diffusion unCLIP": ("SD 2.1 unCLIP", ["what it usually makes*", "1 in 100*", "unCLIP conditioning", "KSampler"]),
    "Rarity 13 Stable Cascade": ("Stable Cascade", ["what stage C makes*", "1 in 100*", "stage C", "stages B and A"]),
    "Rarity 14 Many machines": ("Many machines", ["0 to 4,999 here*", "5,000 to 9,999 there*", "one density of all*"]),
    "Rarity 15 Seed variety": ("Seed variety", ["the prompt", "twice as varied, still the subject*", "a prompt for each seed*", "KSampler"]),
    "Rarity 16 Seed variety with Z-Image": (
        "Seed variety\nZ-Image", ["the prompt", "twice as varied, still the subject*", "a prompt for each seed*", "KSampler"]),
    "Rarity 17 A rare picture with Flux": ("A rare picture\nFlux", ["what Flux usually makes*", "the prompt, moved to 1 in 100*", "KSampler, any seed"]),
}


def render(server, name):
    """Write workflows/NAME.jpg from workflows/NAME.json."""
    prefix, times, part = SHOWN[name]
    info = server.get("/object_info")
    path = ROOT / "workflows" / f"{name}.json"
    workflow = json.loads(path.read_text(encoding="utf-8"))
    for _ in range(times + 1):
        prompt = to_api(workflow, info)
        entry = server.run(prompt, seconds=1800)
        if entry["status"]["status_str"] != "success":
            sys.exit(f"{name}: {messages(entry, 'execution_error')}")
        workflow = next_run(workflow, info)
    (save,) = [key for key in nodes_of(prompt, "SaveImage") if prompt[key]["inputs"]["filename_prefix"] == prefix]
    picture = server.pictures(entry, save)[0]
    cut(Image.fromarray(picture), part).save(path.with_suffix(".jpg"), quality=88)
    if name in IN_TEXTS:
        Image.fromarray(picture).save(ROOT / "web" / "docs" / IN_TEXTS[name], quality=78, optimize=True)


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("names", nargs="*", metavar="NAME", help=f"of {', '.join([*SHOWN, *DIAGRAMS])}; without any, all")
    names = parser.parse_args().names or [*SHOWN, *DIAGRAMS]
    if not set(names) <= {*SHOWN, *DIAGRAMS}:
        parser.error(f"expected names of {', '.join([*SHOWN, *DIAGRAMS])}, got {', '.join(names)}")
    for name in filter(DIAGRAMS.__contains__, names):
        diagram(*DIAGRAMS[name]).save(ROOT / "workflows" / f"{name}.jpg", quality=88)
    names = [name for name in names if name in SHOWN]
    if not names:
        return
    comfyuis = find_comfyuis()
    if not comfyuis:
        sys.exit(f"No ComfyUI found ({PLACES}).")
    with tempfile.TemporaryDirectory() as folder:
        server = Server(comfyuis[0], Path(folder) / "base")
        try:
            server.wait_until_up()
            for name in names:
                render(server, name)
        finally:
            server.stop()


if __name__ == "__main__":
    main()
