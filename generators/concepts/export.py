"""Export a concept for other programs: its token as a textual inversion, its LoRA as diffusers and PEFT store it."""

from __future__ import annotations

import json
import os
from collections.abc import Sequence
from pathlib import Path

from ...density.base.errors import RarityError
from ...density.files.store import numbered
from ..runtime.exported import check_ours, put_ours
from .concept import Concept

NOT_IN_COMFYUI = "ComfyUI's LoRA loaders cannot use it: none of their models has Kandinsky's prior."


def export_token(concept: Concept, path: str | os.PathLike, name: str, checkpoint: int = -1) -> None:
    """Write the learnt word as a textual inversion file: one vector, under the name that prompts will use.

    Parameters
    ----------
    path : ends in .safetensors.   name : such as "<rare-handbag>": one word that the tokenizer does not know yet.

    Raises
    ------
    RarityError : a concept without a token, a name that is empty or has spaces, no such checkpoint, a file that cannot
        be written.
    """
    token = concept.token(checkpoint)
    if token is None:
        raise RarityError("This concept is a LoRA alone and has no token to export. Export its LoRA.")
    _check_name(name)
    told = f"A word learnt for the text encoder of a Kandinsky's prior, in place of {concept.word!r} in {concept.prompt!r}."
    put_ours(Path(path), {name: token}, _told(concept, "textual inversion", told))


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
    told = (
        f"A LoRA of a Kandinsky's prior, learnt for {concept.prompt!r}. diffusers 0.32 or newer loads it: "
        f"pipeline.prior.load_lora_adapter(folder, prefix=None, weight_name={Path(path).name!r}). {NOT_IN_COMFYUI}"
    )
    put_ours(Path(path), lora, _told(concept, "lora", told))


def export_concepts(
    concepts: Sequence[Concept], token_path: str | os.PathLike, lora_path: str | os.PathLike, checkpoint: int = -1
) -> str:
    """Write each concept's token to one path and its LoRA to another, if it has them; several are numbered from 1.

    Parameters
    ----------
    token_path : the token is named after the file: "rare-r.safetensors" holds "<rare-r>".   lora_path : for the LoRA.

    Returns
    -------
    A text that says what was written.

    Raises
    ------
    RarityError : as `export_token` and `export_lora`; no concept; a file of one of these names that another program
        made. Nothing is written then.
    """
    if not concepts:
        raise RarityError("There is no concept to export: an empty list came in. Connect what Make Rare: Concept or Load Concept gives.")
    jobs, notes = [], []
    for number, concept in enumerate(concepts, start=1):
        token, lora = (numbered(path, number, len(concepts)) for path in (token_path, lora_path))
        index = concept.index(checkpoint)
        if concept.word:
            name = f"<{token.stem}>"
            _check_name(name)
            jobs.append((token, lambda c=concept, p=token, n=name, k=index: export_token(c, p, n, k), f"the token {name}"))
        if concept.layout:
            jobs.append((lora, lambda c=concept, p=lora, k=index: export_lora(c, p, k), "the LoRA"))
            notes = [f"Of the LoRA: diffusers loads it, and Sample Concept draws with the concept itself. {NOT_IN_COMFYUI}"]
    for path, _, _ in jobs:
        check_ours(path)
    for _, write, _ in jobs:
        write()
    return "\n".join([*(f"Saved {what} as {path.parent.name}/{path.name}" for path, _, what in jobs), *notes])


def _told(concept: Concept, kind: str, text: str) -> dict[str, str]:
    """The metadata of a file, under the names that LoRA managers read: which model it fits, and what loads it.

    The names are those of Stability AI's Model Metadata Standard.
    """
    space = concept.space
    return {
        "modelspec.architecture": f"kandinsky-prior/{kind}",
        "modelspec.description": f"{text} It fits the model whose image encoder is {space}, and no other.",
        "rarity.space": json.dumps(space.to_dict()),
    }


def _check_name(name: str) -> None:
    if not name or name.split() != [name]:
        raise RarityError(f'The name of a token must be one word, such as "<rare-handbag>", got {name!r}.')
