"""Where models and saved files lie in ComfyUI's `models` folder. Nothing is created before something is saved."""

import hashlib
import os
import re
from collections import Counter
from pathlib import Path

import folder_paths

from ...density.base.errors import RarityError, quoted
from ...density.files.store import safe_path
from ...generators.kandinsky.hub import download_kandinsky, find_repository
from ...generators.kandinsky.layout import kandinsky_folders
from ...generators.kandinsky.load import BUILT_IN, embedding_width
from ...generators.runtime.kept_baselines import check_kept, is_shard
from ...generators.runtime.model_folder import model_folders

DENSITIES, EMBEDDINGS, EXPOSURES, CONCEPTS = KINDS = (
    "rarity_densities", "rarity_embeddings", "rarity_exposures", "rarity_concepts"
)
STRENGTHS = "rarity_strengths"  # what Seed Variety has measured
TOKENS, LORAS = "embeddings", "loras"  # ComfyUI's own folders, for files that other programs read
_WRITTEN, _LOST = set(), Counter()  # files that slow nodes have written; how often each file was found gone

VLMS = "LLM"  # the folder in which other packs keep their language models

# ComfyUI gives an unknown folder type an empty set of extensions, which means "every file". So the extension is named.
for kind in (*KINDS, STRENGTHS):
    folder_paths.add_model_folder_path(kind, str(Path(folder_paths.models_dir) / kind))
    folder_paths.folder_names_and_paths[kind] = (folder_paths.get_folder_paths(kind), {".safetensors"})
folder_paths.add_model_folder_path(VLMS, str(Path(folder_paths.models_dir) / VLMS))


def kandinsky_models():
    """List what RarityLoadKandinsky can load: the built-in models, then the `kandinsky_folders` in ComfyUI's `diffusers` folders.

    Returns
    -------
    dict[str, str | Path]
        Name in the menu -> what `load_kandinsky` takes.
    """
    found = {name: name for name in BUILT_IN}
    for root in folder_paths.get_folder_paths("diffusers"):
        for folder in kandinsky_folders(root):
            found.setdefault(folder.name, folder)
    return found


def kandinsky_model(name, repository=""):
    """Find the folders that `load_kandinsky` takes, for a name of the menu or for a repository of the Hugging Face Hub.

    Parameters
    ----------
    name : str
        An entry of the menu. It is not used when there is a repository.
    repository : str
        Such as "kandinsky-community/kandinsky-2-2-prior"; it is downloaded unless it is there. If empty, nothing is downloaded.

    Returns
    -------
    tuple[str | Path, Path | None]
        The folder of the prior or of the whole model, and the folder of the decoder if it is known.

    Raises
    ------
    RarityError
        When no model has that name, as in a workflow from somebody else. ComfyUI 0.3.64 does not check its menus.
    """
    check_kandinsky(name, repository)
    return download_kandinsky(repository) if repository.strip() else (kandinsky_models()[name], None)


def check_kandinsky(name, repository):
    """Check what `kandinsky_model` takes, and download nothing.

    Raises
    ------
    RarityError
        When no model has that name, or no repository.
    """
    if repository.strip():
        return find_repository(repository)
    models = kandinsky_models()
    if name not in models:
        raise RarityError(
            f"There is no Kandinsky model {quoted(name)} here. Found: {', '.join(models)}. "
            "Choose one of these in model, or put that model's folder into ComfyUI's models/diffusers."
        )


def kandinsky_width(name):
    """The width of a model's embeddings, as its files say. None without a name, or if no model of that name says it."""
    model = kandinsky_models().get(name)
    return model and embedding_width(model)


def clip_checkpoints():
    """List the .safetensors files in ComfyUI's `clip_vision` folders, for RarityLoadOpenCLIP."""
    return [name for name in folder_paths.get_filename_list("clip_vision") if name.endswith(".safetensors")]


