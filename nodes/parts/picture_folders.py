"""The folders of pictures that a node can read: those in ComfyUI's `input` folder, and the one that ships with this pack."""

from pathlib import Path

import folder_paths

from ...density.base.errors import RarityError, quoted
from ...generators.eyes.picture_files import picture_files
from ...generators.eyes.picture_folder import CREDITS
from ...generators.local_score.new_pictures import BAGS
from .folders import digest, digest_of_lines

BUILT_IN = "bags (built in)"


def picture_folders():
    """List the folders in ComfyUI's `input` folder, after the built-in one.

    Returns
    -------
    dict[str, Path]
        Name in the menu -> folder.
    """
    root = Path(folder_paths.get_input_directory())
    inside = sorted(root.iterdir()) if root.is_dir() else []
    return {BUILT_IN: BAGS} | {folder.name: folder for folder in inside if folder.is_dir() and not folder.name.startswith(".")}


def picture_folder(name):
    """Find the folder of a name that `picture_folders` lists.

    Raises
    ------
    RarityError
        When the name is not listed. Names outside ComfyUI's `input` folder are never listed.
    """
    known = picture_folders()
    if name not in known:
        raise RarityError(
            f"There is no folder of pictures {quoted(name)} in ComfyUI's input folder. Found: {', '.join(known)}. Put your pictures "
            "into a folder there, and press R."
        )
    return known[name]


def fingerprint_of(name, most):
    """A digest that changes when a folder's credits change, or one of its first pictures, or their number.

    Pictures are told by size and time and are not read: a folder may hold many gigabytes, and nobody can cancel here.
    """
    folder = picture_folder(name)
    files = picture_files(folder)
    seen = ((file, file.stat()) for file in files[:most])
    told = (f"{file} {at.st_size} {at.st_mtime_ns}" for file, at in seen)
    return digest_of_lines([f"{digest(folder / CREDITS)} {len(files)}", *told])
