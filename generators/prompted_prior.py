"""The prior for one prompt: what never changes between steps and samples is computed once.

diffusers' PriorTransformer reads, in this order: the text's tokens, the text's embedding, the time, the noisy embedding, and
a readout that becomes the prediction. Attention is causal, so nothing looks ahead:

* text tokens and text embedding are the same for every step and sample, and padded tokens are seen by nobody;
* the time looks back at those only: one row a step, shared by all samples;
* which leaves two tokens for each sample and step instead of 81, with the same result up to float rounding.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

Memory = list[tuple[Tensor, Tensor]]  # keys and values of each layer


class PromptedPrior:
    """A PriorTransformer with one text and one list of time steps.

    Parameters
    ----------
    transformer : diffusers.PriorTransformer.
    embedding : [d], the text's embedding.   hidden : [tokens, d], its tokens' states.   mask : [tokens], False is padding.
    times : [S], time steps.
    """

    def __init__(self, transformer, embedding: Tensor, hidden: Tensor, mask: Tensor, times: Tensor):
        self.transformer = model = transformer
        self._dtype = model.dtype  # looked up once: diffusers walks the whole model for it
        places = model.positional_embedding[0].to(self._dtype)
        if model.embedding_proj_norm is not None:
            embedding = model.embedding_proj_norm(embedding)
        text = (model.encoder_hidden_states_proj(hidden) + places[:len(hidden)])[mask]
        # The last four tokens keep their places however much padding is left out.
        summary, time, self._place_of_noisy, self._place_of_readout = places[len(hidden):]
        prefix = torch.cat([text, (model.embedding_proj(embedding) + summary)[None]])
        _, prefix_memory = self._run(prefix[None], [None] * len(model.transformer_blocks))
        prefix_memory = [(keys[0], values[0]) for keys, values in prefix_memory]
        time_tokens = model.time_embedding(model.time_proj(times).to(self._dtype)) + time
        _, time_memory = self._run(time_tokens[:, None], prefix_memory)
        self._memory = [
            [(torch.cat([pk, tk[step]]), torch.cat([pv, tv[step]]))
             for (pk, pv), (tk, tv) in zip(prefix_memory, time_memory, strict=True)]
            for step in range(len(times))
        ]

    def predict(self, x: Tensor, step: int) -> Tensor:
        """What the transformer predicts for noisy embeddings x [b, d] at the step's time: [b, d] in x's type."""
        model = self.transformer
        noisy = model.proj_in(x.to(self._dtype)) + self._place_of_noisy
        readout = (model.prd_embedding[0, 0].to(self._dtype) + self._place_of_readout).expand_as(noisy)
        tokens, _ = self._run(torch.stack([noisy, readout], dim=1), self._memory[step])
        return model.proj_to_clip_embeddings(model.norm_out(tokens[:, -1])).to(x.dtype)

    def _run(self, tokens: Tensor, memory: Memory | list[None]) -> tuple[Tensor, Memory]:
        """Tokens [b, n, inner] through all layers; each sees the memory [s, heads, e] and, causally, its own row's tokens.

        Returns the tokens, and their own keys and values in each layer [b, n, heads, e].
        """
        if self.transformer.norm_in is not None:
            tokens = self.transformer.norm_in(tokens)
        own = []
        for block, shared in zip(self.transformer.transformer_blocks, memory, strict=True):
            attention, normed = block.attn1, block.norm1(tokens)
            q, k, v = (
                project(normed).unflatten(-1, (attention.heads, -1))
                for project in (attention.to_q, attention.to_k, attention.to_v)
            )
            own.append((k, v))
            tokens = tokens + attention.to_out[0](_attend(q, k, v, shared).flatten(-2))
            tokens = tokens + block.ff(block.norm3(tokens))
        return tokens, own


def _attend(q: Tensor, k: Tensor, v: Tensor, shared: tuple[Tensor, Tensor] | None) -> Tensor:
    """softmax(q [K, k]' / sqrt(e)) [V, v], [b, n, heads, e]: the shared K, V [s, heads, e] come before the own, causal k, v."""
    rows, n = q.shape[:2]
    if shared is not None:
        k, v = (torch.cat([s.expand(rows, -1, -1, -1), own], dim=1) for s, own in zip(shared, (k, v), strict=True))
    seen = torch.ones(n, k.shape[1], dtype=torch.bool, device=q.device).tril(k.shape[1] - n)
    return F.scaled_dot_product_attention(*(x.transpose(1, 2) for x in (q, k, v)), attn_mask=seen).transpose(1, 2)