def clip_checkpoint(name):
    """Find the file of a name that `clip_checkpoints` lists.

    Raises
    ------
    RarityError
        When the name is not listed. Names outside the folders are never listed.
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
    """Find the folder of a name that `judges` lists.

    Raises
    ------
    RarityError
        When the name is not listed. Names outside the folders are never listed.
    """
    known = judges()
    if name not in known:
        raise RarityError(
            f"There is no vision-language model {name!r} here. Found: {', '.join(known) or 'none'}. Put the model's folder, with its "
            "config.json and .safetensors, into ComfyUI's models/LLM; other formats can run code and are never opened."
        )
    return known[name]


def saved_names(kind):
    """List the saved files of a kind (one of KINDS), as ComfyUI shows them in a menu."""
    return folder_paths.get_filename_list(kind)


def baseline_names():
    """List the saved embeddings for a menu. A baseline that was kept while it was drawn is one name, however many files it has."""
    names = (name.replace(os.sep, "/") for name in saved_names(EMBEDDINGS))
    return sorted({name.rpartition("/")[0] if is_shard(name) else name for name in names})


def baseline_to_read(name):
    """Find the files of a name that `baseline_names` lists: the files of a kept baseline, in order, or the one saved file.

    Raises
    ------
    RarityError
        When the name would leave the folder.
    """
    file = file_to_read(EMBEDDINGS, name)
    shards = [] if file.is_file() else sorted(path for path in file.with_suffix("").glob("*.safetensors") if is_shard(str(path)))
    return shards or [file]


def file_to_write(kind, name):
    """Name the file that an object of this kind and name is saved to, in the first of ComfyUI's folders of this kind.

    Raises
    ------
    RarityError
        When the name would leave the folder.
    """
    return safe_path(folder_paths.get_folder_paths(kind)[0], name)


def file_to_read(kind, name):
    """Find the saved file of this kind and name, in the first of ComfyUI's folders that has it.

    If no folder has the file, the result is its path in the first folder.

    Raises
    ------
    RarityError
        When the name would leave the folder.
    """
    # An empty menu gives None. ComfyUI lists files of subfolders with the system's own separator.
    name = str(name or "").replace(os.sep, "/")
    paths = [safe_path(folder, name) for folder in folder_paths.get_folder_paths(kind)]
    return next((path for path in paths if path.is_file()), paths[0])


def files_in(kind, folder):
    """List the saved files of this kind in a folder inside ComfyUI's folders, in the order of their names; none for an empty name.

    Raises
    ------
    RarityError
        When the name would leave the folder, or nothing is saved there.
    """
    if not folder or not folder.strip():  # ComfyUI gives None for a link that has no value yet
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
    """Name the file that an object of this kind is kept in while it is made; None for an empty name. Raises as file_to_write."""
    return file_to_write(kind, name) if name.strip() else None


def folder_to_keep(name):
    """Name the folder that a baseline is kept in, beside the saved embeddings; None for an empty name.

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
    """The digest of several files with their names; "" of no files. It changes when a file is added, changed or gone."""
    return digest_of_lines(f"{digest(path)} {path}" for path in paths)


def digest_of_lines(lines):
    """SHA-256 of texts. ComfyUI writes what a node was fingerprinted by into every saved picture: paths must not be read there."""
    text = "\n".join(lines)
    return text and hashlib.sha256(text.encode("utf-8", "surrogatepass")).hexdigest()


def digest(path):
    """SHA-256 of a file's bytes, or "" when there is no file. With it a node runs again exactly when the file changes."""
    if not path.is_file():
        return ""
    content = hashlib.sha256()
    with path.open("rb") as file:
        while piece := file.read(2**20):  # in pieces, because somebody else's file may be of any size
            content.update(piece)
    return content.hexdigest()


def written(path):
    """Take note of a file that a slow node has written."""
    _WRITTEN.add(path)


def times_lost(path):
    """Count how often a file that `written` noted was found gone. The slow node runs again only when the count changes."""
    if path in _WRITTEN and not path.is_file():
        _WRITTEN.discard(path)
        _LOST[path] += 1
    return _LOST[path]


def embeddings_in(text):
    """List the digests of the files that a text names as `embedding:NAME`, as ComfyUI's text encoders find them.

    Returns
    -------
    list[str]
        One digest for each name; "" for a name that no file has.
    """
    names = re.findall(r"embedding:([^\s,\[\](){}<>]+)", text)
    paths = ([folder_paths.get_full_path(TOKENS, name + suffix) for suffix in ("", ".safetensors", ".pt", ".bin")] for name in names)
    return ["".join(digest(Path(path)) for path in found if path) for found in paths]
