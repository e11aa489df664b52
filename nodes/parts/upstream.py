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


def number_before(socket, least=1):
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
    count = _number(_asked(), socket)
    return count if count is not None and count >= least else None


def estimator_before(socket):
    """The estimator of the Fit Density at a socket of the node that ComfyUI is asking now; None if another node is there."""
    before, widgets = _node(_asked().get(socket))
    estimator = widgets.get("estimator") if before == "RarityFitDensity" else None
    return estimator if isinstance(estimator, str) else None


def model_before(socket):
    """The model in the menu of the Load Kandinsky behind the Sample Prior at a socket of the node that ComfyUI is asking now.

    Returns
    -------
    str | None
        None if other nodes are there, or if a repository takes the model's place.
    """
    before, widgets = _node(_asked().get(socket))
    loader, chosen = _node(widgets.get("prior")) if before == "RaritySamplePrior" else (None, {})
    model = chosen.get("model") if loader == "RarityLoadKandinsky" and not chosen.get("repository") else None
    return model if isinstance(model, str) else None


def _number(inputs, socket):
    """How many embeddings a socket will bring; None if no widget says it, or if the node that makes them will be refused."""
    before, widgets = _node(inputs.get(socket))
    count = widgets.get("count")
    if before not in MAKERS or widgets.get("stop_when_enough") or not isinstance(count, int):  # a link is no number
        return None
    source = _number(widgets, "embeddings")  # Make Rare takes as many of these
    return count if source is None or count <= source else None


def _asked():
    """The inputs of the node that ComfyUI is asking now."""
    context = get_executing_context()
    return _graph.get(context.node_id, {}).get("inputs", {}) if context else {}


def _node(link):
    """The class and the inputs of the node that a link comes from."""
    node = _graph.get(str(link[0]), {}) if isinstance(link, list) and link else {}
    return node.get("class_type"), node.get("inputs", {})
