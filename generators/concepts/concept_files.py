"""Save and load learned concepts. Importing this module tells `density.files` how to make a concept from its file."""

from __future__ import annotations

import os
from pathlib import Path

from ...density.files import container
from ...density.files.store import BUILDERS
from .concept import Concept

BUILDERS["concept"] = Concept.from_state


def save_concept(concept: Concept, path: str | os.PathLike) -> None:
    """Write a concept with all its checkpoints to `path`; an existing file is replaced in one step, or left as it was."""
    container.write(Path(path), "concept", *concept.state())


def load_concept(path: str | os.PathLike) -> Concept:
    """Read a concept that `save_concept` wrote. Raises as `load_density`."""
    return Concept.from_state(*container.read(Path(path), "concept")[1:])
