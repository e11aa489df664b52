"""How new a picture is to someone: surprise under what the model makes, and under what they have seen."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn.functional import normalize

from .calibration import one_in_from_bits
from .embeddings import Embeddings
from .exposure import Belief, ExposureMemory
from .framing import partly_seen
from .gaussian import GaussianDensity
from .information import information_gain
from .own_samples import calibration_for
from .progress import in_parts, waiting
from .separation import Unseen
from .tables import text_table

HEADS = ("picture", "novelty", "90 %", "1 in N", "global", "local", "gain", "nearest seen", "survival", "conformity")


@dataclass(frozen=True, eq=False)
class Novelty:
    """Readings of N pictures, [N] each; bits unless said otherwise.

    Attributes
    ----------
    novelty : the headline, the smaller of `global_bits` and `local_bits`: an odd picture seen before is not new.
    bits_low, bits_high : its 90 % interval: how far calibrations on other samples might put it.
    bits : surprise under the density alone, calibrated: 10 bits is 1 in 1,024. Its own samples, and what was moved from
        them, are read beside each other (`own_samples`).
    global_bits : the same about the viewer's belief; `bits` for an empty memory.
    local_bits : -log2 `survival`; infinite for an empty memory.
    surprisal : -log2 of the predictive density (`predictive_surprisal`): only differences mean something.
    bayesian_surprise, information_gain : see the functions of these names.
    nearest : index of the nearest remembered item, -1 for an empty memory.
    distance : Euclidean, to that item, in units of the embedding; infinite for an empty memory.
    survival : the share of unseen pictures that stand at least this clear of everything remembered (`separation`); near
        1 for a copy, 0 for an empty memory.
    conformity : cosine to the density's mean; 1 is as ordinary as a direction can be.
    labels : of the pictures, N texts or none.   nearest_labels : of the nearest remembered items, N texts, "" for none.
    notes : what the user should know, in sentences.
    """

    novelty: Tensor
    bits_low: Tensor
    bits_high: Tensor
    bits: Tensor
    global_bits: Tensor
    local_bits: Tensor
    surprisal: Tensor
    bayesian_surprise: Tensor
    information_gain: Tensor
    nearest: Tensor
    distance: Tensor
    survival: Tensor
    conformity: Tensor
    labels: tuple[str, ...] = ()
    nearest_labels: tuple[str, ...] = ()
    notes: tuple[str, ...] = ()

    def rows(self) -> list[dict]:
        """One dictionary a picture, JSON values only: what is infinite is None."""
        readings = {name: getattr(self, name).tolist() for name, kept in self.__dict__.items() if isinstance(kept, Tensor)}
        return [
            {
                "label": self.labels[i] if self.labels else "",
                **{name: values[i] if math.isfinite(values[i]) else None for name, values in readings.items()},
                "nearest_label": self.nearest_labels[i] if self.nearest_labels else "",
            }
            for i in range(len(self.novelty))
        ]

    def table(self) -> str:
        """The readings as text, one line a picture under a heading line, columns aligned; and the notes."""
        return "\n".join([text_table(HEADS, [_line(i, row) for i, row in enumerate(self.rows())]), *self.notes])


def score_novelty(
    items: Embeddings,
    density: GaussianDensity,
    memory: ExposureMemory,
    *,
    baseline: Embeddings | None = None,
    seed: int = 0,
    progress: Callable[[int, int], None] | None = None,
) -> Novelty:
    """Read every picture under the density and the memory; each by itself, so that their order does not matter.

    Global: the calibrated bits of the density's score, a Gaussian's D2, about the viewer's belief. Local: -log2 S(t), t
    the separation from what was seen, d min(1, d / b)^64 of the distances d to the nearest seen and b to the nearest
    unseen picture, and S the share of unseen pictures with at least as much. A Gaussian cannot tell a copy of an odd
    picture from another odd picture; distances can.

    Parameters
    ----------
    items : N pictures.   memory : what the viewer has seen; may be empty.
    baseline : unseen pictures to learn S from; without it, the samples that the density was learnt from (see `Unseen`).
        Thousands of them tell copies better than hundreds.
    seed : of the choice among more of them.
    progress : of `information_gain`, which takes the longest where the memory is large; before it, called with (0, 1).

    Raises
    ------
    RarityError : different spaces; a baseline of fewer than 50 pictures.
    """
    density.space.require_same(items.space, "pictures to score")
    if baseline is not None:
        density.space.require_same(baseline.space, "baseline")
    tick = waiting(progress)
    x, belief, calibration = items.vectors.double(), memory.belief(density), calibration_for(density, items, tick)
    score = in_parts(density.score, x, tick)
    about = in_parts(lambda part: _about(belief, density, part), x, tick) if memory.n_eff else score
    global_bits = calibration.bits(about)
    low, high = calibration.interval(about)
    local_bits = distance = torch.full((len(items),), math.inf, dtype=torch.float64)
    index = torch.full((len(items),), -1)
    if len(memory):
        unseen = Unseen(density, memory, baseline=baseline, seed=seed, tick=tick)
        separation, distance, index = unseen.measure(items)
        local_bits = unseen.calibration.bits(separation)
        low, high = map(torch.minimum, (low, high), unseen.calibration.interval(separation))
    surprisal, surprise = predictive_surprisal(items, density, memory), bayesian_surprise(items, density, memory)
    tick()
    return Novelty(
        novelty=torch.minimum(global_bits, local_bits),
        bits_low=low,
        bits_high=high,
        bits=calibration.bits(score),
        global_bits=global_bits,
        local_bits=local_bits,
        surprisal=surprisal,
        bayesian_surprise=surprise,
        information_gain=information_gain(items, density, memory, progress=progress),
        nearest=index,
        distance=distance,
        survival=torch.exp2(-local_bits),
        conformity=conformity(items, density),
        labels=items.labels,
        nearest_labels=tuple(memory.labels[i] if i >= 0 else "" for i in index.tolist()),
        notes=partly_seen(items.source, density.source),
    )


def predictive_surprisal(items: Embeddings, density: GaussianDensity, memory: ExposureMemory) -> Tensor:
    """-log2 of the Student-t density of the next picture, [N] bits.

        x ~ t_nu(m_n, Sigma (kappa + 1) / kappa),    nu = samples of the density beyond the width, at least 1
        -ln p = (nu + d)/2 ln(1 + D2 / nu') + const,    nu' = nu (kappa + 1) / kappa

    It grows like a logarithm, so what is very far cannot outweigh everything else. Murphy (2007), section 9.
    """
    density.space.require_same(items.space, "pictures to score")
    belief = memory.belief(density)
    d, stretch = len(density.mean), (belief.kappa + 1) / belief.kappa
    nu = max(density.count - d, 1)
    d2 = _mahalanobis(belief, density, items.vectors.double())
    volume = float(density.variances.log().sum()) + (d - density.components) * math.log(density.residual_variance)
    constant = math.lgamma(nu / 2) - math.lgamma((nu + d) / 2) + 0.5 * (d * math.log(nu * math.pi * stretch) + volume)
    return (constant + 0.5 * (nu + d) * torch.log1p(d2 / (nu * stretch))) / math.log(2)


def bayesian_surprise(items: Embeddings, density: GaussianDensity, memory: ExposureMemory) -> Tensor:
    """How far a picture moves the viewer's belief: KL(belief after it | belief before it), [N] bits.

        KL = 1/2 [d (kappa/(kappa + 1) - 1 + ln((kappa + 1)/kappa)) + kappa/(kappa + 1)^2 D2]    nats

    It fades as 1 / kappa with exposure. Itti & Baldi (2009).
    """
    density.space.require_same(items.space, "pictures to score")
    belief = memory.belief(density)
    kappa, d = belief.kappa, len(density.mean)
    d2 = _mahalanobis(belief, density, items.vectors.double())
    spread = d * (math.log1p(1 / kappa) - 1 / (kappa + 1))
    return 0.5 * (spread + kappa / (kappa + 1) ** 2 * d2) / math.log(2)


def conformity(items: Embeddings, density: GaussianDensity) -> Tensor:
    """Cosine of every picture to the density's mean, [N]."""
    density.space.require_same(items.space, "pictures to score")
    return normalize(items.vectors.double(), dim=1) @ normalize(density.mean, dim=0)


def _about(belief: Belief, density: GaussianDensity, x: Tensor) -> Tensor:
    """The density's score about the belief's mean instead of its own, [N]."""
    return density.score(x - (belief.mean - density.mean))


def _mahalanobis(belief: Belief, density: GaussianDensity, x: Tensor) -> Tensor:
    """D2 = (x - m)' Sigma^-1 (x - m) about the belief's mean, [N]; also where the density's own score is another."""
    return GaussianDensity.score(density, x - (belief.mean - density.mean))


def _line(i: int, row: dict) -> tuple[str, ...]:
    """The texts of one line of `Novelty.table`; what an empty memory cannot say is a dash."""
    seen, one_in = row["nearest"] >= 0, one_in_from_bits(row["novelty"])
    return (
        row["label"] or str(i),
        f"{row['novelty']:.2f}",
        f"{row['bits_low']:.1f}-{row['bits_high']:.1f}",
        f"{one_in:,.0f}" if one_in < 1e9 else "over 1e9",
        f"{row['global_bits']:.2f}",
        f"{row['local_bits']:.2f}" if seen else "-",
        f"{row['information_gain']:.2f}",
        (row["nearest_label"] or str(row["nearest"])) if seen else "-",
        f"{row['survival']:.1%}" if seen else "-",
        f"{row['conformity']:.3f}",
    )
