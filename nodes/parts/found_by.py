"""Words that find a node in ComfyUI's search, beside its name. ComfyUI before 0.11 does not support such words."""

import dataclasses

from comfy_api.latest import io

KNOWN = any(field.name == "search_aliases" for field in dataclasses.fields(io.Schema))


def found_by(*words):
    """Make the keyword of `io.Schema` that lets the search find a node by these words.

    Parameters
    ----------
    words : str
        What an artist would type without knowing the node's name.
    """
    return {"search_aliases": list(words)} if KNOWN else {}
