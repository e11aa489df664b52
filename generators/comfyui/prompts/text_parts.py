"""The tensors of a CONDITIONING entry that are made of its text: the tokens, and what further text encoders add."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import torch
from torch import Tensor

from ....density.base.tensors import ordinary

POOLED, TOKENS = "pooled_output", "conditioning"
# ComfyUI's names; the attention mask of conditioning_x is attention_mask_x.
FURTHER = (POOLED, "conditioning_llama3", "conditioning_byt5small", "conditioning_mt5xl")
MASK = "attention_mask"


@dataclass(frozen=True, eq=False)
class TextPart:
    """One tensor of a text.

    Attributes
    ----------
    name : TOKENS, or the key of the entry's options that holds it.   tensor : [1, ..., D] as it was given.
    rows : [g, T, D] float32; a pooled vector is one row, and a tensor of several layers has g of them.
    spoken : [T] bool. The other rows are padding: the attention mask leaves them out, or they are zero.
    """

    name: str
    tensor: Tensor
    rows: Tensor
    spoken: Tensor

    @classmethod
    def of(cls, name: str, tensor: Tensor, mask) -> TextPart:
        rows = ordinary(tensor[0], torch.float32)
        rows = rows.reshape(-1, rows.shape[-2], rows.shape[-1]) if rows.dim() > 1 else rows[None, None]
        spoken = (rows != 0).any(dim=2).any(dim=0)
        if isinstance(mask, Tensor) and mask.numel() == len(spoken):
            spoken = spoken & (mask.reshape(-1).cpu() > 0)
        return cls(name, tensor, rows, spoken)


def text_parts(tokens: Tensor, options: dict) -> Iterator[TextPart]:
    """The parts of an entry [tokens [1, T, D], options]: its tokens, and all further tensors of one text."""
    yield TextPart.of(TOKENS, tokens, options.get(MASK))
    for name in FURTHER:
        value = options.get(name)
        if isinstance(value, Tensor) and value.dim() > 1 and len(value) == 1 and value.is_floating_point():
            yield TextPart.of(name, value, options.get(name.replace(TOKENS, MASK)))
