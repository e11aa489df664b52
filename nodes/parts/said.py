"""What a node has to say, on the node itself: its report, or the sentence of its error.

ComfyUI's page shows a text on a node that the server sends while the node runs, without a line of JavaScript. It stays until the
page is loaded anew, and no file holds it. Pages before 1.39.19 did save it, as one more value behind those of the widgets:
a widget that is added to the node later would read it as its own. They are sent none.
"""

import functools

from comfy_execution.utils import get_executing_context

from ...density.base.errors import RarityError
from . import frontend

SAVES_NO_TEXT = (1, 39, 19)
_failed = set()  # of the nodes whose error is on them


class Rarity(RarityError):
    """A RarityError as it leaves a node; ComfyUI writes the class before the sentence, and its path unless it is Python's own."""

    __module__ = "builtins"


def say(text):
    """Show a text on the node that is running, where ComfyUI's page can.

    Parameters
    ----------
    text : str
        Lines; nothing in them is taken for HTML.

    Returns
    -------
    str
        The text, as it was given.
    """
    context, server = get_executing_context(), _server()
    if context and server:
        _failed.discard(context.node_id)
        # What looks like a tag would be taken for one.
        server.send_progress_text(text.replace("<", "‹").replace(">", "›"), context.node_id, server.client_id)
    return text


def speak_up(node):
    """Make a node show its report on itself, or the sentence of its error, which it raises as `Rarity`.

    Parameters
    ----------
    node : type[io.ComfyNode]
        Its `execute` is replaced.
    """
    run = node.execute.__func__
    reports = [place for place, output in enumerate(node.define_schema().outputs) if output.display_name == "report"]

    @functools.wraps(run)
    def execute(cls, **given):
        try:
            result = run(cls, **given)
        except RarityError as error:
            say(str(error))
            _failed.add(_running())
            raise Rarity(str(error)) from error
        for place in reports:
            report = result.args[place]
            say(report if isinstance(report, str) else "\n".join(report))
        if _running() in _failed:
            say("Done.")  # the sentence that stands there is not true any more
        return result

    node.execute = classmethod(execute)


def _running():
    context = get_executing_context()
    return context and context.node_id


def _server():
    """The server, where a page that saves no text listens to it."""
    if frontend.version() < SAVES_NO_TEXT:
        return None
    from server import PromptServer

    server = getattr(PromptServer, "instance", None)
    return server if getattr(server, "client_id", None) else None
