"""A memory of the pictures that a viewer has seen. Novelty is measured against it."""

from __future__ import annotations

import json
from collections.abc import Sequence

import torch
from torch import Tensor

from ..base.embeddings import Embeddings
from ..base.errors import RarityError
from ..base.keys import row_keys
from ..base.spaces import EmbeddingSpace
from ..base.tensors import ordinary

FORGOTTEN = 1e-3  # an item with less weight than this is dropped
SAME = 0.01  # rows of one key that lie no farther apart than this share of their length are one picture
MOST_WEIGHT = 1e6  # largest weight of one item: sums of squares of weights must stay far from overflow


class ExposureMemory:
    """Pictures a viewer has seen: their embeddings, and how well each is remembered.

    A memory never changes; `update`, `merge` and `forget` return a new one. It holds the embeddings unchanged, so the
    same memory works with any density of its space.

    Each picture is held once, however often and on whatever way it came: keys say who a row is (`identity`), also after
    half precision, a file, or a second encoding of the same pixels. Of a picture that is shown again the larger weight
    counts: it is remembered as well as if it had been shown now for the first time. A row that was moved keeps the key of
    the row it began in, so rows of one key are one picture only if they also lie within SAME of each other.

    Parameters
    ----------
    space : the space of all its embeddings. A new memory is empty.

    Attributes
    ----------
    vectors [n, d] float32, weights [n] float64, keys [n] int64, labels : the remembered items.
    n_eff : the sum of the weights.
    """

    def __init__(self, space: EmbeddingSpace):
        self.space = space
        self.vectors = torch.empty(0, space.width)
        self.weights = torch.empty(0, dtype=torch.float64)
        self.keys = torch.empty(0, dtype=torch.int64)
        self.labels: tuple[str, ...] = ()

    @property
    def n_eff(self) -> float:
        return float(self.weights.sum())

    def __len__(self) -> int:
        """Number of remembered items."""
        return len(self.vectors)

    def update(self, seen: Embeddings, weights: Tensor | Sequence[float] | None = None) -> ExposureMemory:
        """The memory after these pictures were seen, too.

        Parameters
        ----------
        seen : N embeddings.
        weights : N, 1 for a full look (the default), less for a glance, 0 for not seen at all, at most MOST_WEIGHT.

        Raises
        ------
        RarityError : another space; weights that are not N finite numbers from 0 to MOST_WEIGHT.
        """
        self.space.require_same(seen.space, "pictures seen")
        w = torch.ones(len(seen)) if weights is None else torch.as_tensor(weights)
        if w.shape != (len(seen),) or not bool(((w >= 0) & (w <= MOST_WEIGHT)).all()):
            got = f"shape {tuple(w.shape)}" if w.shape != (len(seen),) else "others"
            raise RarityError(
                f"Weights must be {len(seen):,} numbers from 0 to {MOST_WEIGHT:,.0f}, one for each picture; got {got}."
            )
        w = ordinary(w)
        shown = w > 0
        labels = seen.labels or ("",) * len(seen)
        shown_labels = tuple(text for text, there in zip(labels, shown.tolist(), strict=True) if there)
        return self._with(seen.vectors[shown], w[shown], seen.keys[shown], shown_labels)

    def merge(self, other: ExposureMemory) -> ExposureMemory:
        """A memory with the items of both memories, those of both once.

        Raises
        ------
        RarityError : different spaces.
        """
        self.space.require_same(other.space, "other memory")
        return self._with(other.vectors, other.weights, other.keys, other.labels)

    def forget(self, keep: float) -> ExposureMemory:
        """A faded memory: every weight is multiplied by `keep`. Repeated forgetting decays the weights exponentially.

        Parameters
        ----------
        keep : 1 forgets nothing, 0 everything. 0.5 ** (1 / 20) after every picture halves the weights every 20
            pictures.

        Raises
        ------
        RarityError : `keep` outside 0 to 1.
        """
        if isinstance(keep, bool) or not isinstance(keep, (int, float)) or not 0 <= keep <= 1:
            raise RarityError(f"What is kept must be a share from 0 to 1, got {keep!r}.")
        after = ExposureMemory(self.space)
        kept = self.weights * keep >= FORGOTTEN
        after.vectors, after.weights, after.keys = self.vectors[kept], self.weights[kept] * keep, self.keys[kept]
        after.labels = tuple(text for text, there in zip(self.labels, kept.tolist(), strict=True) if there)
        return after

    def state(self) -> tuple[dict, dict[str, Tensor]]:
        """JSON values and tensors from which `from_state` makes the same memory, bit for bit."""
        fields = {"space": self.space.to_dict(), "count": len(self), "n_eff": self.n_eff, "source": {}}
        labels = torch.frombuffer(bytearray(json.dumps(self.labels).encode()), dtype=torch.uint8)
        return fields, {"vectors": self.vectors, "weights": self.weights, "keys": self.keys, "labels": labels}

    @classmethod
    def from_state(cls, fields: dict, tensors: dict[str, Tensor]) -> ExposureMemory:
        """The inverse of `state`. Everything is checked, because a file may hold anything.

        Raises
        ------
        RarityError : shapes that do not fit, labels that are not texts, weights out of range.
        """
        memory = cls(EmbeddingSpace.from_dict(fields.get("space")))
        vectors, weights, keys = tensors["vectors"], tensors["weights"], tensors.get("keys")
        n, d = len(weights), memory.space.width
        try:
            labels = json.loads(tensors["labels"].numpy().tobytes())
        except (ValueError, RecursionError):
            labels = None
        checks = {
            "its embeddings": vectors.shape == (n, d),
            "its keys": keys is None or keys.shape == (n,),
            "its weights": bool(((weights > 0) & (weights <= MOST_WEIGHT)).all()),
            "its labels": isinstance(labels, list) and len(labels) == n and all(isinstance(v, str) for v in labels),
        }
        wrong = [name for name, good in checks.items() if not good]
        if wrong:
            raise RarityError(f"The exposure memory in this file is damaged: {'; '.join(wrong)}. Start a new memory.")
        return memory._with(vectors, weights, row_keys(vectors) if keys is None else keys, tuple(labels))

    def _with(self, vectors: Tensor, weights: Tensor, keys: Tensor, labels: tuple[str, ...]) -> ExposureMemory:
        after = ExposureMemory(self.space)
        vectors, weights = torch.cat([self.vectors, vectors]), torch.cat([self.weights, weights])
        keys, labels = torch.cat([self.keys, keys]), self.labels + labels
        first = _first_of_each(vectors, keys)
        kept = first == torch.arange(len(first))
        after.weights = torch.zeros_like(weights).scatter_reduce(0, first, weights, "amax")[kept]
        after.vectors, after.keys = vectors[kept], keys[kept]
        after.labels = tuple(text for text, there in zip(labels, kept.tolist(), strict=True) if there)
        return after


def _first_of_each(vectors: Tensor, keys: Tensor) -> Tensor:
    """For each row the first row that is the same picture, [n] indices; its own index where there is none before it."""
    first = torch.arange(len(keys))
    _, group, sizes = keys.unique(return_inverse=True, return_counts=True)
    kept: dict[int, list[int]] = {}
    for row in (sizes[group] > 1).nonzero().flatten().tolist():
        earlier = kept.setdefault(int(group[row]), [])
        near = SAME * vectors[row].double().norm()
        found = [other for other in earlier if (vectors[row].double() - vectors[other].double()).norm() <= near]
        if found:
            first[row] = found[0]
        else:
            earlier.append(row)
    return first
