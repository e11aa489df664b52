"""Which of some kinds pictures are, and what share of all pictures is of each kind, with an interval."""

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

OWN = 0.95  # share of a kind's own examples that count as near to it
CLEARLY = 1 / 3  # a picture is also of a kind if it is nearer than this share of its distance to any other
FEWEST = 20  # examples of a kind
LOGITS = 100.0  # what CLIP multiplies cosines by (Radford et al. 2021)
SURE = 0.75  # probability of a text from which a picture counts as read
DRAWS = 500
EDGES = (0.05, 0.95)


class Kinds:
    """Tells kinds of pictures apart by examples of each kind.

    Only what distinguishes the kinds counts: distances are measured in the span of the differences of the kinds' means m_c.
    So a rare picture, which lies far out in many directions, is still read. With D_c the distance to m_c there, a picture
    is of the kind with the smallest D_c if

        D_c <= L_c,  the distance that a share OWN of the kind's own examples have,
        or  D_c <= CLEARLY D_b  for every other kind b  (the ratio test of Lowe 2004).

    Otherwise it is none of them, as what lies half-way between two narrow kinds is.

    Parameters
    ----------
    examples : K >= 2 sets of one space, FEWEST different rows or more each.

    Attributes
    ----------
    confusion : [K, K + 1] int64. Row c says how examples of kind c are read; the last column is none. Each fifth of the
        examples is read by the other examples, so the counts hold for pictures that were not examples.

    Raises
    ------
    RarityError : fewer than two kinds, too few examples, different spaces.
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
        """The kind of each picture, [N] int64 from 0; K is none of them.

        tick : called several times a second, and may raise.

        Raises
        ------
        RarityError : another space.
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
    """The text that each picture is most like, [N] int64 from 0; K where no text is likely enough to be told.

        p(c | x) = softmax_c(LOGITS cos(x, t_c)),    told from max_c p >= SURE on

    This is how CLIP reads pictures without examples (Radford et al. 2021). Texts lie apart from pictures, equally far for
    all pictures, so one text may win by that alone, and no text says "none of these". `Kinds` knows both from examples.

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
    """Share of pictures of each of K kinds and, last, of none of them; [K + 1] float64 each.

    Attributes
    ----------
    share : the estimate.   low, high : its 90 % interval.
    """

    share: Tensor
    low: Tensor
    high: Tensor


def estimate_shares(kinds: Tensor, count: int, confusion: Tensor | None = None, seed: int = 0) -> Shares:
    """What shares the kinds truly have, from how N pictures were read.

    With M the reader's confusion, M_cr the probability that a picture of kind c is read as r, the shares f that were read are
    M' q for shares q of the kinds. The estimate undoes that:

        q = argmin |M' q - f|^2,    q_c >= 0,  sum_c q_c = 1

    A picture of no kind is taken to be read as none. The interval is made of DRAWS pairs of f and M from their posteriors
    with Jeffreys' prior (Dirichlet, 1/2 each), and q of each pair: it knows that pictures were few, and examples, too.
    Where the kinds cannot be told apart it is wide. Adjusted counting: Forman (2008), "Quantifying counts and costs via
    classification", Data Mining and Knowledge Discovery 17, 164-206; the constraints as in Hopkins & King (2010).

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
    """q [K + 1] of f [K + 1] and M [K, K + 1]."""
    from sklearn.linear_model import LinearRegression

    nothing = np.eye(len(read))[-1]
    # A heavy equation keeps the sum at 1 while the least squares are sought; what it leaves is divided away.
    equations, values = np.vstack([np.vstack([confusion, nothing]).T, np.full(len(read), 100.0)]), np.append(read, 100.0)
    q = LinearRegression(fit_intercept=False, positive=True).fit(equations, values).coef_
    return q / q.sum()
