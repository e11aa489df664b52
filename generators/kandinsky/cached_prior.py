"""Kandinsky's prior with a memory: everything that is the same for all samples is computed once.

diffusers' PriorTransformer reads, in this order: the tokens of a text, the text's embedding, the time, the noisy embedding,
and a readout, which becomes the prediction. Attention is causal: no token sees a later one. Therefore

* the text's tokens and embedding are the same for every step and every sample. Their keys and values are kept. Padded
  tokens, which no other token sees, are left out;
* the time sees only the text. All times of a chain are read together with the text, one row for each;
* two tokens are left for each sample instead of 81. The prediction is the same up to rounding.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from functools import partial

import torch
import torch.nn.functional as F
from torch import Tensor

from ...density.base.errors import RarityError
from .prior_attention import attention_of

# The configuration that a PriorTransformer must have, so that its tokens are in the order above.
_UNDERSTOOD = {
    "added_emb_type": ("prd",),  # the readout token
    "encoder_hid_proj_type": ("linear",),
    "additional_embeddings": (4,),
    "norm_in_type": (None, "layer"),
    "embedding_proj_norm_type": (None, "layer"),
}
_PROCESSORS = ("AttnProcessor", "AttnProcessor2_0")


class Prefix:
    """The layout of what is read once of n texts and T times. Its rows are all tokens, the ends of the texts, and all times.

    `sees` says which row sees which, so that texts of any length need no padding. Nothing here depends on a value on the
    device, so that a graphics card can replay computations with it.

    Parameters
    ----------
    mask : [n, t] on the CPU, False where a token is padding.
    times : of the steps, the latest first.
    device : where the tensors are put.

    Attributes
    ----------
    tokens : the rows of the tokens' states [n t, d] that are read.   places : their positions.
    sees : [rows, rows], whether a row sees another. A row sees the rows of its text up to itself; a time sees no other time.
    memory : [n s], for each text the rows of its tokens and its end; short texts are filled up with any row.
    padding : [n, s + 1, 1], -inf where `memory` was filled up, otherwise 0; the last entry is the time.
    times : [T].
    """

    def __init__(self, mask: Tensor, times: Sequence[int], device: torch.device | str = "cpu"):
        mask = mask.bool().cpu()
        n, count = len(mask), int(mask.sum())
        text, place = mask.nonzero(as_tuple=True)
        owner = torch.cat([text, torch.arange(n), torch.arange(n).repeat_interleave(len(times))])
        row = torch.arange(len(owner))
        shared = row < count + n
        self.tokens, self.places = (text * mask.shape[1] + place).to(device), place.to(device)
        same, before = owner[:, None] == owner, row <= row[:, None]
        self.sees = (same & before & (shared | (row == row[:, None]))).to(device)
        own = [row[shared & (owner == i)] for i in range(n)]
        self.memory = torch.nn.utils.rnn.pad_sequence(own, batch_first=True).flatten().to(device)
        longest = max(map(len, own))
        filled = torch.arange(longest + 1) >= torch.tensor([len(one) for one in own])[:, None]
        filled[:, -1] = False
        self.padding = torch.zeros(filled.shape).masked_fill_(filled, -math.inf)[..., None].to(device)
        self.times = torch.tensor(list(times)).to(device)

    @property
    def tensors(self) -> tuple[Tensor, ...]:
        """The tensors that `_read` needs."""
        return self.tokens, self.places, self.sees, self.memory, self.times


class CachedPrior:
    """The predictions of a PriorTransformer for n texts (two with guidance). The texts are read once, when it is made.

    Parameters
    ----------
    transformer : diffusers.PriorTransformer. Its weights are used in place and never copied.
    embedding : [n, d], the texts' embeddings.
    hidden : [n, t, d], the states of their tokens.
    prefix : which tokens are no padding, and the times of the steps.
    call : called with a function, its tensors, and what else the function depends on; its result is kept. None just calls
        the function.

    Raises
    ------
    RarityError : a transformer with another configuration, or custom attention.
    """

    def __init__(
        self, transformer, embedding: Tensor, hidden: Tensor, prefix: Prefix, call: Callable[..., tuple] | None = None
    ):
        check_configuration(transformer)
        self._transformer = transformer
        function, given = partial(_read, transformer), (embedding, hidden, *prefix.tensors)
        self._memory, self._times = function(*given) if call is None else call(function, *given, depends="read")
        heads = transformer.config.num_attention_heads
        self._padding = prefix.padding.to(self._memory.dtype).repeat_interleave(heads, dim=0)

    def predict(self, x: Tensor, step: int) -> Tensor:
        """The clean embeddings [n, b, d] that the transformer predicts from noisy ones [b, d] at the time of a step."""
        return predict(self._transformer, x, *self.at(step))

    def at(self, step: int) -> tuple[Tensor, Tensor, Tensor]:
        """What `predict` needs at a step: the memory of the texts, the memory of the time, and the padding."""
        return self._memory, self._times[step], self._padding


def _read(
    model, embedding: Tensor, hidden: Tensor, rows: Tensor, seats: Tensor, sees: Tensor, shared: Tensor, times: Tensor
) -> tuple[Tensor, Tensor]:
    """Keys and values of all layers: [2, layers, n heads, s, e] of n texts, [T, 2, layers, n heads, 1, e] of the times.

    It is a function of tensors of fixed sizes. The arguments from `rows` on are `Prefix.tensors`.
    """
    n, places = len(embedding), model.positional_embedding[0]
    states = hidden.flatten(0, 1).index_select(0, rows)
    if model.embedding_proj_norm is not None:
        embedding = model.embedding_proj_norm(embedding)
    when = model.time_embedding(model.time_proj(times).to(places.dtype)) + places[-3]
    tokens = _enter(model, torch.cat([
        model.encoder_hidden_states_proj(states) + places.index_select(0, seats),
        model.embedding_proj(embedding) + places[-4],
        when.repeat(n, 1),
    ]))
    kept = []
    for block in model.transformer_blocks:
        q, k, v = (part.transpose(0, 1)[None] for part in _heads(block, tokens))
        kept.append(torch.cat([k, v]))
        if block is not model.transformer_blocks[-1]:  # nothing reads the output of the last layer
            seen = F.scaled_dot_product_attention(q, k, v, attn_mask=sees)
            tokens = _leave(block, tokens, seen[0].transpose(0, 1).flatten(-2))
    kept = torch.stack(kept, dim=1)  # [2, layers, heads, rows, e]
    memory = kept.index_select(3, shared).unflatten(3, (n, -1)).transpose(2, 3).flatten(2, 3)
    own = kept[:, :, :, -n * len(times):].unflatten(3, (n, -1)).permute(4, 0, 1, 3, 2, 5).flatten(3, 4)
    return memory.contiguous(), own[..., None, :].contiguous()


def predict(model, x: Tensor, memory: Tensor, time: Tensor, padding: Tensor) -> Tensor:
    """The clean embeddings that a PriorTransformer predicts from noisy ones; a function of tensors of fixed sizes.

    Parameters
    ----------
    x : [b, d], noisy embeddings.
    memory, time, padding : of n texts at one time, from `CachedPrior.at`.

    Returns
    -------
    [n, b, d] in the type of x: one prediction for each text.

    `prior_attention` explains what the two tokens of a sample see.
    """
    b, dtype = len(x), model.positional_embedding.dtype
    noisy, readout = model.positional_embedding[0, -2:].split(1)
    noisy = noisy + model.proj_in(x.to(dtype))
    readout = (readout + model.prd_embedding[0].to(dtype)).expand(b, -1)
    way = attention_of(b, model.config.num_attention_heads, memory, time, padding)
    tokens = _enter(model, way.lay(noisy, readout))
    for block, layer in zip(model.transformer_blocks, way.layers, strict=True):
        seen = way.attend(*_heads(block, tokens), layer)
        if block is model.transformer_blocks[-1]:  # only the readout is needed from here on
            tokens, seen = way.readouts(tokens), way.readouts(seen)
        tokens = _leave(block, tokens, seen)
    return way.by_text(model.proj_to_clip_embeddings(model.norm_out(tokens)).to(x.dtype))


def check_configuration(transformer) -> None:
    """Raise a RarityError unless the transformer is one for which CachedPrior gives the results of diffusers."""
    for name, understood in _UNDERSTOOD.items():
        got = getattr(transformer.config, name, "nothing")
        if got not in understood:
            expected = " or ".join(map(repr, understood))
            raise RarityError(
                f"This prior has {name} = {got!r}, but Kandinsky's has {expected}. Use a Kandinsky 2.1 or 2.2 prior."
            )
    custom = {type(one).__name__ for one in transformer.attn_processors.values()} - set(_PROCESSORS)
    if custom:
        raise RarityError(
            f"This prior computes its attention in its own way ({', '.join(sorted(custom))}), expected diffusers' default. "
            "Call transformer.set_default_attn_processor() first."
        )


def _enter(model, tokens: Tensor) -> Tensor:
    return tokens if model.norm_in is None else model.norm_in(tokens)


def _heads(block, tokens: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Queries, keys and values [..., heads, e] of tokens [..., inner]."""
    attention, normed = block.attn1, block.norm1(tokens)
    parts = (project(normed) for project in (attention.to_q, attention.to_k, attention.to_v))
    return tuple(part.unflatten(-1, (attention.heads, -1)) for part in parts)


def _leave(block, tokens: Tensor, seen: Tensor) -> Tensor:
    """The rest of a layer: from tokens [..., inner] and the result of their attention to new tokens."""
    for part in block.attn1.to_out:
        seen = part(seen)
    tokens = tokens + seen
    return tokens + block.ff(block.norm3(tokens))
