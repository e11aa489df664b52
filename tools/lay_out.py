"""Place the nodes of the shipped workflows, and of their subgraphs, in columns, so that a whole graph can be read in the window it opens in.

    python tools/lay_out.py              all workflows
    python tools/lay_out.py "Rarity 01 Quickstart"   one

ComfyUI fits a template into the window when it opens, and below 57 % it draws no text: hence WIDTH and HEIGHT. How
tall a node is at least, Nodes 2.0 (which draws nodes taller) says in a browser: Debian's chromium and the newest
ComfyUI that tests/comfyui find.
"""

import argparse
import json
import sys
import tempfile
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT / "tests" / "support"))

from browser import Editor, chromium, what_it_lacks  # noqa: E402
from comfyui import Server  # noqa: E402
from environments import PLACES, find_comfyuis  # noqa: E402
from graph import subgraphs_of  # noqa: E402
from inside import WIDTH as INSIDE  # noqa: E402
from inside import place_inside  # noqa: E402
from wires import lead_around  # noqa: E402

WIDTH, HEIGHT = 1865, 936  # opened at 57.2 % or more in windows of 1440 x 900 and 1536 x 730
TITLE, GAP, VUE_GAP, GROUP_TITLE = 30, 60, 16, 56
BELOW = 64  # of a group under its nodes: some grow as much after a run where there is no room for reports; the view fits nodes only
REPORT = 62  # what a report adds to a node once it has run
PREVIEW = {"RarityLocalScore": 216, "RarityMakeRareConcept": 216}  # what the last preview adds, which classic nodes keep
PICTURE = 242  # ComfyUI makes a node that shows pictures 300 tall at least; the gap below takes the rest
NO_ROOM = tuple(f"Rarity {number} " for number in ("02", "03", "04", "06", "13"))  # for reports: they need the height
GROWS = {"SaveImage": 4, "PreviewImage": 4, "PreviewAny": 2, "RarityContrastGuardrail": 2, "RarityOtherWordings": 2, "MarkdownNote": 1, "RaritySamplePrior": 1, "CLIPTextEncode": 1}
COLOR, MAIN_COLOR = "#7ab0d0", "#e0b040"
MAIN = ("The dial", "Learn", "Towards outlines", "Two dials", "Mix", "keep", "How new", "Only what is new")  # words of main groups

