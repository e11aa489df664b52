"""Every workflow can be read as it opens: on both frontends, in both renderers, in three windows."""

import json
from pathlib import Path

import pytest
from graph import inputs_of, subgraphs_of, to_api

ROOT = Path(__file__).parents[2]
WORKFLOWS = sorted((ROOT / "workflows").glob("*.json"))
FOLDED = [path for path in WORKFLOWS if subgraphs_of(json.loads(path.read_text(encoding="utf-8")))]
WINDOWS = [(1440, 900), (1536, 730), (1920, 1080)]


def overlapping(nodes):
    """The pairs of nodes whose boxes cover each other."""
    for i, one in enumerate(nodes):
        for other in nodes[:i]:
            (x, y, w, h), (x2, y2, w2, h2) = one["box"], other["box"]
            if x + w > x2 + 1 and x2 + w2 > x + 1 and y + h > y2 + 1 and y2 + h2 > y + 1:
                yield one["title"], other["title"]


@pytest.mark.parametrize("path", WORKFLOWS, ids=lambda path: path.stem)
def test_it_can_be_read_as_it_opens(editor, path):
    workflow = json.loads(path.read_text(encoding="utf-8"))
    # A name of its own for each window: a workflow that is opened again keeps the view that it had.
    opened = [editor.open(workflow, f"{path.stem} {window[0]}", window, settle=window == WINDOWS[0]) for window in WINDOWS]
    nodes = opened[0]["nodes"]
    assert len(nodes) == len(workflow["nodes"])
    assert not list(overlapping(nodes))
    assert not [node["title"] for node in nodes if node["clipped"]], "a note is cut"
    assert not [node["title"] for node in nodes if node["words"] is not None and node["title"] not in node["words"]]
    for window, seen in zip(WINDOWS, opened, strict=True):
        # The canvas leaves texts out below 8 pixels; Nodes 2.0 draws them at every scale, and below half they are too small to read.
        drawn = seen["scale"] >= 0.5 if editor.vue else not seen["blank"] and seen["scale"] >= 8 / 14
        assert drawn, f"{window}: no text is drawn at {seen['scale']:.1%}"
        left, top, width, height = seen["window"]
        for x, y, w, h in (node["box"] for node in nodes):
            assert x >= left and y >= top and x + w <= left + width and y + h <= top + height, f"{window}: a node is out of it"
    assert not editor.complaints


@pytest.mark.parametrize("path", FOLDED, ids=lambda path: path.stem)
def test_its_subgraphs_open_and_it_sends_what_they_hold(editor, path):
    workflow = json.loads(path.read_text(encoding="utf-8"))
    graphs = subgraphs_of(workflow)
    editor.open(workflow, f"{path.stem} inside")
    for node in workflow["nodes"]:
        if node["type"] in graphs:
            nodes = editor.look_inside(node["id"])["nodes"]
            assert {one["id"] for one in nodes} == {one["id"] for one in graphs[node["type"]]["nodes"]}
            assert not list(overlapping(nodes))
    sent, described = editor.sent(), editor.server.nodes
    for node in sent.values():  # a page may add widgets of its own, which no server reads
        known = [name for name, _, _ in inputs_of(described[node["class_type"]])]
        node["inputs"] = {name: value for name, value in node["inputs"].items() if name in known}
        node.pop("_meta")
    assert sent == to_api(workflow, described)
    if any(node["widgets_values"] for node in workflow["nodes"] if node["type"] in graphs):
        assert editor.keeps_what_is_turned(path.stem)
    assert not editor.complaints
