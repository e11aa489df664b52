"""A learned concept for other programs: the token as a textual inversion, the LoRA as diffusers and PEFT keep them."""

from __future__ import annotations

import os
from pathlib import Path

import safetensors.torch

from ..density.concept import Concept
from ..density.container import put
from ..density.errors import RarityError


def export_token(concept: Concept, path: str | os.PathLike, name: str, checkpoint: int = -1) -> None:
    """Write the learnt word as a textual inversion file: one vector, named as it will be written in prompts.

    Parameters
    ----------
    path : ends in .safetensors.   name : such as "<rare-handbag>": one word that the tokenizer does not know yet.

    Raises
    ------
    RarityError : a concept without a token, a name with spaces or none, no such checkpoint, a file that cannot be written.
    """
    token = concept.token(checkpoint)
    if token is None:
        raise RarityError("This concept is a LoRA alone and has no token to export. Export its LoRA.")
    if not name or name.split() != [name]:
        raise RarityError(f'The name of a token must be one word, such as "<rare-handbag>", got {name!r}.')
    put(Path(path), safetensors.torch.save({name: token.contiguous()}, {"format": "pt"}))


def export_lora(concept: Concept, path: str | os.PathLike, checkpoint: int = -1) -> None:
    """Write the LoRA as `PriorTransformer.save_lora_adapter` of diffusers does; its scale is 1 (alpha = rank).

    Parameters
    ----------
    path : ends in .safetensors; `load_lora_adapter(folder, prefix=None, weight_name=...)` reads it.

    Raises
    ------
    RarityError : a concept without a LoRA, no such checkpoint, a file that cannot be written.
    """
    lora = concept.lora(checkpoint)
    if not lora:
        raise RarityError("This concept is a token alone and has no LoRA to export. Export its token.")
    put(Path(path), safetensors.torch.save({name: matrix.contiguous() for name, matrix in lora.items()}, {"format": "pt"}))
