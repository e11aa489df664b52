"""What a new user does: opens the quickstart, reads its first note, runs it, turns the dial and runs it again."""

import json
import time

from comfyui import PACK, ROOT

QUICKSTART = ROOT / "workflows" / "Rarity 01 Quickstart.json"
RUNS = {"run": "about 1 in 1,000 ", "turn the dial, run again": "about 1 in 10,000 "}  # step -> what the report then says
VIEW = "[app.canvas.ds.scale, ...app.canvas.ds.offset, app.canvas.low_quality]"
ARROW = """type => {  // on the right of a node's first widget, in pixels of the page
    const node = app.graph.nodes.find(node => node.type === type), {ds} = app.canvas, page = app.canvas.canvas.getBoundingClientRect()
    return [page.x + (node.pos[0] + node.size[0] - 25 + ds.offset[0]) * ds.scale,
            page.y + (node.pos[1] + node.widgets[0].last_y + 10 + ds.offset[1]) * ds.scale]
}"""
COUNT_RUNS = "() => { window.ran = 0; app.api.addEventListener('execution_success', () => window.ran++) }"
SHOWN = """([runs, words]) => window.ran === runs
    && app.graph.nodes.filter(node => node.type === 'SaveImage').every(node => node.imgs?.length)
    && app.graph.nodes.find(node => node.type === 'PreviewAny').widgets.some(widget => String(widget.value).includes(words))"""


def open_from_templates(editor):
    """Search the template browser for the quickstart as the readme says, open it, and wait until its nodes are there."""
    editor.page.evaluate("app.extensionManager.command.execute('Comfy.BrowseTemplates')")
    browser = editor.page.get_by_role("dialog")
    browser.get_by_text(PACK, exact=True).first.wait_for()  # the list on the left has the pack's folder
    browser.get_by_placeholder("Search").fill("rarity 01")
    browser.get_by_text(QUICKSTART.stem).first.click()
    count = len(json.loads(QUICKSTART.read_text(encoding="utf-8"))["nodes"])
    editor.page.wait_for_function("count => app.graph.nodes.length === count", arg=count)


def use(editor):
    """Read, run, turn the dial and run again, in the quickstart as it opened: classic nodes of a page that shows texts on them.

    Returns
    -------
    dict[str, float]
        Seconds for each of RUNS, from the first click until the pictures and the report are on the page.

    Raises
    ------
    AssertionError : the note cannot be read as it opens, or the view moved.
    """
    page, took = editor.page, {}
    opened = page.evaluate(VIEW)
    assert not opened[-1], "no text is drawn"
    told, window = page.get_by_text("says how rare: turn it and run again").bounding_box(), page.viewport_size
    assert told["x"] > 0 and told["x"] + told["width"] < window["width"]
    assert told["y"] > 0 and told["y"] + told["height"] < window["height"]
    page.evaluate(COUNT_RUNS)
    for number, (step, words) in enumerate(RUNS.items(), 1):
        start = time.perf_counter()
        if number > 1:
            page.mouse.click(*page.evaluate(ARROW, "RarityDial"))
        page.get_by_test_id("queue-button").click()
        page.wait_for_function(SHOWN, arg=[number, words])
        took[step] = time.perf_counter() - start
    assert page.evaluate(VIEW) == opened, "the view moved"
    return took
