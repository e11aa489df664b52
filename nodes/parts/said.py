"""Show a node's report, or the sentence of its error, on the node itself.

The server can send a text while a node runs, and ComfyUI's page shows it on the node; this needs no JavaScript. The text
stays until the page is loaded again, and is saved in no file. Pages before 1.39.19 did save it, as one more value after those
of the widgets. A widget that is added to the node later would then read it as its own value, so these pages get no text.
"""

import functools

from comfy_execution.utils import get_executing_context

from ...density.base.errors import RarityError
from . import frontend

SAVES_NO_TEXT = (1, 39, 19)
_failed = set()  # the nodes that show an error


class Rarity(RarityError):
    """A RarityError that leaves a node. ComfyUI writes the class's name before the sentence; "builtins" keeps it short."""

    __module__ = "builtins"


def say(text):
    """Show a text on the node that is running, if ComfyUI's page can do so.

    Parameters
    ----------
    text : str
        Lines. Nothing in them is read as HTML.

    Returns
    -------
    str
        The text, as it was given.
    """
    context, server = get_executing_context(), _server()
    if context and server:
        _failed.discard(context.node_id)
        # The page would read text in angle brackets as a tag.
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
            say(_sentences(report if isinstance(report, str) else "\n".join(report)))
        if _running() in _failed:
            say("Done.")  # the error on the node is not true any more
        return result

    node.execute = classmethod(execute)


def _sentences(report):
    """A report without the lines of its tables, where columns have two spaces between them: Nodes 2.0 joins all lines to one."""
    lines = report.splitlines()
    return "\n".join([line for line in lines if "  " not in line.strip()] or lines)


def _running():
    context = get_executing_context()
    return context and context.node_id


def _server():
    """The server, if a page is connected that does not save the text; otherwise None."""
    if frontend.version() < SAVES_NO_TEXT:
        return None
    from server import PromptServer

    server = getattr(PromptServer, "instance", None)
    return server if getattr(server, "client_id", None) else None
