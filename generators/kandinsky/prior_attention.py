"""The attention of the two tokens of each sample of the prior, in two ways: for a processor, and for a graphics card.

For each of n texts and b samples there are two tokens, a noisy one and a readout. K and V are the keys and values of the text
and of the time; k and v are those of the tokens themselves. In every layer
    noisy    sees  K, its k_noisy
    readout  sees  K, its k_noisy, its k_readout.
On a processor the number of multiplications decides about the speed. On a graphics card it is the number of kernels, and how
full each of them is.

Both ways have
    lay(noisy, readout)  the tokens in the layout of the layers, from [b, inner] each.
    layers               what `attend` needs of each layer.
    attend(q, k, v, layer)  the results [..., inner] for the queries, keys and values [..., heads, e] of tokens.
    readouts(tokens)     the tokens of the readouts only.
    by_text(readouts)    [n, b, d] from [..., d].
"""

from __future__ import annotations

import math
from collections.abc import Iterator

import torch
import torch.nn.functional as F
from torch import Tensor
from torch.nn.attention import SDPBackend, sdpa_kernel

GROUP = 32  # samples in a group; their 64 tokens fill one tile of a graphics card's attention
# Two of torch's attentions with a mask: one that needs no preparation for a new size, and one that runs on every device.
_KERNELS = [SDPBackend.EFFICIENT_ATTENTION, SDPBackend.MATH]


def attention_of(b: int, heads: int, memory: Tensor, time: Tensor, padding: Tensor) -> RowByRow | InGroups:
    """The faster way on the device of `memory`, for b samples. `memory`, `time` and `padding` are from `CachedPrior.at`."""
    way = InGroups if memory.is_cuda else RowByRow
    return way(b, heads, memory, time, padding)


class RowByRow:
    """softmax(q [K, k]' / sqrt(e)) [V, v] with as few multiplications as possible. Rows: b noisy tokens, then b readouts.

    The keys that all rows of a text see, [n heads, s, e], go through one matrix product for each head. Only the two keys of
    a sample itself are multiplied row by row. In `weights` keys come before rows, because there are few keys and many rows,
    and a softmax over a short last dimension is slow. In the products of the rows themselves heads come last, as the
    projections leave them, so that nothing is copied.
    """

    def __init__(self, b: int, heads: int, memory: Tensor, time: Tensor, padding: Tensor):
        self._b, self._padding = b, padding
        self.layers: Iterator = zip(*torch.cat([memory, time], dim=-2), strict=True)

    def lay(self, noisy: Tensor, readout: Tensor) -> Tensor:
        # Texts differ only in their memories, so up to the first attention one set of tokens is enough for all texts.
        return torch.cat([noisy, readout])[:, None]

    def attend(self, q: Tensor, k: Tensor, v: Tensor, layer: tuple[Tensor, Tensor]) -> Tensor:
        keys, values = layer
        heads, e = q.shape[-2:]
        n, b, scale = len(keys) // heads, self._b, 1 / math.sqrt(e)
        q, k, v = (part.expand(-1, n, -1, -1).reshape(2, b, n * heads, e) for part in (q, k, v))
        own = ((q * k[0]).sum(-1), (q[1] * k[1]).sum(-1))  # both rows with the noisy key; the readout with the readout's key
        to_noisy = scale * own[0].permute(2, 0, 1).flatten(1)
        to_readout = F.pad(scale * own[1].mT, (b, 0), value=-math.inf)
        shared = torch.baddbmm(self._padding, keys, q.flatten(0, 1).permute(1, 2, 0), alpha=scale)
        weights = torch.cat([shared, to_noisy[:, None], to_readout[:, None]], dim=1).softmax(dim=1)
        to_noisy, to_readout = weights[:, -2].mT.reshape(2, b, n * heads, 1), weights[:, -1, b:].mT[..., None]
        seen = v[0] * to_noisy.contiguous()
        seen[1].addcmul_(to_readout, v[1])
        seen.view(2 * b, n * heads, e).transpose(0, 1).baddbmm_(weights[:, :-2].mT, values)
        return seen.view(2 * b, n, heads * e)

    def readouts(self, tokens: Tensor) -> Tensor:
        return tokens[self._b :]

    def by_text(self, readouts: Tensor) -> Tensor:
        return readouts.transpose(0, 1)


class InGroups:
    """The same with one scaled_dot_product_attention in each layer, over groups of c samples: c noisy tokens, c readouts.

    The keys of a group are [K, c k_noisy, c k_readout]. One mask for all groups and layers says which keys a row sees. Most
    products of a group are not needed, but they cost a graphics card less than the kernels that would avoid them. The last
    group is filled up with samples that are thrown away.
    """

    def __init__(self, b: int, heads: int, memory: Tensor, time: Tensor, padding: Tensor):
        self._b = b
        self._groups = -(-b // GROUP)
        self._c = -(-b // self._groups)
        kept = torch.cat([memory, time], dim=-2).unflatten(2, (-1, heads)).transpose(3, 4)  # [2, layers, n, s, heads, e]
        self._n, s = kept.shape[2:4]
        self.layers = kept.flatten(-2)[:, :, :, None].expand(-1, -1, -1, self._groups, -1, -1).unbind(1)
        self._mask = self._sees(padding[::heads, :, 0], s)

    def lay(self, noisy: Tensor, readout: Tensor) -> Tensor:
        filled = self._groups * self._c - self._b
        rows = (F.pad(part, (0, 0, 0, filled)) if filled else part for part in (noisy, readout))
        tokens = torch.cat([part.unflatten(0, (self._groups, self._c)) for part in rows], dim=1)
        return tokens.repeat(self._n, 1, 1, 1)

    def attend(self, q: Tensor, k: Tensor, v: Tensor, layer: Tensor) -> Tensor:
        shape = q.shape[-2:]
        sequence = torch.cat([layer[0], k.flatten(-2), layer[1], v.flatten(-2)], dim=2).flatten(0, 1).unflatten(-1, shape)
        keys, values = sequence.chunk(2, dim=1)
        q, keys, values = (part.transpose(1, 2) for part in (q.flatten(0, 1), keys, values))
        with sdpa_kernel(_KERNELS):
            seen = F.scaled_dot_product_attention(q, keys, values, attn_mask=self._mask)
        return seen.transpose(1, 2).flatten(-2).unflatten(0, (self._n, self._groups))

    def readouts(self, tokens: Tensor) -> Tensor:
        return tokens[:, :, self._c :]

    def by_text(self, readouts: Tensor) -> Tensor:
        return readouts.flatten(1, 2)[:, : self._b]

    def _sees(self, padding: Tensor, s: int) -> Tensor:
        """[n groups, 1, rows, keys]: 0 where a row sees a key, otherwise -inf."""
        c, keys = self._c, s + 2 * self._c
        # Kernels need lines that begin at multiples of 8 numbers. They would copy another mask at every call.
        mask = padding.new_full((self._n, 2 * c, -(-keys // 8) * 8), -math.inf)
        mask[:, :, :s] = padding[:, None]
        mask[:, :, s:].diagonal(dim1=1, dim2=2).zero_()  # each row sees itself
        mask[:, c:, s : s + c].diagonal(dim1=1, dim2=2).zero_()  # and a readout sees its noisy token
        return mask[:, None].expand(-1, self._groups, -1, -1).flatten(0, 1)[:, None, :, :keys]
