"""Folders of models in the layout of diffusers or transformers: what they hold, and what is missing."""

from __future__ import annotations

import json
from pathlib import Path

from ...density.base.errors import RarityError

_PICKLES = (".bin", ".pt", ".pth", ".ckpt", ".pkl")


def weights_variant(folder: Path) -> str | None:
    """None for the usual weights of a part; "fp16" if there are only files such as model.fp16.safetensors."""
    names = [file.name for file in folder.glob("*.safetensors")]
    return "fp16" if names and all(".fp16" in name for name in names) else None


def read_json(path: Path) -> dict:
    """The object in a JSON file, or a RarityError that names the file."""
    try:
        value = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise RarityError(f"{path} cannot be read as JSON: {error}. Copy this file again.") from error
    if not isinstance(value, dict):
        raise RarityError(f"{path} must hold a JSON object, got {type(value).__name__}. Copy this file again.")
    return value


def pipeline_of(folder: Path) -> str:
    """The pipeline that a diffusers folder was made for; "" if no readable file says so."""
    try:
        return str(read_json(folder / "model_index.json").get("_class_name", ""))
    except RarityError:
        return ""


def model_folders(root: Path) -> list[Path]:
    """The folders with a config.json and .safetensors in `root`, or one level further down, by name."""
    configs = sorted([*root.glob("*/config.json"), *root.glob("*/*/config.json")])
    return [config.parent for config in configs if any(config.parent.glob("*.safetensors"))]


def missing_files(folder: Path, description: str, has_weights: bool) -> list[str]:
    """What is missing of a model's part, in words: the folder, the file that describes it, or weights as safetensors."""
    name = f"{folder.parent.name}/{folder.name}"
    if not folder.is_dir():
        return [f"{name}/"]
    problems = [] if (folder / description).is_file() else [f"{name}/{description}"]
    if has_weights and not any(folder.glob("*.safetensors")):
        pickles = sorted(file.name for file in folder.iterdir() if file.suffix in _PICKLES)
        why = f" (only {', '.join(pickles)}, a format that can run code and is never opened)" if pickles else ""
        problems.append(f"{name}/*.safetensors{why}")
    return problems
