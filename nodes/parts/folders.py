"""Where models and saved files lie in ComfyUI's `models` folder. Nothing is created before something is saved."""

import hashlib
import os
import re
from collections import Counter
from pathlib import Path

import folder_paths

from ...density.base.errors import RarityError
from ...density.files.store import safe_path
from ...generators.kandinsky.hub import download_kandinsky
from ...generators.kandinsky.layout import kandinsky_folders
from ...generators.kandinsky.load import MINIATURE
from ...generators.runtime.kept_baselines import check_kept, is_shard
from ...generators.runtime.model_folder import model_folders

DENSITIES, EMBEDDINGS, EXPOSURES, CONCEPTS = KINDS = (
    "rarity_densities", "rarity_embeddings", "rarity_exposures", "rarity_concepts"
)
TOKENS, LORAS = "embeddings", "loras"  # ComfyUI's own, for what other programs read
_WRITTEN, _LOST = set(), Counter()  # files, and how often each was found gone

VLMS = "LLM"  # where the packs that ask language models keep theirs

# ComfyUI gives an unknown folder type an empty extension set, which means "every file": say which ones are ours.
for kind in KINDS:
    folder_paths.add_model_folder_path(kind, str(Path(folder_paths.models_dir) / kind))
    folder_paths.folder_names_and_paths[kind] = (folder_paths.get_folder_paths(kind), {".safetensors"})
folder_paths.add_model_folder_path(VLMS, str(Path(folder_paths.models_dir) / VLMS))


def kandinsky_models():
    """List what RarityLoadKandinsky can load: the miniature, then the `kandinsky_folders` in ComfyUI's `diffusers` folders.

    Returns
    -------
    dict[str, str | Path]
        Name in the menu -> what `load_kandinsky` takes.
    """
    found = {MINIATURE: MINIATURE}
    for root in folder_paths.get_folder_paths("diffusers"):
        for folder in kandinsky_folders(root):
            found.setdefault(folder.name, folder)
    return found


def kandinsky_model(name, repository=""):
    """The folders that `load_kandinsky` takes for a name of the menu, or for a repository of the Hugging Face Hub.

    Parameters
    ----------
    name : str
        An entry of the menu; it does not matter when there is a repository.
    repository : str
        Such as "kandinsky-community/kandinsky-2-2-prior": downloaded unless it is there. Empty: the network is left alone.

    Returns
    -------
    tuple[str | Path, Path | None]
        The folder of the prior or of the whole model, and that of the decoder where it is known.

    Raises
    ------
    RarityError
        When nothing of that name is there, as in a workflow from somebody else: ComfyUI does not check this menu itself.
    """
    if repository.strip():
        return download_kandinsky(repository)
    models = kandinsky_models()
    if name not in models:
        raise RarityError(
            f"There is no Kandinsky model {name!r} here. Found: {', '.join(models)}. "
            "Choose one of these, or put the model's folder into ComfyUI's models/diffusers."
        )
    return models[name], None


def clip_checkpoints():
    """List the .safetensors files in ComfyUI's `clip_vision` folders, for RarityLoadOpenCLIP."""
    return [name for name in folder_paths.get_filename_list("clip_vision") if name.endswith(".safetensors")]


def clip_checkpoint(name):
    """The file of a name that `clip_checkpoints` lists.

    Raises
    ------
    RarityError
        When nothing of that name is listed, which no name outside the folders is.
    """
    names = clip_checkpoints()
    if name not in names:
        raise RarityError(
            f"There is no checkpoint {name!r} in ComfyUI's models/clip_vision. Found: {', '.join(names) or 'none'}. "
            "Put the .safetensors file of OpenCLIP there; other formats can run code and are never opened."
        )
    return folder_paths.get_full_path("clip_vision", name)


def judges():
    """List the vision-language models in ComfyUI's `LLM` folders, for RarityLoadJudge: the `model_folders` there.

    Returns
    -------
    dict[str, Path]
        Name in the menu -> folder.
    """
    found = {}
    for root in map(Path, folder_paths.get_folder_paths(VLMS)):
        for folder in model_folders(root):
            found.setdefault(folder.relative_to(root).as_posix(), folder)
    return found


def judge_folder(name):
    """The folder of a name that `judges` lists.

    Raises
    ------
    RarityError
        When nothing of that name is listed, which no name outside the folders is.
    """
    known = judges()
    if name not in known:
        raise RarityError(
            f"There is no vision-language model {name!r} here. Found: {', '.join(known) or 'none'}. Put the model's folder, with its "
            "config.json and .safetensors, into ComfyUI's models/LLM; other formats can run code and are never opened."
        )
    return known[name]


