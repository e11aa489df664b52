"""Low-rank additions (LoRA) to a prior's attention for a while. The model's own weights and modules stay unchanged."""

from __future__ import annotations

import math
from collections.abc import Iterator
from contextlib import contextmanager

import torch
from torch import Tensor

from ...density.base.errors import RarityError
from ...density.base.tensors import generator

TARGETS = ("to_q", "to_k", "to_v", "to_out.0")  # the matrices of the attention
_NAME = "rarity"


@contextmanager
def adapted(transformer, rank: int, seed: int = 0) -> Iterator[dict[str, torch.nn.Parameter]]:
    """Inside this context every matrix W of the attention is W + B A. Afterwards the modules are the original ones.

    Parameters
    ----------
    transformer : diffusers.PriorTransformer, without adapters.
    rank : r of A [r, in] and B [out, r].
    seed : of A. B starts at zero, so that nothing has changed yet.

    Yields
    ------
    The matrices, by the names they have in PEFT's and diffusers' files; float32, whatever the model's type.

    Raises
    ------
    RarityError : a rank that is too small or too large; a transformer that has adapters already.

    Source: Hu et al. 2021 (arXiv 2106.09685). A starts uniform, as in PEFT; the scale is 1.
    """
    from peft import LoraConfig, inject_adapter_in_model
    from peft.tuners.lora import LoraLayer

    inner = transformer.config.num_attention_heads * transformer.config.attention_head_dim
    if not 1 <= rank <= inner:
        raise RarityError(f"The rank of a LoRA for this prior must be from 1 to {inner}, got {rank}.")
    if any(isinstance(module, LoraLayer) for module in transformer.modules()):
        raise RarityError("This prior wears an adapter already. Unload it first: a concept is learnt on the plain model.")
    learnable = {id(weight): weight.requires_grad for weight in transformer.parameters()}
    config = LoraConfig(r=rank, lora_alpha=rank, target_modules=list(TARGETS))
    try:
        with torch.random.fork_rng():  # PEFT draws from the global generator, which must stay as it was
            inject_adapter_in_model(config, transformer, _NAME)
        matrices = {
            name.replace(f".{_NAME}.", "."): weight.requires_grad_(True)
            for name, weight in transformer.named_parameters()
            if f".lora_A.{_NAME}." in name or f".lora_B.{_NAME}." in name
        }
        _start(matrices, seed)
        yield matrices
    finally:
        for parent in list(transformer.modules()):
            for name, module in list(parent.named_children()):
                if isinstance(module, LoraLayer):
                    setattr(parent, name, module.base_layer)
        for weight in transformer.parameters():  # PEFT switches gradients off
            weight.requires_grad_(learnable[id(weight)])
        if hasattr(transformer, "peft_config"):  # PEFT's own list of adapters
            del transformer.peft_config


@contextmanager
def without(transformer) -> Iterator[None]:
    """Inside this context a transformer works without the additions of `adapted`."""
    from peft.tuners.lora import LoraLayer

    layers = [module for module in transformer.modules() if isinstance(module, LoraLayer)]
    for layer in layers:
        layer.enable_adapters(False)
    try:
        yield
    finally:
        for layer in layers:
            layer.enable_adapters(True)


def layout(matrices: dict[str, Tensor]) -> tuple[tuple[str, int, int], ...]:
    """(name, rows, columns) of each matrix."""
    return tuple((name, *weight.shape) for name, weight in matrices.items())


def _start(matrices: dict[str, torch.nn.Parameter], seed: int) -> None:
    draw = generator(seed)
    for name, weight in matrices.items():
        weight.data = weight.data.float()
        if ".lora_A." in name:
            bound = 1 / math.sqrt(weight.shape[1])
            weight.data.copy_(torch.empty(weight.shape).uniform_(-bound, bound, generator=draw))
        else:
            weight.data.zero_()
