"""Kandinsky's prior with a memory: what does not change from sample to sample is computed once.

diffusers' PriorTransformer reads, in this order: the tokens of a text, the text's embedding, the time, the noisy embedding,
and a readout, which becomes the prediction. Attention is causal: nothing looks ahead. Therefore

* the text's tokens and embedding are the same for every step and every sample: their keys and values are kept, and padded
  tokens, which nobody sees, are left out;
* the time looks back at those only: it is one row a step, whatever the number of samples;
* which leaves two tokens a sample instead of 81, and the same prediction up to rounding.
"""

from __future__ import annotations

import math

import torch
import torch.nn.functional as F
from torch import Tensor

from ..density.errors import RarityError

# What a PriorTransformer's configuration must say for the order of tokens above to hold.
_UNDERSTOOD = {
    "added_emb_type": ("prd",),  # the readout token
    "encoder_hid_proj_type": ("linear",),
    "additional_embeddings": (4,),
    "norm_in_type": (None, "layer"),
    "embedding_proj_norm_type": (None, "layer"),
}
_PROCESSORS = ("AttnProcessor", "AttnProcessor2_0")


class CachedPrior:
    """The predictions of a PriorTransformer for n texts (two when guided), which are read once, here.

    Parameters
    ----------
    transformer : diffusers.PriorTransformer. Its weights are used where they are, never copied.
    embedding : [n, d], the texts' embeddings.
    hidden : [n, t, d], their tokens' states.
    mask : [n, t], False where a token is padding.

    Raises
    ------
    RarityError : a transformer with another configuration, or custom attention.
    """

    def __init__(self, transformer, embedding: Tensor, hidden: Tensor, mask: Tensor):
        check_configuration(transformer)
        self._transformer = transformer
        self._memories = self._read(embedding, hidden, mask.bool())

    def predict(self, x: Tensor, timestep: Tensor | int) -> Tensor:
        """The clean embeddings that the transformer sees behind noisy ones.

        Parameters
        ----------
        x : [b, d], noisy embeddings.
        timestep : their time, one for all.

        Returns
        -------
        [n, b, d] in x's type: one prediction for each text.

        In every layer, with K, V the text's remembered keys and values and k, v the tokens' own,
            time     sees  K, k_time
            noisy    sees  K, k_time, its k_noisy
            readout  sees  K, k_time, its k_noisy, its k_readout.
        """
        model = self._transformer
        b, dtype = len(x), model.positional_embedding.dtype
        time, noisy, readout = model.positional_embedding[0, -3:].split(1)
        time = time + model.time_embedding(model.time_proj(torch.as_tensor(timestep, device=x.device).view(1)).to(dtype))
        noisy = noisy + model.proj_in(x.to(dtype))
        readout = (readout + model.prd_embedding[0].to(dtype)).expand(b, -1)
        # The texts differ in their memories only: up to the first attention one set of tokens serves all of them.
        tokens = _enter(model, torch.cat([time, noisy, readout]))[None]
        for block, *memories in zip(model.transformer_blocks, *self._memories, strict=True):
            q, k, v = (part.expand(len(memories), -1, -1, -1) for part in _heads(block, tokens))
            seen = torch.stack([_attend(*own, b, memory) for *own, memory in zip(q, k, v, memories, strict=True)])
            if block is model.transformer_blocks[-1]:  # only the readout is looked at from here on
                tokens, seen = tokens[:, -b:], seen[:, -b:]
            tokens = _leave(block, tokens, seen)
        return model.proj_to_clip_embeddings(model.norm_out(tokens)).to(x.dtype)

    def _read(self, embedding: Tensor, hidden: Tensor, mask: Tensor) -> list[list[tuple[Tensor, Tensor]]]:
        """Keys and values of every text in each layer, [heads, s, e] with s = its tokens + 1.

        The tokens of all texts go through each matrix together; only attention takes them text by text.
        """
        model = self._transformer
        places = model.positional_embedding[0]
        if model.embedding_proj_norm is not None:
            embedding = model.embedding_proj_norm(embedding)
        ends = model.embedding_proj(embedding)[:, None] + places[-4]
        texts = [
            torch.cat([model.encoder_hidden_states_proj(states[seen]) + places[:-4][seen], end])
            for states, seen, end in zip(hidden, mask, ends, strict=True)
        ]
        lengths = [len(text) for text in texts]
        tokens, memories = _enter(model, torch.cat(texts)), [[] for _ in texts]
        for block in model.transformer_blocks:
            heads = [part.transpose(0, 1).split(lengths, dim=1) for part in _heads(block, tokens)]
            for memory, (_, k, v) in zip(memories, zip(*heads, strict=True), strict=True):
                memory.append((k, v))
            if block is not model.transformer_blocks[-1]:  # nobody looks at what comes out of the last
                seen = [_causal(q, k, v) for q, k, v in zip(*heads, strict=True)]
                tokens = _leave(block, tokens, torch.cat(seen))
        return memories


def check_configuration(transformer) -> None:
    """Raise a RarityError unless the transformer is a PriorTransformer that CachedPrior computes as diffusers would."""
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
    """The rest of a layer: tokens [..., inner] with what their attention has seen."""
    for part in block.attn1.to_out:
        seen = part(seen)
    tokens = tokens + seen
    return tokens + block.ff(block.norm3(tokens))


def _causal(q: Tensor, k: Tensor, v: Tensor) -> Tensor:
    """Attention of a text to itself, each token to those up to it: [heads, s, e] to [s, inner]."""
    return F.scaled_dot_product_attention(q[None], k[None], v[None], is_causal=True)[0].transpose(0, 1).flatten(-2)


def _attend(q: Tensor, k: Tensor, v: Tensor, b: int, memory: tuple[Tensor, Tensor]) -> Tensor:
    """softmax(q [K, k]' / sqrt(e)) [V, v] for the rows time, b noisy, b readouts: [1 + 2b, heads, e] to [1 + 2b, inner].

    The keys that all rows see go through one matrix product for each head; only a sample's own two are taken row by row.
    Keys come before rows in `weights`: few keys, many rows, and a softmax over a last, short dimension is slow.
    """
    q, k, v = (part.transpose(0, 1) for part in (q / math.sqrt(q.shape[-1]), k, v))  # [heads, rows, e]
    keys, values = (torch.cat([old, new[:, :1]], dim=1) for old, new in zip(memory, (k, v), strict=True))
    s, noisy, readout = keys.shape[1], slice(1, b + 1), slice(b + 1, None)
    weights = q.new_full((len(q), s + 2, q.shape[1]), -math.inf)
    weights[:, :s] = keys @ q.mT
    weights[:, s, noisy] = (q[:, noisy] * k[:, noisy]).sum(-1)
    weights[:, s, readout] = (q[:, readout] * k[:, noisy]).sum(-1)
    weights[:, s + 1, readout] = (q[:, readout] * k[:, readout]).sum(-1)
    weights = weights.softmax(dim=1)
    to_noisy, to_readout = weights[:, s, :, None], weights[:, s + 1, :, None]
    seen = weights[:, :s].mT @ values
    seen[:, noisy] += to_noisy[:, noisy] * v[:, noisy]
    seen[:, readout] += to_noisy[:, readout] * v[:, noisy] + to_readout[:, readout] * v[:, readout]
    return seen.transpose(0, 1).flatten(-2)
