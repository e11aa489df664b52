"""Files for other programs, with a mark of this pack. In folders with other people's work only marked files are replaced."""

from __future__ import annotations

from pathlib import Path

import safetensors.torch
from torch import Tensor

from ...density.base.errors import RarityError
from ...density.files.container import put

_HEAD = {"format": "pt", "rarity": "exported concept"}


def put_ours(path: Path, tensors: dict[str, Tensor], told: dict[str, str] | None = None) -> None:
    """Write tensors for other programs, with the mark that allows `check_ours` to replace the file later.

    told : more metadata of the file, for programs that show it.
    """
    head = (told or {}) | _HEAD
    put(path, safetensors.torch.save({name: tensor.contiguous() for name, tensor in tensors.items()}, head))


def check_ours(path: Path) -> None:
    """Raise a RarityError if a file without the mark is there. These folders hold other people's work."""
    if not path.exists():
        return
    try:
        with safetensors.safe_open(path, "pt") as file:
            ours = (file.metadata() or {}).get("rarity") == _HEAD["rarity"]
    except (OSError, safetensors.SafetensorError):
        ours = False
    if not ours:
        raise RarityError(f"{path} is there already and was not exported by Rarity. Choose another name.")
