"""The installed version of ComfyUI's page. Versions differ in what they show of a node's texts."""

import functools
import itertools
from importlib import metadata


@functools.cache
def version():
    """The version of ComfyUI's page.

    Returns
    -------
    tuple[int, ...]
        Such as (1, 49, 6). It is empty, which is before every version, if the page is not installed as a package.
    """
    try:
        written = metadata.version("comfyui-frontend-package")
    except metadata.PackageNotFoundError:
        return ()
    return tuple(int(part) for part in itertools.takewhile(str.isdecimal, written.split(".")))
