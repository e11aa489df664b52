"""Of which kind each picture is, and which share of all pictures is of each kind, with an interval."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor
from torch.nn.functional import normalize

from ..base.embeddings import Embeddings
from ..base.errors import RarityError
from ..base.keys import FOLDS, fold_of
from ..base.progress import in_parts
from ..base.tensors import plain

OWN = 0.95  # this share of a kind's own examples count as near to the kind
CLEARLY = 1 / 3  # a picture is also of a kind if its distance to it is at most this share of its distance to any other kind
FEWEST = 20  # examples that each kind needs
LOGITS = 100.0  # what CLIP multiplies cosines by (Radford et al. 2021)
SURE = 0.75  # a picture is read as a text if the text has at least this probability
DRAWS = 500  # pairs of shares and confusions, from which an interval is made
EDGES = (0.05, 0.95)  # the quantiles at the ends of a 90 % interval


class Kinds:
    """Tell kinds of pictures apart by examples of each kind.

    Only the directions in which the kinds differ count: distances are measured in the span of the differences of the kinds'
    means m_c. So a rare picture, which lies far out in many other directions, is still read. Let D_c be the distance to m_c
    in this span. A picture is of the kind c with the smallest D_c if

        D_c <= L_c,  where a share OWN of the kind's own examples have at most the distance L_c,
        or  D_c <= CLEARLY D_b  for every other kind b  (the ratio test of Lowe 2004).

    Otherwise the picture is of none of the kinds; a picture half-way between two narrow kinds is an example.

    Parameters
    ----------
    examples : K >= 2 sets of one space, FEWEST different rows or more each.

    Attributes
    ----------
    confusion : [K, K + 1] int64. Row c says how examples of kind c are read; the last column counts examples read as none.
        Each fifth of the examples is read with the means of the others, so the counts hold for pictures that were not
        examples.

    Raises
    ------
    RarityError : there are fewer than two kinds or too few examples; the examples are of different spaces.
    """

    def __init__(self, examples: Sequence[Embeddings]):
        if len(examples) < 2:
            raise RarityError(f"At least two kinds are needed to tell kinds apart, got {len(examples)}. Name another one.")
        for rows in examples:
            examples[0].space.require_same(rows.space, "examples of another kind")
        fewest = min(len(rows.keys.unique()) for rows in examples)
        if fewest < FEWEST:
            raise RarityError(f"Each kind needs at least {FEWEST} different examples, got {fewest}. Draw more.")
        self.space = examples[0].space
        folds = [fold_of(rows.keys) for rows in examples]
        rows = [rows.vectors.double() for rows in examples]
        with plain():
            own = [torch.empty(len(part), len(rows), dtype=torch.float64) for part in rows]
            for fold in range(FOLDS):
                means = torch.stack([part[where != fold].mean(dim=0) for part, where in zip(rows, folds, strict=True)])
                for part, where, found in zip(rows, folds, own, strict=True):
                    found[where == fold] = _distances(part[where == fold], means)
            self._means = torch.stack([part.mean(dim=0) for part in rows])
            self._near = torch.stack([found[:, kind].quantile(OWN) for kind, found in enumerate(own)])
            self.confusion = torch.stack([torch.bincount(self._decide(found), minlength=len(rows) + 1) for found in own])

    def read(self, x: Embeddings, tick: Callable[[], None] | None = None) -> Tensor:
        """The kind of each picture, [N] int64 from 0; K means none of the kinds.

        tick : it is called several times a second, and may raise to cancel.

        Raises
        ------
        RarityError : the pictures are of another space.
        """
        self.space.require_same(x.space, "pictures to read")
        return in_parts(lambda part: self._decide(_distances(part.double(), self._means)), x.vectors, tick)

    def _decide(self, distances: Tensor) -> Tensor:
        (near, other), order = distances.sort(dim=1).values[:, :2].T, distances.argmin(dim=1)
        return torch.where((near <= self._near[order]) | (near <= CLEARLY * other), order, distances.shape[1])


def _distances(x: Tensor, means: Tensor) -> Tensor:
    """Distances [N, K] of rows to the means, in the span of the means' differences."""
    axes = torch.linalg.svd(means - means.mean(dim=0), full_matrices=False).Vh[: len(means) - 1].T
    return (((x - means.mean(dim=0)) @ axes)[:, None] - (means - means.mean(dim=0)) @ axes).norm(dim=2)