def saved_names(kind):
    """List what is saved of a kind (one of KINDS), as ComfyUI shows it in a menu."""
    return folder_paths.get_filename_list(kind)


def baseline_names():
    """List the saved embeddings for a menu: files, and each baseline that was kept while it was drawn under its one name."""
    names = (name.replace(os.sep, "/") for name in saved_names(EMBEDDINGS))
    return sorted({name.rpartition("/")[0] if is_shard(name) else name for name in names})


def baseline_to_read(name):
    """The files of a name that `baseline_names` lists: those of a kept baseline, in order, or the one that was saved.

    Raises
    ------
    RarityError
        When the name would leave the folder.
    """
    file = file_to_read(EMBEDDINGS, name)
    shards = [] if file.is_file() else sorted(path for path in file.with_suffix("").glob("*.safetensors") if is_shard(str(path)))
    return shards or [file]


def file_to_write(kind, name):
    """The file something of this kind and name is saved to, in the first of ComfyUI's folders of this kind.

    Raises
    ------
    RarityError
        When the name would leave the folder.
    """
    return safe_path(folder_paths.get_folder_paths(kind)[0], name)


def file_to_read(kind, name):
    """The saved file of this kind and name: in the first of ComfyUI's folders that has it, else the first folder's.

    Raises
    ------
    RarityError
        When the name would leave the folder.
    """
    # An empty menu gives None; and ComfyUI lists files of subfolders with the system's own separator.
    name = str(name or "").replace(os.sep, "/")
    paths = [safe_path(folder, name) for folder in folder_paths.get_folder_paths(kind)]
    return next((path for path in paths if path.is_file()), paths[0])


def files_in(kind, folder):
    """The saved files of this kind in a folder inside ComfyUI's folders, in the order of their names; none for no name.

    Raises
    ------
    RarityError
        When the name would leave the folder, or nothing is saved there.
    """
    if not folder or not folder.strip():  # of a link that has no value yet ComfyUI gives None
        return []
    roots = [safe_path(root, folder, suffix="") for root in folder_paths.get_folder_paths(kind)]
    found = sorted(path for root in roots for path in root.glob("*.safetensors"))
    if not found:
        raise RarityError(
            f"There is no saved file in the folder {folder!r} of models/{kind}. A save node puts one there under a name such as "
            f'"{folder}/1".'
        )
    return found


def name_inside(kind, path):
    """The name of a file that `file_to_write` gave, inside its folder."""
    return path.relative_to(Path(folder_paths.get_folder_paths(kind)[0]).resolve()).as_posix()


def file_to_keep(kind, name):
    """The file that something of this kind is kept in while it is made; None for an empty name. Raises as file_to_write."""
    return file_to_write(kind, name) if name.strip() else None


def folder_to_keep(name):
    """The folder that a baseline of this name is kept in, beside the saved embeddings; None for an empty name.

    Raises
    ------
    RarityError
        When the name would leave the folder.
    """
    return safe_path(folder_paths.get_folder_paths(EMBEDDINGS)[0], name, suffix="") if name.strip() else None


def check_kept_as(name, prompt, negative_prompt):
    """Check a name that samples of a prompt are to be kept under.

    Raises
    ------
    RarityError
        When the name would leave the folder, or samples of another prompt are kept under it.
    """
    check_kept(folder_to_keep(name), {"prompt": prompt, "negative_prompt": negative_prompt})


def digests(paths):
    """The digest of several files with their names: another one when a file is added, changed or gone."""
    return "\n".join(f"{digest(path)} {path}" for path in paths)


def digest(path):
    """SHA-256 of a file's bytes, or "" when there is none: the node runs again exactly when the file changes."""
    if not path.is_file():
        return ""
    content = hashlib.sha256()
    with path.open("rb") as file:
        while piece := file.read(2**20):  # in pieces: somebody else's file may be of any size
            content.update(piece)
    return content.hexdigest()


def written(path):
    """Take note of a file that a slow node has written."""
    _WRITTEN.add(path)


def times_lost(path):
    """Count how often a file that `written` has heard of was found gone: the slow node writes it again, and only then."""
    if path in _WRITTEN and not path.is_file():
        _WRITTEN.discard(path)
        _LOST[path] += 1
    return _LOST[path]


def embeddings_in(text):
    """The digests of the files that a text names as `embedding:NAME`, as ComfyUI's text encoders find them.

    Returns
    -------
    list[str]
        "" for a name that no file has.
    """
    names = re.findall(r"embedding:([^\s,\[\](){}<>]+)", text)
    paths = ([folder_paths.get_full_path(TOKENS, name + suffix) for suffix in ("", ".safetensors", ".pt", ".bin")] for name in names)
    return ["".join(digest(Path(path)) for path in found if path) for found in paths]
