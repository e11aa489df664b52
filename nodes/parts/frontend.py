"""Which version of ComfyUI's page is installed: what it shows of a node's words differs from version to version."""

import functools
import itertools
from importlib import metadata


@functools.cache
def version():
    """The version of ComfyUI's page.

    Returns
    -------
    tuple[int, ...]
        Such as (1, 49, 6); empty where it does not come as a package, which is before every version.
    """
    try:
        written = metadata.version("comfyui-frontend-package")
    except metadata.PackageNotFoundError:
        return ()
    return tuple(int(part) for part in itertools.takewhile(str.isdecimal, written.split(".")))
