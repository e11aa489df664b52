"""What widgets further up the graph say, before anything runs: how many embeddings a socket will bring.

ComfyUI tells a node nothing of the nodes before it until they have run; by then a baseline may have taken hours.
"""

import sys

from comfy_execution.utils import get_executing_context

MAKERS = ("RaritySamplePrior", "RarityBaselineFromModel", "RarityMakeRare", "RaritySampleConcept")  # of as many as their `count`
_graph = {}


def watch():
    """Take note of each graph that ComfyUI is asked to run; where there is no server, of none."""
    server = getattr(getattr(sys.modules.get("server"), "PromptServer", None), "instance", None)
    if server is not None and note not in server.on_prompt_handlers:
        server.add_on_prompt_handler(note)


def note(request):
    """Take note of the graph of a request, which is handed on as it came."""
    _graph.clear()
    _graph.update(request.get("prompt") or {})
    return request


def number_before(socket, least=0):
    """How many embeddings will come in at a socket of the node that ComfyUI asks now.

    Parameters
    ----------
    socket : str
        Its id.
    least : int
        Of fewer another node says what is wrong: ComfyUI's message has room for one sentence.

    Returns
    -------
    int | None
        None where no widget says so: the node before it takes some out, joins several, or reads a file.
    """
    context = get_executing_context()
    inputs = _graph.get(context.node_id, {}).get("inputs", {}) if context else {}
    link = inputs.get(socket)
    before = _graph.get(str(link[0]), {}) if isinstance(link, list) and link else {}
    widgets = before.get("inputs", {})
    if before.get("class_type") not in MAKERS or widgets.get("stop_when_enough"):
        return None
    count = widgets.get("count")
    return count if isinstance(count, int) and count >= least else None  # no number: a link
