"""A connected socket that brings None, as loaders give it for what their file lacks; a node must not take it for no link."""

import functools

from ...density.base.errors import RarityError

WIDGETS = ("INT", "FLOAT", "STRING", "BOOLEAN", "COMBO")
CURES = {
    "CLIP_VISION": "An unCLIP checkpoint loader does so for a checkpoint without an image encoder: load one with Load CLIP Vision.",
    "CLIP": "A checkpoint loader does so for a checkpoint without a text encoder: load it with Load CLIP.",
    "VAE": "A checkpoint loader does so for a checkpoint without a VAE: load the model's own with Load VAE.",
}
ELSE = "Look at what that node says, or connect another one."


def refuse_nothing(node):
    """Make a node refuse None from a connected socket. ComfyUI passes no value at all for a socket without connection.

    Parameters
    ----------
    node : type[io.ComfyNode]
        Its `execute` is replaced.
    """
    run = node.execute.__func__

    @functools.wraps(run)
    def execute(cls, **given):
        empty = [name for name, value in given.items() if _is_nothing(value)]
        if empty:
            schema = node.define_schema()
            for socket in schema.inputs:
                kinds = socket.get_io_type().split(",")
                if socket.id in empty and (kinds[0] not in WIDGETS or getattr(socket, "force_input", None)):
                    cure = next((CURES[kind] for kind in kinds if kind in CURES), ELSE)
                    raise RarityError(f"{schema.display_name} got nothing from the node that is connected to {socket.id}. {cure}")
        return run(cls, **given)

    node.execute = classmethod(execute)


def _is_nothing(value):
    """Whether a value is None, a list with None in it, or the empty VAE of a checkpoint loader that found no weights."""
    values = value if isinstance(value, list) else [value]
    return any(one is None or getattr(one, "first_stage_model", one) is None for one in values)
