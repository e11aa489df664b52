"""Open workflows in a real browser, on the page that a running ComfyUI serves, and measure what an artist sees."""

import contextlib
import importlib.util
import shutil

# Opens a workflow as the template browser does.
OPEN = """([workflow, name]) => app.loadGraphData(workflow, true, true, name, {openSource: "template"})"""

# Whether as many pixels are drawn as the canvas has.
FILLED = "app.canvas.canvas.width === Math.round(app.canvas.canvas.getBoundingClientRect().width * devicePixelRatio)"

# Opens a subgraph, as the button on its node does.
ENTER = """number => {
    const node = app.graph.nodes.find(node => Number(node.id) === number)
    app.canvas.openSubgraph(node.subgraph, node)
}"""

# Adds one to every number on the nodes that stand for subgraphs; returns what is then sent and saved.
TURN = """async () => {
    for (const node of app.graph.nodes.filter(node => node.subgraph))
        for (const widget of node.widgets.filter(widget => typeof widget.value === "number")) widget.value += 1
    return app.graphToPrompt()
}"""

# Waits until no box moves any more.
SETTLE = """async () => {
    let before = "", same = 0
    for (let frame = 0; frame < 300 && same < 4; frame++) {
        await new Promise(requestAnimationFrame)
        const drawn = [...document.querySelectorAll("[data-node-id]")].map(node => Object.values(node.getBoundingClientRect().toJSON()))
        const {scale, offset} = app.canvas.ds
        const now = JSON.stringify([scale, [...offset], drawn, app.canvas.graph.nodes.map(node => [...node.boundingRect])])
        same = now === before ? same + 1 : 0
        before = now
    }
}"""

# Everything is in the graph's own units, whichever renderer draws: box = [left, top, width, height] with the title bar.
MEASURE = """(() => {
    const {canvas} = app, {ds} = canvas, page = canvas.canvas.getBoundingClientRect()
    const inGraph = r => [(r.x - page.x) / ds.scale - ds.offset[0], (r.y - page.y) / ds.scale - ds.offset[1],
                          r.width / ds.scale, r.height / ds.scale]
    const cut = e => e && getComputedStyle(e).overflowY !== "visible" && e.scrollHeight > e.clientHeight + 2
    return {
        scale: ds.scale, blank: canvas.low_quality,
        window: [-ds.offset[0], -ds.offset[1], page.width / ds.scale, page.height / ds.scale],
        nodes: canvas.graph.nodes.map(node => {
            const vue = document.querySelector(`[data-node-id="${node.id}"]`)
            const element = vue ?? node.widgets?.find(widget => widget.element)?.element
            const note = element && node.type.includes("Note")
            return {
                id: Number(node.id), title: node.title,
                box: vue ? inGraph(vue.getBoundingClientRect()) : [...node.boundingRect],
                least: [...node.computeSize()],
                clipped: !!note && [element, ...element.querySelectorAll("*")].some(cut),
                words: vue ? vue.innerText : null,
            }
        }),
    }
})()"""


def what_it_lacks():
    """The reason why no browser can be started here; empty if one can."""
    if importlib.util.find_spec("playwright") is None:
        return "the Python package playwright is not installed"
    if not _program():
        return "chromium is not installed (Debian: apt-get install chromium)"
    return ""


def _program():
    return next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)


@contextlib.contextmanager
def chromium():
    """A browser without a window; it is closed at the end."""
    from playwright.sync_api import sync_playwright

    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=_program(), args=["--no-sandbox"])
        try:
            yield browser
        finally:
            browser.close()


class Editor:
    """ComfyUI's page in a browser.

    Parameters
    ----------
    browser : from `chromium`.
    server : a running `comfyui.Server`.
    vue : draw the nodes with Nodes 2.0, where the frontend has it.
    """

    def __init__(self, browser, server, vue=False):
        server.raw("/settings", {"Comfy.VueNodes.Enabled": vue, "Comfy.TutorialCompleted": True,
                                 "Comfy.Workflow.ShowMissingModelsWarning": False})
        self.server, self.vue = server, vue
        self.page = browser.new_page(viewport={"width": 1440, "height": 900}, reduced_motion="reduce")
        self.page.set_default_timeout(120_000)  # a second on a quiet machine, the rest is room for a busy one
        self.complaints = []
        self.page.on("pageerror", lambda error: self.complaints.append(str(error)))
        self.page.goto(server.url)
        self.wait_until_ready()

    def wait_until_ready(self):
        """Wait until the page can open workflows."""
        self.page.wait_for_function("window.app?.extensionManager && app.canvas?.graph && app.graph._nodes_by_id", timeout=60000)
        self.page.wait_for_load_state("networkidle")
        self.complaints.clear()  # the frontend's own complaints while it starts

    @property
    def shows_texts(self):
        """Whether the page shows what a node says on the node, and saves it in no workflow."""
        version = self.page.evaluate("window.__COMFYUI_FRONTEND_VERSION__")
        return tuple(int(part) for part in version.split(".")[:3]) >= (1, 39, 19)

    def open(self, workflow, name="workflow", size=(1440, 900), settle=True):
        """Open a workflow in a window of this size; returns what `MEASURE` finds.

        The size of a node does not depend on the window's size. With `settle` False the test does not wait for it.
        """
        self.page.set_viewport_size({"width": size[0], "height": size[1]})
        self.page.wait_for_function(FILLED)  # the view is fitted to the canvas, which follows the window a frame later
        self.page.evaluate(OPEN, [workflow, name])
        if settle:
            self.page.evaluate(SETTLE)
        return self.page.evaluate(MEASURE)

    def look_inside(self, number):
        """Open the subgraph for which a node stands, and go back; returns what `MEASURE` finds inside."""
        self.page.evaluate(ENTER, number)
        self.page.evaluate(SETTLE)
        inside = self.page.evaluate(MEASURE)
        self.page.evaluate("app.canvas.setGraph(app.graph)")
        return inside

    def sent(self):
        """What the page would send to the server."""
        return self.page.evaluate("app.graphToPrompt().then(prompt => prompt.output)")

    def keeps_what_is_turned(self, name):
        """Whether numbers on nodes that stand for subgraphs are sent, and are the same when the workflow is saved and opened again."""
        before, turned = self.sent(), self.page.evaluate(TURN)
        self.open(turned["workflow"], f"{name} again", settle=False)
        return before != turned["output"] == self.sent()

    def close(self):
        self.page.close()
