"""Models of diffusers and transformers from local safetensors: no pickle, no code of theirs, one readable error."""

from __future__ import annotations

from pathlib import Path

from ..density.errors import RarityError
from .kandinsky_folder import weights_variant


def load_model(model_class, folder: Path, **options):
    """A model of diffusers or transformers on the CPU, with every weight found in the file."""
    from transformers.utils import logging as bars

    shown = bars.is_progress_bar_enabled()
    bars.disable_progress_bar()
    try:
        model, info = model_class.from_pretrained(
            str(folder),
            local_files_only=True,
            use_safetensors=True,
            output_loading_info=True,
            variant=weights_variant(folder),
            **options,
        )
    except Exception as error:  # whatever a damaged file makes of the two libraries, the user sees one clear error
        raise RarityError(
            f"{folder} cannot be read as {model_class.__name__}: {error} Copy this model's folder again."
        ) from error
    finally:
        if shown:
            bars.enable_progress_bar()
    missing = sorted(info.get("missing_keys", ()))
    if missing:
        raise RarityError(
            f"The weights in {folder} lack {len(missing)} of the tensors of {model_class.__name__} "
            f"(first: {missing[0]}). Copy this model's folder again."
        )
    return model
