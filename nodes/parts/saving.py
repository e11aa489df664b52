"""What this pack keeps on disk: which kind a thing is, and in which of ComfyUI's folders its file lies."""

from ...density.base.embeddings import Embeddings
from ...density.base.errors import RarityError
from ...density.estimators.gaussian import GaussianDensity
from ...density.files.store import numbered, save_density, save_embeddings, save_exposure
from ...density.novelty.exposure import ExposureMemory
from ...generators.concepts.concept import Concept
from ...generators.concepts.concept_files import save_concept
from .folders import CONCEPTS, DENSITIES, EMBEDDINGS, EXPOSURES, KINDS, digest, file_to_write, name_inside

SAVED = {
    GaussianDensity: (DENSITIES, save_density),
    Embeddings: (EMBEDDINGS, save_embeddings),
    ExposureMemory: (EXPOSURES, save_exposure),
    Concept: (CONCEPTS, save_concept),
}


def save_all(things, name):
    """Write things under a name, each in the folder of its kind; several are numbered: name_1, name_2, ...

    Parameters
    ----------
    things : list
        Densities, embeddings, memories or concepts.
    name : str
        As `file_to_write` takes it.

    Returns
    -------
    list[str], str
        Each file inside its folder, as the loaders list it; and a text for the artist.

    Raises
    ------
    RarityError
        When the list is empty, holds something else, or the name would leave the folder; and what writing raises.
    """
    if not things:
        raise RarityError("There is nothing to save: an empty list came in. Connect a density, embeddings, an exposure or a concept.")
    files, told = [], []
    for number, thing in enumerate(things, 1):
        kind, save = next((how for made, how in SAVED.items() if isinstance(thing, made)), (None, None))
        if kind is None:
            raise RarityError(f"A Rarity file holds a density, embeddings, an exposure or a concept, got {type(thing).__name__}.")
        path = numbered(file_to_write(kind, name), number, len(things))
        save(thing, path)
        files.append(name_inside(kind, path))
        told.append(f"Saved as {files[-1]} in models/{kind}")
    return files, "\n".join(told)


def check_name(name):
    """Raise RarityError where nothing can be saved under a name; the rules are the same for every kind."""
    file_to_write(DENSITIES, name)


def kept_as(name):
    """The fingerprint of Save Rarity File: it runs again where its file is gone or another, though nothing in the graph changed.

    Which kind is connected ComfyUI does not tell before it runs: the files of this name of all kinds count.
    """
    known = "".join(digest(file_to_write(kind, name)) for kind in KINDS) if name is not None else ""  # None: of a link that has no value yet
    return known or float("nan")  # which equals nothing