# For each workflow its blocks from left to right: (notes above the block, its columns). A column: (title of its group,
# width or None for what is left, its nodes from top to bottom; those below 0 are folded to their title).
KANDINSKY = [("1  What to make", 250, [3, 4]), ("2  Usual, and what stays", 250, [-5, 6])]
LAYOUTS = {
    "Rarity 01 Quickstart": [
        ([1], [("1  What to make", 260, [2, 3]), ("2  Usual, and what stays", 260, [-4, 5])]),
        ([14], [("3  The dial", 260, [15, 6]), ("4  Draw, and read", 260, [-8, -9, 7])]),
        ([], [("5  Look", None, [-10, 12, -11, 13])]),
    ],
    "Rarity 07 The newest of many": [
        ([1, 2], [("1  What to make", 250, [3, 4]), ("2  What is usual", 250, [-5, 6]), ("3  Draw, score, keep the newest", 280, [-7, -8, 10, -11])]),
        ([], [("4  Read", 500, [9, 14]), ("5  Look", None, [13, 12])]),
    ],
    "Rarity 02 Never the same twice": [
        ([1, 2], [("1  What to make", 260, [3, 4]), ("2  Usual, and seen before", 260, [-5, 6, 9]),
                  ("3  How rare", 260, [16, 7, -8]), ("4  Only what is new", 260, [-10, 11, -12, 13])]),
        ([], [("5  Look", None, [15, 14])]),
    ],
    "Rarity 08 New pictures without a model": [
        ([], [(None, 330, [1, 2])]),
        ([], [("1  The sources", 330, [3, 9]), ("2  Mix their pieces", 330, [4, 5])]),
        ([], [("3  Look", None, [6, 7, 8])]),
    ],
    "Rarity 06 Everything with a Kandinsky": [
        ([1], [KANDINSKY[0], (KANDINSKY[1][0], 250, [24, 8])]),
        ([], [("3  The dial, with a gate", 260, [9, 23, 10])]),
        ([2], [("4  The way there", 225, [15, 25, 19]), ("5  Draw", 225, [26, 21])]),
        ([], [("6  Look", None, [20, 22, 18])]),
    ],
    "Rarity 04 Which way to be rare": [
        ([1], KANDINSKY),
        ([], [("3  Towards outlines", 260, [7, 20, 8])]),
        ([2], [("4  Away from these", 260, [-9, 10]), ("5  Draw", 240, [-11, -12, -13, 16, 17])]),
        ([], [("6  Look", None, [-14, 18, -15, 19])]),
    ],
    "Rarity 03 Variations of a picture": [
        ([1, 2], [(title, 240, nodes) for title, _, nodes in KANDINSKY] + [("3  The picture", 240, [7, -8, -9, 10])]),
        ([], [("4  Two dials", 250, [22, 11, 12]), ("5  Draw", 225, [-13, 18, -15, -14, 19]), ("6  Look", None, [-16, 20, -17, 21])]),
    ],
    "Rarity 05 Teach the model a word": [
        ([1], [KANDINSKY[0], (KANDINSKY[1][0], 250, [5, 6])]),
        ([], [("3  Learn a word", 250, [7])]),
        ([2], [("4  The way there", 225, [8, 25, 11]), ("5  New pictures", 225, [26, 27])]),
        ([], [("6  Look", None, [24, 23, 22])]),
    ],
    "Rarity 09 Rank any graph": [
        ([], [(None, 290, [1, 2])]),
        ([], [("1  Any graph", 240, [3, 4, 5, -6]), ("1  Any graph", 240, [7, -8, 9]), ("2  What is usual", 240, [10, -11]),
              ("3  How new", 240, [-12, 13, -14, 15]), ("4  Look, and remember", None, [-17, -18, 19, 20])]),
    ],
    "Rarity 11 Stable Diffusion XL": [
        ([], [(None, 270, [1, 2])]),
        ([], [("1  What to make", 240, [3, 4, 5, 6]), ("2  What is usual", 240, [7, -9, 24]), ("3  The dial", 250, [12, 13]),
              ("4  Draw", 240, [25, 16, 17]), ("5  Look", None, [26, 22, 23])]),
    ],
    "Rarity 12 Stable Diffusion unCLIP": [
        ([], [(None, 270, [1, 2])]),
        ([], [("1  What to make", 240, [3, 4, 5]), ("2  What is usual", 240, [6, -8, 23]), ("3  The dial", 250, [11, 12]),
              ("4  Draw", 240, [24, 15, 16]), ("5  Look", None, [25, 21, 22])]),
    ],
    "Rarity 13 Stable Cascade": [
        ([1], [("1  What to make", 240, [3, 4, 5, -6]), ("2  What is usual", 240, [7, -9])]),
        ([], [("3  The dial", 240, [27, 12, 13]), ("4  Draw: stage C", 240, [28, 16, 17])]),
        ([2], [("5  Draw: stage B", 240, [29, 20])]),
        ([], [("6  Look", None, [30, 25, 26])]),
    ],
    "Rarity 14 Many machines": [
        ([], [(None, 400, [1, 2])]),
        ([], [("1  Who draws what", 320, [3, 4, 5]), ("2  Samples", 280, [6]), ("3  What is usual", 280, [-7, 8, -9]),
              ("4  From all machines", None, [10, 11])]),
    ],
    "Rarity 15 Seed variety": [
        ([], [(None, 270, [1, 2])]),
        ([], [("1  What to make", 240, [3, 4, 5]), ("2  Still the subject", 240, [6, 7]), ("3  The dial", 250, [8, -9]),
              ("4  Draw", 240, [-10, 11, 12, -13, -14]), ("5  Look", None, [-15, -16, -17, 18, 19])]),
    ],
    "Rarity 16 Seed variety with Z-Image": [
        ([], [(None, 270, [1, 2])]),
        ([], [("1  What to make", 240, [3, 4, 5, 6, -7]), ("2  Still the subject", 240, [8, 9]), ("3  The dial", 250, [10, -11]),
              ("4  Draw", 240, [-12, 13, 14, -15, -16]), ("5  Look", None, [-17, -18, -19, 20, 21])]),
    ],
    "Rarity 17 A rare picture with Flux": [
        ([], [(None, 270, [1, 2])]),
        ([], [("1  What to make", 240, [3, 4, 5, 6, -7, -8]), ("2  What is usual", 240, [9, 10, 24]), ("3  The dial", 250, [13, -14]),
              ("4  Draw", 240, [15, 16, 17]), ("5  Look", None, [25, 22, 23])]),
    ],
    "Rarity 10 A rare prompt for Stable Diffusion": [
        ([], [(None, 270, [1, 2])]),
        ([], [("1  What to make", 240, [3, 4, 5, 6]), ("2  What is usual", 240, [7, 21]), ("3  The dial", 250, [10, -11]),
              ("4  Draw", 240, [12, 13, 14]), ("5  Look", None, [22, 19, 20])]),
    ],
}


