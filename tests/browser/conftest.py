"""A browser, and the ComfyUIs whose frontends it opens; without one of them these tests skip and say so."""

import pytest
from browser import Editor, chromium, what_it_lacks
from comfyui import Server
from environments import PLACES, find_comfyuis, python_of, version_of
from environments import what_it_lacks as what_comfyui_lacks

# (ComfyUI, whether Nodes 2.0 draws the nodes); the oldest frontend supported has no Nodes 2.0.
RENDERERS = [(comfyui, vue) for comfyui in find_comfyuis() for vue in (False, True) if not (vue and version_of(comfyui) == "0.3.64")]


@pytest.fixture(scope="session")
def browser():
    lacks = what_it_lacks()
    if lacks:
        pytest.skip(f"No browser: {lacks}.")
    with chromium() as started:
        yield started


def _named(renderer):
    return f"ComfyUI-{version_of(renderer[0])}-{'vue' if renderer[1] else 'classic'}" if renderer else "no-ComfyUI"


@pytest.fixture(scope="session")
def server_of(tmp_path_factory):
    """Start the server of a ComfyUI, or take the one that runs: one at a time."""
    running = {}

    def start(comfyui):
        if comfyui not in running:
            for server in running.values():
                server.stop()
            running.clear()
            running[comfyui] = Server(comfyui, tmp_path_factory.mktemp("browser") / "base")
            running[comfyui].wait_until_up()
        return running[comfyui]

    yield start
    for server in running.values():
        server.stop()


@pytest.fixture(scope="session", params=RENDERERS or [None], ids=_named)
def editor(request, browser, server_of):
    """ComfyUI's page, loaded once for each frontend and renderer, and closed before the next one: an open page draws all the time."""
    if request.param is None:
        pytest.skip(f"No ComfyUI found ({PLACES}).")
    comfyui, vue = request.param
    lacks = what_comfyui_lacks(comfyui)
    if lacks:
        pytest.skip(f"{comfyui} does not run with {python_of(comfyui)}, which lacks {lacks}.")
    page = Editor(browser, server_of(comfyui), vue)
    yield page
    page.close()
