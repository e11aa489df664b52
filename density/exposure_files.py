"""Exposure memories on disk, in the format of `files`: checked before anything is believed."""

from __future__ import annotations

import os
from pathlib import Path

from . import files
from .exposure import ExposureMemory

files.KINDS["exposure"] = (
    1 << 30,
    {"vectors": ("F32", 2), "weights": ("F64", 1), "mean": ("F64", 1), "scatter": ("F64", 2), "labels": ("U8", 1)},
)


def save_exposure(memory: ExposureMemory, path: str | os.PathLike) -> None:
    """Write a memory to `path`; an existing file is replaced in one step, or left as it was.

    Raises
    ------
    RarityError : the file cannot be written.
    """
    files._write(Path(path), "exposure", *memory.state())


def load_exposure(path: str | os.PathLike) -> ExposureMemory:
    """Read a memory that `save_exposure` wrote.

    Raises
    ------
    RarityError : no such file; truncated, damaged, oversized, foreign, of another kind or of a newer format.
    """
    _, fields, tensors = files._read(Path(path), "exposure")
    return ExposureMemory.from_state(fields, tensors)
