"""Run the shipped workflows on a real ComfyUI and keep the picture of each that the template browser shows.

    python tools/render_workflows.py              all of them
    python tools/render_workflows.py quickstart   one

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
from graph_picture import draw_graph  # noqa: E402
from PIL import Image  # noqa: E402

# workflow -> (prefix of the Save Image to show, how often Run is pressed before)
SHOWN = {
    "quickstart": ("rarity_contact_sheet", 0),
    "score_and_rank": ("rarity_scores", 0),
    "never_the_same_twice": ("rarity_twice_scores", 2),
    "local_score": ("rarity_patch_origins", 0),
    "kandinsky_rarity": ("rarity_kandinsky_curve", 0),
    "kandinsky_directions": ("rarity_direction", 0),
    "kandinsky_variations": ("rarity_near", 0),
    "kandinsky_concept": ("rarity_concept_elsewhere", 0),
}
# Their models are downloads of many gigabytes, or they need several machines: instead of what they would draw, their graph.
GRAPHS = ("sdxl_revision_rarity", "sd21_unclip_rarity", "cascade_rarity", "sd_conditioning_rarity", "rank_any_graph", "many_machines")


def render(server, name):
    """Write workflows/NAME.jpg from workflows/NAME.json."""
    prefix, times = SHOWN[name]
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
    Image.fromarray(picture).save(path.with_suffix(".jpg"), quality=88)
    sys.stderr.write(f"{path.with_suffix('.jpg')}: {picture.shape[1]} x {picture.shape[0]}\n")


def draw(name):
    """Write workflows/NAME.jpg: the graph itself."""
    path = ROOT / "workflows" / f"{name}.json"
    draw_graph(json.loads(path.read_text(encoding="utf-8"))).save(path.with_suffix(".jpg"), quality=88)


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("names", nargs="*", metavar="NAME", help=f"of {', '.join([*SHOWN, *GRAPHS])}; without any, all")
    names = parser.parse_args().names or [*SHOWN, *GRAPHS]
    if not set(names) <= {*SHOWN, *GRAPHS}:
        parser.error(f"expected names of {', '.join([*SHOWN, *GRAPHS])}, got {', '.join(names)}")
    for name in filter(GRAPHS.__contains__, names):
        draw(name)
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
