"""The statistics that a density is learnt from: gathered in one pass, and merged from shards to those of the whole."""

from __future__ import annotations

import copy
from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor

from ..base.errors import RarityError
from ..base.identity import digest_of
from ..base.keys import FOLDS, fold_of, member, row_keys
from ..base.tensors import all_finite, plain
from .moments import CHUNK
from .shrinkage import RadialMoments

MAX_ROWS = 20_000  # rows that are kept one by one; more rows would hardly make "1 in 1,000" more precise


class Statistics:
    """The moments of all rows seen, fold by fold, and a uniform sample of the rows.

    A row is identified by its key, which says where the row came from (`Embeddings`). The key decides whether the row is a
    repeat, which fold it is in, and whether it is kept: the MAX_ROWS rows with the smallest keys are kept (a bottom-k
    sketch; Cohen & Kaplan 2007). So the order of the rows does not matter, and neither does the rounding of a processor.
    Statistics of shards merge in any order to those of the whole. As long as all rows are kept, moments are computed from
    the rows in the order of their keys, so that shards and the whole agree in every bit. With more rows they agree up to
    the rounding of float32 products.

    Two rows with the same key are a repeat even if their values differ: a sample that was drawn again, or a row that was
    moved. Among a million rows the chance that two different rows share a key is less than one in a million.

    Parameters
    ----------
    width : number of dimensions d.

    Attributes
    ----------
    count : different rows seen.   dropped : rows that were not finite.   repeats : rows whose key was seen before.
    keys : [count] int64, ascending.
    """

    def __init__(self, width: int):
        self.width = width
        self.dropped = self.repeats = 0
        with plain():
            self.keys = self._row_keys = torch.empty(0, dtype=torch.int64)
            self._store = torch.empty(0, width)  # the rows of _row_keys in their order, with room for more
        self._handed_out = False  # whether others may hold the rows; then the rows are copied before a change
        self._folds: list[RadialMoments] | None = None  # None while they can be computed from the kept rows
        self._waiting: list[list[Tensor]] = [[] for _ in range(FOLDS)]

    @property
    def count(self) -> int:
        return len(self.keys)

    @property
    def name(self) -> str:
        """A name for the rows seen: a digest of their keys."""
        return digest_of(self.keys)

    @property
    def rows(self) -> Tensor:
        """The rows kept, [r, d] float32 with r = min(count, MAX_ROWS), in the order of their keys."""
        kept, self._handed_out = self._store[: len(self._row_keys)], True
        if not torch.equal(self._row_keys, self.keys[: len(kept)]):
            with plain():
                self._row_keys, order = self._row_keys.sort()
                for columns in kept.split(128, dim=1):  # in parts, because the rows are the largest tensor here
                    columns.copy_(columns[order])
        return kept

    @property
    def row_folds(self) -> Tensor:
        """The fold of every row kept, [r]."""
        return fold_of(self.keys[: len(self._row_keys)])

    @property
    def folds(self) -> list[RadialMoments]:
        """The moments of all rows of each fold."""
        with plain():
            if self._folds is None:
                rows, which = self.rows, self.row_folds
                self._folds = [RadialMoments(self.width).update(rows[which == f]) for f in range(FOLDS)]
            for radial, waiting in zip(self._folds, self._waiting, strict=True):
                _settle(radial, waiting)
            return self._folds

    def update(self, batch: Tensor, keys: Tensor | None = None) -> Statistics:
        """Take in a batch [b, d] and return self. Rows that are not finite and repeats are dropped and counted.

        Rows are kept as float32: half precision is widened, double precision is rounded.

        Parameters
        ----------
        keys : [b] int64, who the rows are; None makes keys of the bytes of the rows.

        Raises
        ------
        RarityError : a batch of another width, other keys than one a row.
        """
        if batch.dim() != 2 or batch.shape[1] != self.width:
            raise RarityError(f"A batch must have the shape [b, {self.width}], got {tuple(batch.shape)}.")
        if keys is not None and (keys.dtype != torch.int64 or keys.shape != batch.shape[:1]):
            raise RarityError(f"Keys of {len(batch):,} rows must be as many int64, got {keys.dtype} {tuple(keys.shape)}.")
        with plain():
            for start in range(0, len(batch), FOLDS * CHUNK):
                rows = batch.detach()[start : start + FOLDS * CHUNK].to("cpu", torch.float32)
                self._take(rows, row_keys(rows) if keys is None else keys[start : start + len(rows)])
        return self

    def merge(self, other: Statistics) -> Statistics:
        """The statistics of both sets of rows together. The two sets stay as they are.

        Raises
        ------
        RarityError : another width; rows that both have seen.
        """
        if other.width != self.width:
            raise RarityError(f"Statistics of width {self.width} and {other.width} cannot be merged.")
        shared = int(member(other.keys, self.keys).sum())
        if shared:
            raise RarityError(
                f"{shared:,} of {other.count:,} samples are in both sets; different draws were expected. Were both "
                "drawn with the same seed, or is it the same file twice? Draw every part with one seed, and let each begin where "
                "the one before it ends (first); or with another seed, for Baseline from Model at least as far apart as each has "
                "pictures, for its picture i has the seed plus i."
            )
        with plain():
            both = Statistics(self.width)
            both.dropped, both.repeats = self.dropped + other.dropped, self.repeats + other.repeats
            both.keys = torch.cat([self.keys, other.keys]).sort().values
            for part in (self, other):
                kept = part.rows
                mine = part.keys[: len(kept)] <= both.keys[:MAX_ROWS][-1:]
                both._keep(kept[mine], part.keys[: len(kept)][mine])
            if both.count > MAX_ROWS:
                both._folds = [one.merge(two) for one, two in zip(self.folds, other.folds, strict=True)]
        return both

    def copy(self) -> Statistics:
        """A copy. An update of one of the two does not change the other."""
        twin = copy.copy(self)
        _ = self.rows  # sorts the rows, and marks them so that neither of the two writes to them
        twin._row_keys, twin._handed_out = self._row_keys, True
        if self._folds is not None:
            with plain():
                twin._folds = [part.merge(RadialMoments(self.width)) for part in self.folds]
        twin._waiting = [[] for _ in range(FOLDS)]
        return twin

    def state(self) -> tuple[dict, dict[str, Tensor]]:
        """JSON values and tensors from which `from_state` makes the same statistics, bit for bit.

        Moments are stored only if they cannot be computed from the rows. Of each scatter the upper triangle is stored.
        """
        folds = self.folds if self.count > MAX_ROWS else []
        upper = torch.triu_indices(self.width, self.width)
        triangles = [part.moments.scatter[upper[0], upper[1]] for part in folds]
        with plain():
            tensors = {
                "rows": self.rows,
                "row_keys": self.keys[: len(self._row_keys)],
                "later_keys": self.keys[len(self.rows) :],
                "fold_means": _stack([part.moments.mean for part in folds], self.width),
                "fold_scatters": _stack(triangles, upper.shape[1]),
                "fold_thirds": _stack([part.third for part in folds], self.width),
                "fold_fourths": torch.tensor([part.fourth for part in folds], dtype=torch.float64),
            }
        return {"count": self.count, "dropped": self.dropped, "repeats": self.repeats}, tensors

    @classmethod
    def from_state(cls, width: int, fields, tensors: dict[str, Tensor]) -> Statistics:
        """The inverse of `state`, checked: a file may hold anything. Without "row_keys" the keys are made of the bytes.

        Raises
        ------
        RarityError : rows out of order or twice, counts and moments that no rows have.
        """
        fields = fields if isinstance(fields, dict) else {}
        rows, later = tensors["rows"], tensors["later_keys"]
        sizes = {"fold_means": width, "fold_scatters": width * (width + 1) // 2, "fold_thirds": width}
        folds = FOLDS if len(later) else 0
        sound = (
            all(type(fields.get(name)) is int and fields[name] >= 0 for name in ("count", "dropped", "repeats"))
            and rows.dim() == 2
            and rows.shape[1] == width
            and fields["count"] == len(rows) + len(later)
            and len(rows) == min(fields["count"], MAX_ROWS)
            and ("row_keys" not in tensors or tensors["row_keys"].shape == rows.shape[:1])
            and later.dim() == 1
            and tensors["fold_fourths"].shape == (folds,)
            and all(tensors[name].shape == (folds, size) for name, size in sizes.items())
        )
        keys = torch.cat([tensors["row_keys"] if "row_keys" in tensors else row_keys(rows), later]) if sound else later
        if not sound or bool((keys[1:] <= keys[:-1]).any()):
            raise _damaged()
        with plain():
            found = cls(width)
            found.keys, found._row_keys, found._store = keys, keys[: len(rows)], rows
            found._handed_out = True
            found.dropped, found.repeats = fields["dropped"], fields["repeats"]
            if len(later):
                counts = torch.bincount(fold_of(keys), minlength=FOLDS).tolist()
                found._folds = [_unpack(width, f, count, tensors) for f, count in enumerate(counts)]
        return found

    def _take(self, rows: Tensor, keys: Tensor) -> None:
        if not all_finite(rows):
            finite = torch.isfinite(rows).all(dim=1)
            self.dropped += int((~finite).sum())
            rows, keys = rows[finite], keys[finite]
        keys, places = (torch.from_numpy(part) for part in np.unique(keys.numpy(), return_index=True))
        new = ~member(keys, self.keys)
        keys, places = keys[new], places[new]
        self.repeats += len(rows) - len(keys)
        if len(keys) == 0:
            return
        if self.count + len(keys) > MAX_ROWS:
            _ = self.folds  # computed now, while all rows are still kept
            self._wait(rows, keys, places)
        else:
            self._folds = None
        at = np.searchsorted(self.keys.numpy(), keys.numpy())
        self.keys = torch.from_numpy(np.insert(self.keys.numpy(), at, keys.numpy()))
        kept = keys <= self.keys[:MAX_ROWS][-1]
        self._keep(rows[places[kept]], keys[kept])

    def _wait(self, rows: Tensor, keys: Tensor, places: Tensor) -> None:
        """Let the rows of a fold wait until they fill a chunk: one large product is faster than many small ones."""
        which = fold_of(keys)
        for f, (radial, waiting) in enumerate(zip(self._folds, self._waiting, strict=True)):
            waiting.append(rows[places[which == f]])
            if sum(map(len, waiting)) >= CHUNK:
                _settle(radial, waiting)

    def _keep(self, rows: Tensor, keys: Tensor) -> None:
        """Store rows whose keys are among the smallest: first in place of rows that no longer are, then at the end."""
        if self._handed_out:
            self._store, self._handed_out = self._store[: len(self._row_keys)].clone(), False
        free = (self._row_keys > self.keys[:MAX_ROWS][-1]).nonzero().flatten()[: len(keys)]
        behind = len(self._row_keys) + torch.arange(len(keys) - len(free))
        self._row_keys = torch.cat([self._row_keys, keys[len(free) :]])
        self._row_keys[free] = keys[: len(free)]
        if len(self._row_keys) > len(self._store):
            room = min(MAX_ROWS, max(len(self._row_keys), 2 * len(self._store)))
            larger = torch.empty(room, self.width)
            larger[: len(self._store)] = self._store
            self._store = larger
        self._store[torch.cat([free, behind])] = rows


def joined(folds: Sequence[RadialMoments], without: Sequence[int] = ()) -> RadialMoments:
    """The moments of all folds together, or of all folds except some."""
    with plain():
        return RadialMoments.joined([part for f, part in enumerate(folds) if f not in without])


def _settle(radial: RadialMoments, waiting: list[Tensor]) -> None:
    if waiting:
        radial.update(waiting[0] if len(waiting) == 1 else torch.cat(waiting))
        waiting.clear()


def _stack(parts: list[Tensor], width: int) -> Tensor:
    return torch.stack(parts) if parts else torch.empty(0, width, dtype=torch.float64)


def _unpack(width: int, fold: int, count: int, tensors: dict[str, Tensor]) -> RadialMoments:
    """The moments of one fold, as `state` packed them."""
    radial, upper = RadialMoments(width), torch.triu_indices(width, width)
    moments = radial.moments
    moments.scatter[upper[0], upper[1]] = tensors["fold_scatters"][fold]
    moments.scatter.T[upper[0], upper[1]] = tensors["fold_scatters"][fold]
    moments.count, moments.mean = count, tensors["fold_means"][fold].clone()
    radial.third, radial.fourth = tensors["fold_thirds"][fold].clone(), float(tensors["fold_fourths"][fold])
    variances = moments.scatter.diagonal()
    sound = (
        bool((variances >= 0).all())
        # The inequality of Cauchy and Schwarz: a covariance is at most the geometric mean of its two variances, and the
        # square of a mean square is at most the mean fourth power.
        and bool((moments.scatter.abs() <= (1 + 1e-6) * variances.sqrt()[:, None] * variances.sqrt() + 1e-300).all())
        and radial.fourth * count >= (1 - 1e-6) * float(variances.sum()) ** 2
    )
    if not sound:
        raise _damaged()
    return radial


def _damaged() -> RarityError:
    return RarityError("The statistics in this file are damaged. Learn the density again and save it.")