def read_by_texts(x: Embeddings, texts: Tensor, tick: Callable[[], None] | None = None) -> Tensor:
    """The text that each picture is most like, [N] int64 from 0; K where no text is likely enough.

        p(c | x) = softmax_c(LOGITS cos(x, t_c)),    a picture is read as a text if max_c p >= SURE

    CLIP reads pictures without examples in this way (Radford et al. 2021). The way has two weaknesses. All texts lie apart
    from all pictures, so one text may win for all pictures by its place alone; and no text says "none of these". `Kinds`
    has neither weakness, because it reads by examples.

    Parameters
    ----------
    texts : [K, d], K >= 2, of the same encoder.
    """
    if texts.dim() != 2 or len(texts) < 2 or texts.shape[1] != x.space.width:
        raise RarityError(f"At least two texts, {x.space.width} wide, are needed; got shape {tuple(texts.shape)}.")
    unit = normalize(texts.detach().cpu().double(), dim=1)

    def decide(part: Tensor) -> Tensor:
        likely, which = (LOGITS * normalize(part.double(), dim=1) @ unit.T).softmax(dim=1).max(dim=1)
        return torch.where(likely >= SURE, which, len(unit))

    return in_parts(decide, x.vectors, tick)


@dataclass(frozen=True, eq=False)
class Shares:
    """The shares of pictures of each of K kinds and, last, of none of them; [K + 1] float64 each.

    Attributes
    ----------
    share : the estimate.   low, high : its 90 % interval.
    """

    share: Tensor
    low: Tensor
    high: Tensor


def estimate_shares(kinds: Tensor, count: int, confusion: Tensor | None = None, seed: int = 0) -> Shares:
    """Estimate the true shares of the kinds from how N pictures were read.

    Let M be the reader's confusion: M_cr is the probability that a picture of kind c is read as r. If the kinds have the
    shares q, the expected shares of the readings are f = M' q. The estimate solves this for q:

        q = argmin |M' q - f|^2,    q_c >= 0,  sum_c q_c = 1

    A picture of no kind is assumed to be read as none. For the interval, DRAWS pairs of f and M are drawn from their
    posteriors with Jeffreys' prior (Dirichlet, 1/2 each), and q is solved for each pair. So few pictures or few examples
    make the interval wide, and so do kinds that cannot be told apart. Adjusted counting: Forman (2008), "Quantifying counts
    and costs via classification", Data Mining and Knowledge Discovery 17, 164-206; the constraints as in Hopkins & King
    (2010).

    Parameters
    ----------
    kinds : [N] int64, 0 to K, as `Kinds.read` returns.   count : K.   confusion : [K, K + 1] counts; None trusts every reading.
    seed : of the draws.
    """
    if len(kinds) == 0:
        raise RarityError("Shares of no pictures at all cannot be told: give at least one.")
    read = torch.bincount(kinds, minlength=count + 1).double().numpy()
    draws = np.random.default_rng(seed % 2**64)
    if confusion is None:
        point, drawn = read / read.sum(), draws.dirichlet(read + 0.5, DRAWS)
    else:
        counts = confusion.double().numpy()
        point = _undo(read / read.sum(), counts / counts.sum(axis=1, keepdims=True))
        shares, rows = draws.dirichlet(read + 0.5, DRAWS), [draws.dirichlet(row + 0.5, DRAWS) for row in counts]
        drawn = np.stack([_undo(f, np.stack(m)) for f, *m in zip(shares, *rows, strict=True)])
    low, high = np.quantile(drawn, EDGES, axis=0)
    edges = (point, np.minimum(low, point), np.maximum(high, point))
    return Shares(*(torch.from_numpy(edge) for edge in edges))


def _undo(read: np.ndarray, confusion: np.ndarray) -> np.ndarray:
    """Solve f = M' q for the shares q [K + 1], from f [K + 1] and M [K, K + 1]."""
    from scipy.optimize import nnls

    nothing = np.eye(len(read))[-1]
    # An equation with a large weight keeps the sum near 1 in the least squares. The division makes the sum exactly 1.
    equations, values = np.vstack([np.vstack([confusion, nothing]).T, np.full(len(read), 100.0)]), np.append(read, 100.0)
    q = nnls(equations, values)[0]
    return q / q.sum()
