"""What every kind of density promises, and what all of them have."""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable
from functools import cached_property

import torch
from torch import Tensor

from ..base.embeddings import Embeddings
from ..base.errors import RarityError
from ..base.identity import sample_keys
from ..base.progress import Progress, in_parts
from ..base.spaces import EmbeddingSpace
from ..base.tensors import plain
from ..calibration.surprisal import Calibration, bits_from_one_in, one_in_from_bits
from ..statistics.gather import gather
from ..statistics.sufficient_statistics import MAX_ROWS, Statistics
from .frame import Frame
from .modes import Modes

DRAWN = "drawn from the density"  # kind of what `sample` gives


def check_shell(density: Density | type[Density]) -> None:
    """Raise a RarityError unless embeddings can be moved along the shells of this density, or of this kind of density."""
    if not density.has_shell:
        raise RarityError(
            "Distances to the nearest samples score embeddings, but have no shell to move along. "
            "Steer by a density of the same samples with the estimator ppca or mixture."
        )


class Density(ABC):
    """What a model usually makes: a score that grows with the distance from what is usual, calibrated to bits.

    A kind of density says what its score is (`score`, `log_prob`), how it is learnt (`from_statistics`) and how to draw
    from it (`sample`). All that callers ask follows from these. A caller never asks for the kind: where kinds differ, an
    attribute says it.

    Attributes
    ----------
    space : the embedding space.   estimator : how the density was learnt.
    statistics : what was learnt from, kept to be merged with that of other samples.
    frame : the one Gaussian around all samples, with axes, spreads and residuals. Its D2 is the score of a Gaussian
        density, and of no other one.
    calibration : bits of a score, from held-out scores.   norm_range : 0.1 % and 99.9 % quantiles of |e|.
    source : prompt, seed ... of the samples.   notes : what the user should know, in sentences.
    estimators : the names that `estimator` may have in this class.
    modes : the mixture of the leading scores; None where the score is not that of a mixture.
    asked_modes : the number of modes as it was asked for; 0 where held-out samples chose it, or there are none.
    has_shell : whether points of one score lie on a shell that rows can be moved along.
    has_own_calibration : whether samples that were learnt from are calibrated among each other (`own_samples`).
    """

    estimators: tuple[str, ...] = ()
    modes: Modes | None = None
    asked_modes = 0
    has_shell = True
    has_own_calibration = True

    def __init__(
        self,
        *,
        space: EmbeddingSpace,
        estimator: str,
        statistics: Statistics,
        frame: Frame,
        calibration: Calibration,
        norm_range: tuple[float, float],
        source: dict | None = None,
        notes: tuple[str, ...] = (),
    ):
        self.space, self.estimator, self.statistics, self.frame = space, estimator, statistics, frame
        self.calibration, self.norm_range = calibration, (float(norm_range[0]), float(norm_range[1]))
        self.source, self.notes = dict(source or {}), tuple(notes)

    @property
    def count(self) -> int:
        """The number of samples learnt from."""
        return self.statistics.count

    @abstractmethod
    def score(self, x: Tensor) -> Tensor:
        """How far from what is usual rows [N, d] are, [N] float64 from 0, differentiable."""

    @abstractmethod
    def log_prob(self, x: Tensor) -> Tensor:
        """Log density in nats, [N]."""

    @abstractmethod
    def sample(self, count: int, seed: int = 0) -> Embeddings:
        """Draws from the density, not from the model."""

    @classmethod
    @abstractmethod
    def from_statistics(
        cls,
        statistics: Statistics,
        space: EmbeddingSpace,
        *,
        source: dict | None = None,
        components: int = 0,
        seed: int = 0,
        progress: Progress | None = None,
    ) -> Density:
        """Learn the density from statistics gathered before; they may be updated later, the density keeps a copy."""

    @classmethod
    def fit(cls, embeddings: Embeddings | Iterable[Embeddings], *, progress: Progress | None = None, **options) -> Density:
        """Learn the density, every sample scored once by a fit that has not seen it.

        Parameters
        ----------
        embeddings : N samples of one prompt, at once or batch by batch; repeats are dropped and noted.
        progress : called with (done, total).   options : as for `from_statistics`.

        Raises
        ------
        RarityError : too few samples (says how many are needed), samples that do not vary, too many components.
        """
        statistics, space, source = gather(embeddings, progress)
        return cls.from_statistics(statistics, space, source=source, progress=progress, **options)

    def bits(self, x: Tensor) -> Tensor:
        """Calibrated surprisal of new samples, [N]: 10 bits is 1 in 1,024."""
        return self.calibration.bits(self.score(x).detach())

    def one_in(self, x: Tensor) -> Tensor:
        """2 ** bits, [N]: once in how many samples the model makes something at least as rare."""
        return torch.exp2(self.bits(x))

    def score_at(self, bits: float) -> float:
        """The score of a wanted rarity."""
        return self.calibration.score_at(bits)

    def interval(self, x: Tensor | float) -> tuple[Tensor, Tensor]:
        """90 % interval in bits, of embeddings [N, d] or of a number of bits."""
        if isinstance(x, Tensor) and x.dim() == 2:
            return self.calibration.interval(self.score(x).detach())
        return self.calibration.interval(torch.tensor(self.score_at(float(x)), dtype=torch.float64))

    @property
    def frame_calibration(self) -> Calibration:
        """Bits of a score in the unit of the frame's D2, for what shifts that frame (`belief`)."""
        return self.calibration

    @cached_property
    def own_calibration(self) -> Calibration:
        """Bits among the samples that were learnt from: for these, and for what is moved from them (`own_samples`)."""
        return self.learn_own_calibration()

    def learn_own_calibration(self, tick: Callable[[], None] | None = None) -> Calibration:
        """`own_calibration`, which is learnt when it is first asked for; then `tick` is called in every part, and may raise."""
        if "own_calibration" not in vars(self):
            with plain():
                self.own_calibration = Calibration.fit(in_parts(self.score, self.statistics.rows, tick))
        return self.own_calibration

    def describe(self, one_in: float | None = None) -> str:
        """The density in plain words, and what "1 in N" means in it."""
        prompt = self.source.get("prompt")
        lines = [
            f"Learnt from {self.count:,} samples" + (f' of "{prompt}".' if prompt else "."),
            *self._shape_in_words(),
            f"These samples show rarities up to 1 in {2**self.calibration.resolved_bits:,.0f} themselves; "
            "beyond that figures are extrapolated.",
        ]
        if one_in is not None:
            bits = bits_from_one_in(one_in)
            low, high = (one_in_from_bits(float(edge)) for edge in self.interval(bits))
            lines.append(
                f"1 in {one_in:,.0f} is {bits:.1f} bits{self._how_far(bits)}; "
                f"with 90 % confidence between 1 in {_short(low)} and 1 in {_short(high)}."
            )
            if self.calibration.extrapolated(bits):
                lines.append(f"That is extrapolated: {_how_to_see(one_in)}.")
        return "\n".join([*lines, *self.notes])

    def state(self) -> tuple[dict, dict[str, Tensor]]:
        """JSON values and tensors that `from_state` makes the same density of."""
        framed, axes = self.frame.state()
        gathered, kept = self.statistics.state()
        fields = {
            "space": self.space.to_dict(),
            "estimator": self.estimator,
            "count": self.count,
            **framed,
            "norm_range": list(self.norm_range),
            "source": self.source,
            "notes": list(self.notes),
            "statistics": gathered,
        }
        return fields, {**axes, **self.calibration.state(), **kept}

    @classmethod
    def from_state(cls, fields: dict, tensors: dict[str, Tensor]) -> Density:
        """The inverse of `state`, checked: a file may hold anything.

        Raises
        ------
        RarityError : as `unpack`; damage in what a kind of density has in addition.
        """
        return cls(**cls.unpack(fields, tensors))

    @classmethod
    def unpack(cls, fields: dict, tensors: dict[str, Tensor]) -> dict:
        """The arguments of every density, by name, from a file that may hold anything.

        Raises
        ------
        RarityError : shapes that do not fit, a basis that is not orthonormal, variances out of order, ranges reversed.
        """
        space = EmbeddingSpace.from_dict(fields.get("space"))
        wrong = Frame.damage(space.width, fields, tensors) + _damage(fields, cls.estimators)
        if wrong:
            raise RarityError(f"The density in this file is damaged: {'; '.join(wrong)}. Learn it again and save it.")
        statistics = Statistics.from_state(space.width, fields.get("statistics"), tensors)
        if statistics.count != fields["count"]:
            raise RarityError(
                f"The density in this file is damaged: it was learnt from {fields['count']:,} samples, and its statistics are of "
                f"{statistics.count:,}. Learn it again and save it."
            )
        return {
            "space": space,
            "statistics": statistics,
            "frame": Frame.from_state(fields, tensors),
            "calibration": Calibration.from_state(tensors),
            "norm_range": tuple(fields["norm_range"]),
            "notes": tuple(fields["notes"]),
            "estimator": fields["estimator"],
            "source": fields["source"],
        }

    @abstractmethod
    def _shape_in_words(self) -> tuple[str, ...]:
        """Sentences about the shape that the density assumes."""

    @abstractmethod
    def _how_far(self, bits: float) -> str:
        """A rarity as a distance, in words that begin with ", "; empty if the density has no such distance."""

    def _drawn(self, vectors: Tensor, seed: int) -> Embeddings:
        """Embeddings of vectors [N, d] that were drawn with this seed; their keys say so."""
        origin = {"kind": DRAWN, "space": self.space.to_dict(), "of": self.statistics.name, "by": self.estimator, "seed": seed}
        keys = sample_keys(origin, range(len(vectors)))
        return Embeddings(vectors, self.space, (), {**self.source, "kind": DRAWN}, keys)


def _damage(fields: dict, estimators: tuple[str, ...]) -> list[str]:
    """What is wrong with the density's own fields in a file, in words; nothing if they are sound."""
    norms, count, notes = (fields.get(name) for name in ("norm_range", "count", "notes"))
    checks = {
        "its count of samples": type(count) is int and count > 0,
        "its estimator": fields.get("estimator") in estimators,
        "its range of norms": isinstance(norms, list)
        and len(norms) == 2
        and all(type(v) is float for v in norms)
        and 0 <= norms[0] <= norms[1] < math.inf,
        "its source": isinstance(fields.get("source"), dict),
        "its notes": isinstance(notes, list) and all(isinstance(n, str) for n in notes),
    }
    return [name for name, good in checks.items() if not good]


def _how_to_see(one_in: float) -> str:
    """What makes samples show "1 in N" themselves."""
    if one_in > MAX_ROWS:
        return f"{MAX_ROWS:,} samples are kept one by one, so that beyond 1 in {MAX_ROWS:,} every figure is"
    return f"learn from at least {one_in:,.0f} samples to see it"


def _short(n: float) -> str:
    return f"{n:,.0f}" if n < 1e9 else "more than a billion"
