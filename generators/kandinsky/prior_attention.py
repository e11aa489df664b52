"""The attention of the prior's own two tokens a sample, in two ways: for a processor, and for a graphics card.

Of n texts and b samples there are a noisy token and a readout each. With K, V the keys and values of the text and of the time,
and k, v the tokens' own, in every layer
    noisy    sees  K, its k_noisy
    readout  sees  K, its k_noisy, its k_readout.
On a processor the multiplications count, on a graphics card how many kernels there are, and how full each is.

Both ways have
    lay(noisy, readout)  the tokens, as the layers pass them on, from [b, inner] each.
    layers               what `attend` needs of each layer.
    attend(q, k, v, layer)  what tokens have seen [..., inner], from their queries, keys and values [..., heads, e].
    readouts(tokens)     those of the readouts alone.
    by_text(readouts)    [n, b, d] from [..., d].
"""

from __future__ import annotations

import math
from collections.abc import Iterator

import torch
import torch.nn.functional as F
from torch import Tensor
from torch.nn.attention import SDPBackend, sdpa_kernel

GROUP = 32  # samples; their 64 tokens fill one tile of a graphics card's attention
# Of torch's attentions with a mask: the one that is ready for any size at once, and what runs everywhere.
_KERNELS = [SDPBackend.EFFICIENT_ATTENTION, SDPBackend.MATH]


def attention_of(b: int, heads: int, memory: Tensor, time: Tensor, padding: Tensor) -> RowByRow | InGroups:
    """The way that is faster on the device of the memory, for b samples; `memory`, `time`, `padding` as `CachedPrior.at`."""
    way = InGroups if memory.is_cuda else RowByRow
    return way(b, heads, memory, time, padding)


class RowByRow:
    """softmax(q [K, k]' / sqrt(e)) [V, v] with no more multiplications than it takes; rows: b noisy, then b readouts.

    The keys that all rows of a text see, [n heads, s, e], go through one matrix product for each head; only a sample's own
    two are taken row by row. Keys come before rows in `weights`: few keys, many rows, and a softmax over a last, short
    dimension is slow. Heads come last in the rows' own products, as the projections leave them: nothing is copied.
    """

    def __init__(self, b: int, heads: int, memory: Tensor, time: Tensor, padding: Tensor):
        self._b, self._padding = b, padding
        self.layers: Iterator = zip(*torch.cat([memory, time], dim=-2), strict=True)

    def lay(self, noisy: Tensor, readout: Tensor) -> Tensor:
        # The texts differ in their memories only: up to the first attention one set of tokens serves all of them.
        return torch.cat([noisy, readout])[:, None]

    def attend(self, q: Tensor, k: Tensor, v: Tensor, layer: tuple[Tensor, Tensor]) -> Tensor:
        keys, values = layer
        heads, e = q.shape[-2:]
        n, b, scale = len(keys) // heads, self._b, 1 / math.sqrt(e)
        q, k, v = (part.expand(-1, n, -1, -1).reshape(2, b, n * heads, e) for part in (q, k, v))
        own = ((q * k[0]).sum(-1), (q[1] * k[1]).sum(-1))  # with its noisy one: of both rows; with its readout: of the readout
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
    """The same as one call of scaled_dot_product_attention a layer, over groups of c samples; rows of a group: c noisy, c readouts.

    A group's sequence of keys is [K, c k_noisy, c k_readout], and a mask, one for all groups and layers, says which of them a
    row sees. Most of a group's products are for nothing, but they cost a graphics card less than the kernels that would spare
    them. A last group is filled up with samples nobody asked for.
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
        """[n groups, 1, rows, keys]: 0 where a row sees a key, else -inf."""
        c, keys = self._c, s + 2 * self._c
        # Kernels want lines that begin at multiples of 8 numbers; they copy a mask that has others, every time.
        mask = padding.new_full((self._n, 2 * c, -(-keys // 8) * 8), -math.inf)
        mask[:, :, :s] = padding[:, None]
        mask[:, :, s:].diagonal(dim1=1, dim2=2).zero_()  # each row sees itself
        mask[:, c:, s : s + c].diagonal(dim1=1, dim2=2).zero_()  # and a readout its noisy one
        return mask[:, None].expand(-1, self._groups, -1, -1).flatten(0, 1)[:, None, :, :keys]
