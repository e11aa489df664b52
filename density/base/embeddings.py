"""Embeddings with their space and the identity of every row, so that nothing is compared with the wrong thing."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field

import numpy as np
import torch
from torch import Tensor

from .errors import RarityError
from .framing import views
from .keys import row_keys
from .spaces import EmbeddingSpace
from .tensors import check_json, ordinary


@dataclass(frozen=True, eq=False)
class Embeddings:
    """N vectors of one space, and where they came from.

    Parameters
    ----------
    vectors : [N, d], kept as a float32 copy on the CPU.
    space : the space they live in; its width is d.
    labels : one text a row, or empty.
    source : JSON values only: prompt, seed, steps, guidance, kind.
    keys : [N] int64, who each row is (`identity`). They are set where rows are made. Rows that are moved or rounded keep
        them: use `dataclasses.replace(embeddings, vectors=...)`. None makes keys of the rows' bytes, for rows of which
        nothing else is known.

    Raises
    ------
    RarityError : wrong shape or width, rows that are not finite, labels other than N texts, a source that is not JSON,
        keys other than N whole numbers of 64 bits.
    """

    vectors: Tensor
    space: EmbeddingSpace
    labels: tuple[str, ...] = ()
    source: dict = field(default_factory=dict)
    keys: Tensor | None = None

    def __post_init__(self):
        vectors = self.vectors
        if not isinstance(vectors, Tensor) or vectors.dim() != 2:
            got = f"shape {tuple(vectors.shape)}" if isinstance(vectors, Tensor) else type(vectors).__name__
            raise RarityError(f"Embeddings must be a tensor of shape [N, {self.space.width}], got {got}.")
        if vectors.shape[0] == 0:
            raise RarityError("Embeddings must have at least one row, got none.")
        if vectors.shape[1] != self.space.width:
            raise RarityError(
                f"Embeddings of the space {self.space} must be {self.space.width} wide, got {vectors.shape[1]}. "
                "Encode them with the model that this space names."
            )
        vectors = ordinary(vectors, torch.float32)
        bad = int((~torch.isfinite(vectors).all(dim=1)).sum())
        if bad:
            raise RarityError(
                f"{bad:,} of {len(vectors):,} embeddings hold values that are not finite (NaN or infinity). "
                "Drop those rows (drop_unusable), or find out why the model made them: half precision often does."
            )
        labels = tuple(self.labels)
        if labels and len(labels) != len(vectors):
            raise RarityError(
                f"Expected one label for each of {len(vectors):,} embeddings or none, got {len(labels):,}."
            )
        if not all(isinstance(label, str) for label in labels):
            raise RarityError("Labels of embeddings must be text.")
        if not isinstance(self.source, dict):
            raise RarityError(f"The source of embeddings must be a dictionary, got {type(self.source).__name__}.")
        check_json(self.source, "The source of embeddings")
        keys = row_keys(vectors) if self.keys is None else self.keys
        if not isinstance(keys, Tensor) or keys.dtype != torch.int64 or keys.shape != (len(vectors),):
            got = f"{keys.dtype} {tuple(keys.shape)}" if isinstance(keys, Tensor) else type(keys).__name__
            raise RarityError(f"Keys of {len(vectors):,} embeddings must be as many whole numbers (int64), got {got}.")
        object.__setattr__(self, "vectors", vectors)
        object.__setattr__(self, "keys", ordinary(keys, torch.int64))
        object.__setattr__(self, "labels", labels)

    def __len__(self) -> int:
        return len(self.vectors)

    def select(self, indices: Tensor | Iterable[int]) -> Embeddings:
        """The rows at `indices` (integers, or a boolean mask of length N), in that order.

        Raises
        ------
        RarityError : an index outside the rows, or nothing selected.
        """
        index = torch.as_tensor(indices if isinstance(indices, Tensor) else list(indices)).cpu()
        if index.dtype == torch.bool:
            if index.shape != (len(self),):
                raise RarityError(f"A mask must have {len(self):,} entries, got {tuple(index.shape)}.")
            index = index.nonzero().flatten()
        if index.numel() == 0:
            raise RarityError("No embedding was selected: give at least one index.")
        if index.is_floating_point() or index.dim() != 1 or index.min() < -len(self) or index.max() >= len(self):
            raise RarityError(f"Indices must be whole numbers from 0 to {len(self) - 1:,}.")
        labels = tuple(self.labels[i] for i in index.tolist()) if self.labels else ()
        return Embeddings(self.vectors[index], self.space, labels, dict(self.source), self.keys[index])

    @classmethod
    def cat(cls, parts: Iterable[Embeddings]) -> Embeddings:
        """The rows of all parts with their keys, one after the other.

        Labels are kept if every part has them. The source is what the sources have in `common`.

        Raises
        ------
        RarityError : no parts, or parts of different spaces.
        """
        parts = list(parts)
        if not parts:
            raise RarityError("There are no embeddings to join: give at least one set.")
        for part in parts[1:]:
            parts[0].space.require_same(part.space, "embeddings to join")
        labels = sum((part.labels for part in parts), ()) if all(part.labels for part in parts) else ()
        source = common([part.source for part in parts])
        vectors, keys = (torch.cat([getattr(part, name) for part in parts]) for name in ("vectors", "keys"))
        return cls(vectors, parts[0].space, labels, source, keys)


def common(sources: list[dict]) -> dict:
    """The entries that all sources share; and how much of the pictures was seen (`views`), even if only one says it."""
    alike = {
        key: value
        for key, value in sources[0].items()
        if all(key in other and other[key] == value for other in sources)
    }
    return alike | views(sources)


def few_enough(embeddings: Embeddings, at_most: int, who: str) -> Embeddings:
    """The same embeddings, after a check that they are few enough to be drawn, which takes time for each of them.

    Parameters
    ----------
    at_most : the largest number that is expected.   who : what draws them, named in the error.

    Raises
    ------
    RarityError : there are more.
    """
    check_few(len(embeddings), at_most, who)
    return embeddings


def check_few(number: int, at_most: int, who: str) -> None:
    """Raise RarityError where so many are more than `at_most`; see `few_enough`."""
    if number > at_most:
        raise RarityError(
            f"{who} got {number:,} embeddings, one picture each, and at most is {at_most:,}. So many often are a whole "
            "baseline, let through by a bypassed node such as Make Rare: switch that node on, or take some out with Select "
            f"Embeddings. If all are to be drawn, set at most to {number}."
        )


def drop_unusable(vectors: Tensor) -> tuple[Tensor, int, int]:
    """Rows that are finite and do not repeat an earlier row exactly, in their order.

    Parameters
    ----------
    vectors : [N, d].

    Returns
    -------
    kept [n, d], number of rows dropped as not finite, number dropped as repeats.
    """
    finite = torch.isfinite(vectors).all(dim=1)
    rows = vectors[finite]
    # Half precision becomes float32, which is exact, because NumPy does not know all kinds of half precision.
    exact = rows.detach().to("cpu", rows.dtype if rows.dtype == torch.float64 else torch.float32)
    first = np.sort(np.unique(row_keys(exact).numpy(), return_index=True)[1])
    return rows[torch.from_numpy(first).to(rows.device)], int((~finite).sum()), len(rows) - len(first)
