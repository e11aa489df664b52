"""Models of diffusers and transformers from local safetensors: no pickle, no code from the model, one readable error."""

from __future__ import annotations

import importlib
import re
from pathlib import Path

import torch

from ...density.base.errors import RarityError
from .model_folder import weights_variant

DTYPE_SINCE = {"diffusers": (0, 40), "transformers": (4, 56)}  # from these releases on the option is called dtype, before them torch_dtype


def load_model(model_class, folder: Path, dtype: torch.dtype | None = None, **options):
    """A model of diffusers or transformers on the CPU. All its weights must be in the file.

    dtype : of the weights; None leaves the choice to the library.   options : of the library's from_pretrained.
    """
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
            **({} if dtype is None else dtype_option(model_class, dtype)),
            **options,
        )
    except Exception as error:  # a damaged file may make the two libraries raise anything; the user sees one clear error
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


def dtype_option(loaded_class, dtype: torch.dtype) -> dict[str, torch.dtype]:
    """The type of the weights as an option of from_pretrained, under the name that the installed release uses."""
    library = loaded_class.__module__.partition(".")[0]
    release = tuple(map(int, re.findall(r"\d+", importlib.import_module(library).__version__)[:2]))
    return {"dtype" if release >= DTYPE_SINCE[library] else "torch_dtype": dtype}
