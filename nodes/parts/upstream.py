"""What a socket will bring, read from the widgets of earlier nodes before anything runs.

ComfyUI tells a node nothing about earlier nodes until they have run. By then a baseline may have taken hours.
"""

import sys

from comfy_execution.utils import get_executing_context

MAKERS = ("RaritySamplePrior", "RarityBaselineFromModel", "RarityMakeRare", "RaritySampleConcept")  # nodes that make `count` embeddings
_graph = {}


def watch():
    """Remember each graph that ComfyUI is asked to run. Without a server nothing happens."""
    server = getattr(getattr(sys.modules.get("server"), "PromptServer", None), "instance", None)
    if server is not None and note not in server.on_prompt_handlers:
        server.add_on_prompt_handler(note)


def note(request):
    """Remember the graph of a request, and return the request unchanged."""
    _graph.clear()
    _graph.update(request.get("prompt") or {})
    return request


def number_before(socket, least=0):
    """How many embeddings a socket will bring to the node that ComfyUI is asking now.

    Parameters
    ----------
    socket : str
        The id of the socket.
    least : int
        For fewer embeddings the answer is None: another node refuses them, and ComfyUI's message has room for one sentence.

    Returns
    -------
    int | None
        None if no widget says it: the node before selects or joins embeddings, or reads a file.
    """
    before, widgets = _before(socket)
    if before not in MAKERS or widgets.get("stop_when_enough"):
        return None
    count = widgets.get("count")
    return count if isinstance(count, int) and count >= least else None  # a link is no number


def estimator_before(socket):
    """The estimator of the Fit Density at a socket of the node that ComfyUI is asking now; None if another node is there."""
    before, widgets = _before(socket)
    estimator = widgets.get("estimator") if before == "RarityFitDensity" else None
    return estimator if isinstance(estimator, str) else None


def _before(socket):
    """The class and the widgets of the node at a socket."""
    context = get_executing_context()
    inputs = _graph.get(context.node_id, {}).get("inputs", {}) if context else {}
    link = inputs.get(socket)
    node = _graph.get(str(link[0]), {}) if isinstance(link, list) and link else {}
    return node.get("class_type"), node.get("inputs", {})
