"""A memory of the pictures that a viewer has seen. Novelty is measured against it."""

from __future__ import annotations

import json
from collections.abc import Sequence

import torch
from torch import Tensor

from ..base.embeddings import Embeddings
from ..base.errors import RarityError
from ..base.spaces import EmbeddingSpace
from ..base.tensors import ordinary

FORGOTTEN = 1e-3  # an item with less weight than this is dropped
MOST_WEIGHT = 1e6  # largest weight of one item: sums of squares of weights must stay far from overflow


class ExposureMemory:
    """Pictures a viewer has seen: their embeddings, and how well each is remembered.

    A memory never changes; `update`, `merge` and `forget` return a new one. It holds the embeddings unchanged, so the
    same memory works with any density of its space.

    Parameters
    ----------
    space : the space of all its embeddings. A new memory is empty.

    Attributes
    ----------
    vectors [n, d] float32, weights [n] float64, labels : the remembered items.
    n_eff : the sum of the weights.
    """

    def __init__(self, space: EmbeddingSpace):
        self.space = space
        self.vectors = torch.empty(0, space.width)
        self.weights = torch.empty(0, dtype=torch.float64)
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
        return self._with(seen.vectors[shown], w[shown], shown_labels)

    def merge(self, other: ExposureMemory) -> ExposureMemory:
        """A memory with the items of both memories.

        Raises
        ------
        RarityError : different spaces.
        """
        self.space.require_same(other.space, "other memory")
        return self._with(other.vectors, other.weights, other.labels)

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
        after.vectors, after.weights = self.vectors[kept], self.weights[kept] * keep
        after.labels = tuple(text for text, there in zip(self.labels, kept.tolist(), strict=True) if there)
        return after

    def state(self) -> tuple[dict, dict[str, Tensor]]:
        """JSON values and tensors from which `from_state` makes the same memory, bit for bit."""
        fields = {"space": self.space.to_dict(), "count": len(self), "n_eff": self.n_eff, "source": {}}
        labels = torch.frombuffer(bytearray(json.dumps(self.labels).encode()), dtype=torch.uint8)
        return fields, {"vectors": self.vectors, "weights": self.weights, "labels": labels}

    @classmethod
    def from_state(cls, fields: dict, tensors: dict[str, Tensor]) -> ExposureMemory:
        """The inverse of `state`. Everything is checked, because a file may hold anything.

        Raises
        ------
        RarityError : shapes that do not fit, labels that are not texts, weights out of range.
        """
        memory = cls(EmbeddingSpace.from_dict(fields.get("space")))
        vectors, weights = tensors["vectors"], tensors["weights"]
        n, d = len(weights), memory.space.width
        try:
            labels = json.loads(tensors["labels"].numpy().tobytes())
        except (ValueError, RecursionError):
            labels = None
        checks = {
            "its embeddings": vectors.shape == (n, d),
            "its weights": bool(((weights > 0) & (weights <= MOST_WEIGHT)).all()),
            "its labels": isinstance(labels, list) and len(labels) == n and all(isinstance(v, str) for v in labels),
        }
        wrong = [name for name, good in checks.items() if not good]
        if wrong:
            raise RarityError(f"The exposure memory in this file is damaged: {'; '.join(wrong)}. Start a new memory.")
        return memory._with(vectors, weights, tuple(labels))

    def _with(self, vectors: Tensor, weights: Tensor, labels: tuple[str, ...]) -> ExposureMemory:
        after = ExposureMemory(self.space)
        after.vectors = torch.cat([self.vectors, vectors])
        after.weights = torch.cat([self.weights, weights])
        after.labels = self.labels + labels
        return after
