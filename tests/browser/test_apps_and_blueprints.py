"""What the pack offers beside nodes: workflows that open as apps, and subgraphs in the node library."""

import json

import pytest
from comfyui import PACK, ROOT
from graph import to_api
from new_user import open_from_templates

BLUEPRINTS = sorted((ROOT / "subgraphs").glob("*.json"))
APPS = {  # workflow -> the labels of its controls, in their order
    "Rarity 01 Quickstart": ["prompt", "subject", "1 in", "seed"],
    "Rarity 02 Never the same twice": ["prompt", "subject", "1 in", "keep"],
    "Rarity 03 Variations of a picture": ["indices", "how far", "1 in", "seed"],
}


def read(path):
    return json.loads(path.read_text(encoding="utf-8"))


def test_the_template_browser_opens_the_quickstart(editor):
    open_from_templates(editor)
    assert not editor.page.evaluate("app.canvas.low_quality") and not editor.complaints


@pytest.mark.parametrize("name", APPS)
def test_an_app_shows_its_controls(editor, name):
    if editor.vue:
        pytest.skip("An app looks the same in both renderers.")
    editor.open(read(ROOT / "workflows" / f"{name}.json"), name)
    if not editor.page.evaluate("app.extensionManager.command.commands.some(command => command.id === 'Comfy.ToggleLinear')"):
        pytest.skip("This frontend has no apps.")
    editor.page.evaluate("app.extensionManager.command.execute('Comfy.ToggleLinear')")
    try:
        editor.page.get_by_text("Number of runs").wait_for(timeout=10000)
        lines = editor.page.inner_text("body").split("\n")
        places = [lines.index(label) for label in APPS[name]]
        assert places == sorted(places)
    finally:
        editor.page.evaluate("app.extensionManager.command.execute('Comfy.ToggleLinear')")
    assert not editor.complaints


@pytest.mark.parametrize("path", BLUEPRINTS, ids=lambda path: path.stem)
def test_a_blueprint_sends_what_it_says(editor, path):
    if editor.server.get("/system_stats")["system"]["comfyui_version"].endswith("0.3.64"):
        pytest.skip("ComfyUI offers subgraphs since 0.3.67.")
    offered = [entry["name"] for entry in editor.server.get("/global_subgraphs").values() if PACK in entry["info"]["node_pack"]]
    assert path.stem in offered
    blueprint = read(path)
    editor.open(blueprint, path.stem)
    sent = editor.sent()

    def told(prompt):  # the frontend numbers the inner nodes anew
        return sorted((node["class_type"], sorted((name, str(value)) for name, value in node["inputs"].items()
                                                  if not isinstance(value, list))) for node in prompt.values())

    expected = to_api(blueprint, editor.server.nodes)
    for node in expected.values():  # a whole number of a FLOAT is written without its point
        node["inputs"] = {name: int(value) if isinstance(value, float) and value.is_integer() else value
                          for name, value in node["inputs"].items()}
    assert told(sent) == told(expected)
    assert editor.keeps_what_is_turned(path.stem)
    assert not editor.complaints
