"""Save and load learned concepts. Importing this module tells `density.files` how to make a concept from its file."""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path

from ...density.base.errors import RarityError
from ...density.files import container
from ...density.files.store import BUILDERS, numbered
from .concept import Concept

BUILDERS["concept"] = Concept.from_state


def save_concept(concept: Concept, path: str | os.PathLike) -> None:
    """Write a concept with all its checkpoints to `path`; an existing file is replaced in one step, or left as it was."""
    container.write(Path(path), "concept", *concept.state())


def save_concepts(concepts: Sequence[Concept], path: str | os.PathLike) -> str:
    """Write concepts as `save_concept` does, numbered if there are several; returns a text with the names of the files.

    Raises
    ------
    RarityError : as `save_concept`; an empty list.
    """
    if not concepts:
        raise RarityError("There is no concept to save: an empty list came in. Connect what Make Rare: Concept or Load Concept gives.")
    paths = [numbered(path, number, len(concepts)) for number in range(1, len(concepts) + 1)]
    for concept, place in zip(concepts, paths, strict=True):
        save_concept(concept, place)
    return f"Saved as {', '.join(place.name for place in paths)}"


def load_concept(path: str | os.PathLike) -> Concept:
    """Read a concept that `save_concept` wrote. Raises as `load_density`."""
    return Concept.from_state(*container.read(Path(path), "concept")[1:])