def with_widths(blocks):
    """The blocks with every column's width as a number: what the others leave goes to the one with None."""
    widths = [width for _, columns in blocks for _, width, _ in columns]
    left = WIDTH - sum(filter(None, widths)) - GAP * (len(widths) - 1)
    return [(notes, [(title, width or left, ids) for title, width, ids in columns]) for notes, columns in blocks]


def set_widths(workflow, blocks):
    """Write into the nodes which are folded and how wide each is; as tall as they must be."""
    nodes = {node["id"]: node for node in workflow["nodes"]}
    placed = set()
    for notes, columns in blocks:
        inner = sum(width for _, width, _ in columns) + GAP * (len(columns) - 1)
        widths = [(note, (inner - GAP * (len(notes) - 1)) // len(notes)) for note in notes]
        widths += [(number, width) for _, width, ids in columns for number in ids]
        for number, width in widths:
            node = nodes[abs(number)]
            node["size"] = [width, 40]
            node["flags"] = {"collapsed": True} if number < 0 else {}
            placed.add(abs(number))
    assert placed == nodes.keys(), f"{placed ^ nodes.keys()} are not in LAYOUTS once"


def place(workflow, blocks, needs):
    """Write positions and sizes. `needs`: for each id the least height of its body, and of its whole box in Nodes 2.0."""
    nodes = {node["id"]: node for node in workflow["nodes"]}
    workflow["groups"], ways, x = [], [], 0
    for notes, columns in blocks:
        top = 0
        if notes:
            top = HEIGHT - max(_least(_steps(nodes, ids, needs)) for _, _, ids in columns)
            at = x
            for note in notes:
                nodes[note]["pos"], nodes[note]["size"][1] = [at, TITLE], top - GROUP_TITLE - 30 - TITLE
                at += nodes[note]["size"][0] + GAP
        for title, width, ids in columns:
            _fill(nodes, ids, needs, x, top)
            ways.append((x, width, [abs(number) for number in ids], HEIGHT))
            _frame(workflow["groups"], title, [x - 20, top - GROUP_TITLE - 6, width + 40, HEIGHT - top + GROUP_TITLE + 6 + BELOW])
            x += width + GAP
    workflow["extra"]["ds"] = {"scale": 0.62, "offset": [75, 112]}  # what 0.3.64 opens it with
    lead_around(workflow, ways)


def _steps(nodes, ids, needs):
    """For each node of a column (least height of its body, least distance to the next, its weight in what is left)."""
    for place, number in enumerate(ids, 1):
        node = nodes[abs(number)]
        body, box = (0, TITLE) if number < 0 else needs[abs(number)]
        gaps = (GAP, VUE_GAP) if place < len(ids) else (0, 0)
        yield body, max(body + TITLE + gaps[0], box + gaps[1]), 0 if number < 0 else GROWS.get(node["type"], 0)


def _least(steps):
    return sum(pitch for _, pitch, _ in steps)


def _fill(nodes, ids, needs, x, top):
    """Put a column's nodes one below the other; those with text or pictures share the height that is left."""
    steps = list(_steps(nodes, ids, needs))
    left = HEIGHT - top - _least(steps)
    assert left >= 0, f"the column {ids} is {-left} too tall"
    weights = sum(weight for _, _, weight in steps)
    y = top
    for number, (body, pitch, weight) in zip(ids, steps, strict=True):
        more = left * weight // weights if weights else 0
        node = nodes[abs(number)]
        body = max(body, pitch - TITLE - GAP) if weight else body
        node["pos"], node["size"][1] = [x, y + TITLE], (body or node["size"][1]) + more
        y += pitch + more + (0 if weights or len(ids) == 1 else left // (len(ids) - 1))


def _frame(groups, title, bounding):
    """Add a group; columns of one title beside each other are one group."""
    if title is None:
        return
    if groups and groups[-1]["title"] == title:
        groups[-1]["bounding"][2] = bounding[0] + bounding[2] - groups[-1]["bounding"][0]
        return
    color = MAIN_COLOR if any(words in title for words in MAIN) else COLOR
    groups.append({"id": len(groups) + 1, "title": title, "bounding": bounding, "color": color, "font_size": 24, "flags": {}})


def lay_out(editor, name):
    """Write workflows/NAME.json anew; everything but places, sizes, folds and groups stays."""
    path = ROOT / "workflows" / f"{name}.json"
    workflow = json.loads(path.read_text(encoding="utf-8"))
    blocks = with_widths(LAYOUTS[name])
    set_widths(workflow, blocks)
    unfolded = json.loads(json.dumps(workflow))
    for node in unfolded["nodes"]:
        node["flags"] = {}
    seen = editor.open(unfolded, name)
    says = {node["id"] for node in workflow["nodes"] if any(output["name"] == "report" for output in node.get("outputs", ()))}
    kinds = {node["id"]: node["type"] for node in workflow["nodes"]}
    room = {number: 0 if name.startswith(NO_ROOM) and kinds[number] != "RarityPickStep" else REPORT for number in says}
    needs = needed(seen)
    for number, (body, box) in needs.items():
        if kinds[number] in ("SaveImage", "PreviewImage"):
            body = max(body, PICTURE)
        needs[number] = body, max(box + room.get(number, 0), body + PREVIEW.get(kinds[number], 0) + TITLE)
    place(workflow, blocks, needs)
    lay_out_inside(editor, workflow, name)
    path.write_text(json.dumps(workflow, indent=1, ensure_ascii=False) + "\n", encoding="utf-8")


def needed(seen):
    """For each id the least height of the node's body, and of its whole box, of what a page has measured."""
    return {node["id"]: (round(node["least"][1]), round(node["box"][3])) for node in seen["nodes"]}


def lay_out_inside(editor, workflow, name):
    """Place what is inside the workflow's subgraphs, each as it is when opened."""
    number = len(workflow["extra"]["reroutes"])
    graphs = subgraphs_of(workflow)
    for graph in graphs.values():  # as narrow as they will be, and short
        for node in graph["nodes"]:
            node["size"], node["flags"] = [INSIDE, 40], {}
    editor.open(workflow, f"{name}, inside")
    for node in workflow["nodes"]:
        if node["type"] in graphs:
            number = place_inside(graphs[node["type"]], needed(editor.look_inside(node["id"])), number)


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("names", nargs="*", metavar="NAME", help=f"of {', '.join(LAYOUTS)}; without any, all")
    names = parser.parse_args().names or list(LAYOUTS)
    if not set(names) <= LAYOUTS.keys():
        parser.error(f"expected names of {', '.join(LAYOUTS)}, got {', '.join(names)}")
    comfyuis = find_comfyuis()
    lacks = what_it_lacks() or ("" if comfyuis else f"no ComfyUI was found ({PLACES})")
    if lacks:
        sys.exit(f"Cannot measure the nodes: {lacks}.")
    with tempfile.TemporaryDirectory() as folder, chromium() as browser:
        server = Server(comfyuis[-1], Path(folder) / "base")
        try:
            server.wait_until_up()
            editor = Editor(browser, server, vue=True)
            for name in names:
                lay_out(editor, name)
        finally:
            server.stop()


if __name__ == "__main__":
    main()
