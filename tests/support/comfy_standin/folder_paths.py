"""Stand-in for `folder_paths`: model folders by type, and the files in them."""

import os
import tempfile

# A fresh folder that does not exist: nothing may be made in it before something is saved.
base_path = os.path.join(tempfile.gettempdir(), f"rarity-standin-{os.getpid()}")
models_dir = os.path.join(base_path, "models")
folder_names_and_paths = {
    "diffusers": ([os.path.join(models_dir, "diffusers")], ["folder"]),
    "embeddings": ([os.path.join(models_dir, "embeddings")], {".safetensors", ".bin", ".pt", ".ckpt"}),
    "loras": ([os.path.join(models_dir, "loras")], {".safetensors", ".bin", ".pt", ".ckpt"}),
    "clip_vision": ([os.path.join(models_dir, "clip_vision")], {".safetensors", ".bin", ".pt", ".ckpt"}),
}


def add_model_folder_path(folder_name, full_folder_path, is_default=False):
    paths, _ = folder_names_and_paths.setdefault(folder_name, ([], set()))
    if full_folder_path not in paths:
        paths.insert(0 if is_default else len(paths), full_folder_path)


def get_folder_paths(folder_name):
    return folder_names_and_paths[folder_name][0][:]


def get_full_path(folder_name, filename):
    paths = (os.path.join(root, os.path.relpath(os.path.join("/", filename), "/")) for root in get_folder_paths(folder_name))
    return next(filter(os.path.isfile, paths), None)


def get_filename_list(folder_name):
    paths, extensions = folder_names_and_paths[folder_name]
    names = (os.path.relpath(os.path.join(folder, name), root)
             for root in paths for folder, _, names in os.walk(root) for name in names)
    return sorted({name for name in names if not extensions or os.path.splitext(name)[1].lower() in extensions})


def get_input_directory():
    return os.path.join(base_path, "input")
