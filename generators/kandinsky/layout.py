"""Find the parts of a Kandinsky 2.1 or 2.2 on disk, and name those that are missing."""

from __future__ import annotations

import re
from pathlib import Path

from ...density.base.errors import RarityError
from ..runtime.model_folder import missing_files, pipeline_of, read_json

# part -> (file that describes it, does it have weights?)
_PRIOR_PARTS = {
    "prior": ("config.json", True),
    "text_encoder": ("config.json", True),
    "tokenizer": ("tokenizer_config.json", False),
    "image_encoder": ("config.json", True),
    "image_processor": ("preprocessor_config.json", False),
    "prior_scheduler": ("scheduler_config.json", False),
}
_DECODER_PARTS = {
    "unet": ("config.json", True),
    "movq": ("config.json", True),
    "scheduler": ("scheduler_config.json", False),
}
# Only for Kandinsky 2.1: its decoder reads the prompt, too, with its own text encoder.
_DECODER_TEXT = {
    "decoder_text_encoder": ("config.json", True),
    "decoder_tokenizer": ("tokenizer_config.json", False),
}


_WITH_PRIOR = (
    "KandinskyV22PriorPipeline",
    "KandinskyV22CombinedPipeline",
    "KandinskyPriorPipeline",
    "KandinskyCombinedPipeline",
)


def kandinsky_folders(root: str | Path) -> list[Path]:
    """The folders in `root` that hold a Kandinsky 2.1 or 2.2 prior, themselves or in their `prior/`, by name.

    The decoder may lie beside or inside such a folder: `find_parts` finds it, and names what is missing.
    """
    folders = sorted(Path(root).iterdir()) if Path(root).is_dir() else []
    return [folder for folder in folders if {pipeline_of(folder), pipeline_of(folder / "prior")} & set(_WITH_PRIOR)]


def find_parts(folder: str | Path, decoder: str | Path | None = None) -> dict[str, Path]:
    """The folder of each part of a Kandinsky.

    Parameters
    ----------
    folder, decoder : as in `load_kandinsky`.

    Returns
    -------
    part name -> folder, for prior, text_encoder, tokenizer, image_encoder, image_processor, prior_scheduler, unet, movq
    and scheduler; also for decoder_text_encoder and decoder_tokenizer if the U-Net is that of a Kandinsky 2.1.

    Raises
    ------
    RarityError : the folder does not exist, or parts are missing or not safetensors; the error names all of them.
    """
    prior_root, decoder_root = _roots(Path(folder), None if decoder is None else Path(decoder))
    wanted = _PRIOR_PARTS | _DECODER_PARTS
    parts = {part: _part_folder(prior_root, part) for part in _PRIOR_PARTS}
    parts |= {part: decoder_root / part for part in _DECODER_PARTS}
    if (parts["unet"] / "config.json").is_file() and reads_text(read_json(parts["unet"] / "config.json")):
        wanted |= _DECODER_TEXT
        parts |= {part: decoder_root / part.removeprefix("decoder_") for part in _DECODER_TEXT}
    problems = []
    for part, (description, has_weights) in wanted.items():
        problems += missing_files(parts[part], description, has_weights)
    if problems:
        raise RarityError(
            f"{folder} is not a whole Kandinsky 2.1 or 2.2 model. Missing: {'; '.join(problems)}. Expected the "
            "diffusers layout, as the repositories kandinsky-2-2-prior and kandinsky-2-2-decoder (or "
            "kandinsky-2-1-prior and kandinsky-2-1) have it; copy or download them again."
        )
    return parts


def reads_text(unet_config: dict) -> bool:
    """Whether a U-Net takes the prompt beside the image embedding, as that of Kandinsky 2.1 does."""
    return unet_config.get("encoder_hid_dim_type") == "text_image_proj"


def decoder_names(name: str) -> list[str]:
    """The names that the decoder of a prior may have. Priors: kandinsky-2-2-prior, kandinsky-2-1-prior."""
    found = [name.replace("prior", "decoder"), re.sub("[-_ ]?prior", "", name)] if "prior" in name else []
    return [other for other in found if other]


def prior_names(name: str) -> list[str]:
    """The names that the prior of a decoder may have. Decoders: kandinsky-2-2-decoder, kandinsky-2-1."""
    if "decoder" in name:
        return [name.replace("decoder", "prior")]
    return [f"{name}-prior", f"{name}_prior"]


def _roots(folder: Path, decoder: Path | None) -> tuple[Path, Path]:
    for path in filter(None, (folder, decoder)):
        if not path.is_dir():
            raise RarityError(f"There is no model folder {path}. Give a folder in the diffusers layout.")
    if decoder is not None:
        return folder, decoder
    if (folder / "prior").is_dir() and (folder / "decoder").is_dir():
        return folder / "prior", folder / "decoder"
    # As downloaded from the Hub: two folders side by side, whose names differ in one word.
    if not (folder / "unet").is_dir():
        for sibling in map(folder.with_name, decoder_names(folder.name)):
            if sibling.is_dir():
                return folder, sibling
    if not any((folder / part).is_dir() for part in ("prior", "prior_prior")):
        for sibling in map(folder.with_name, prior_names(folder.name)):
            if sibling.is_dir():
                return sibling, folder
    return folder, folder


def _part_folder(root: Path, part: str) -> Path:
    """The folder of a prior's part. In a combined folder diffusers gives it a prefix (prior_tokenizer/)."""
    bare = part.removeprefix("prior_")
    prefixed = root / f"prior_{bare}"
    return prefixed if prefixed.is_dir() else root / bare
