"""Picture files on disk, read as in ComfyUI, so that a picture gets the same score in a graph and on the command line."""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import torch
from PIL import Image, ImageOps
from torch import Tensor

from ...density.base.embeddings import Embeddings
from ...density.base.errors import RarityError
from ...density.base.progress import Progress
from .encoding import Looks

SUFFIXES = {".png", ".jpg", ".jpeg", ".webp", ".bmp", ".tif", ".tiff", ".gif"}
NAMED = 10  # most unreadable files that an error names


def read_picture(path: str | os.PathLike, *, paper: bool = False) -> Tensor:
    """A picture file as [1, H, W, 3] float32, values 0 to 1. It is turned as the camera noted, and loses its transparency.

    Parameters
    ----------
    paper : whether what is transparent becomes white paper. If not, the colour below the transparency is shown, as in
        ComfyUI; that of a drawing is often as black as its lines.

    Raises
    ------
    RarityError : no such file, or nothing that can be read as a picture.
    """
    try:
        with Image.open(path) as file:
            picture = ImageOps.exif_transpose(file)
            if picture.mode.startswith("I"):  # 16 bits of grey; a plain conversion would cut them at 255
                grey = np.asarray(picture, dtype=np.float32) / 65535
                array = np.repeat(grey.clip(0, 1)[..., None], 3, axis=2)
            else:
                if paper and ("A" in picture.getbands() or "transparency" in picture.info):
                    picture = picture.convert("RGBA")
                    picture = Image.alpha_composite(Image.new("RGBA", picture.size, "white"), picture)
                array = np.asarray(picture.convert("RGB"), dtype=np.float32) / 255
    except Image.DecompressionBombError as error:
        raise RarityError(f"{path} has too many pixels to be read: {str(error).split(',')[0]}. Scale it down, or leave it out.") from error
    except Exception as error:  # a damaged file may make the library raise anything; the user sees one clear error
        reason = (error.strerror if isinstance(error, OSError) else None) or str(error).split(" '")[0]
        raise RarityError(
            f"{path} cannot be read as a picture: {reason}. Expected a PNG, JPEG, WebP or another common format."
        ) from error
    return torch.from_numpy(array)[None]


def picture_files(path: Path) -> list[Path]:
    """The picture files in a folder and in its folders, sorted by name; for a file, the file itself.

    The ending of a name says whether it is a picture. Hidden files, whose name or folder begins with a dot, are left out.

    Raises
    ------
    RarityError : a folder without pictures.
    """
    if not path.is_dir():
        return [path]
    named = (file for file in path.rglob("*") if file.suffix.lower() in SUFFIXES)
    found = sorted(file for file in named if not any(part.startswith(".") for part in file.relative_to(path).parts) and file.is_file())
    if not found:
        raise RarityError(f"There are no pictures in the folder {path}. Looked for were {', '.join(sorted(SUFFIXES))}.")
    return found


def encode_picture_files(
    prior: Looks, paths: Sequence[str | os.PathLike], *, progress: Progress | None = None
) -> Embeddings:
    """Embeddings of picture files of any sizes, labelled with their names. One picture is in memory at a time.

    Parameters
    ----------
    prior : its image encoder is used.   paths : N files.   progress : called with (steps done, 2 N).

    Returns
    -------
    N embeddings, in the order of `paths`.

    Raises
    ------
    RarityError : files that cannot be read; the error comes before anything is encoded, and names the files.
    """
    problems = []
    for done, path in enumerate(paths, start=1):
        try:
            read_picture(path)
        except RarityError as error:
            problems.append(error)
        if progress:
            progress(done, 2 * len(paths))
    if problems:
        more = f"\n... and {len(problems) - NAMED:,} more." if len(problems) > NAMED else ""
        listed = "\n".join(str(problem) for problem in problems[:NAMED])
        raise RarityError(f"{len(problems):,} of {len(paths):,} files cannot be used:\n{listed}{more}")
    rows = []
    for done, path in enumerate(paths, start=1):
        rows.append(prior.encode_images(read_picture(path)))
        if progress:
            progress(len(paths) + done, 2 * len(paths))
    return replace(Embeddings.cat(rows), labels=tuple(map(str, paths)))
