"""How new a picture is to someone: surprise under what the model makes, and under what they have seen."""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn.functional import normalize

from .calibration import Calibration
from .embeddings import Embeddings
from .exposure import Belief, ExposureMemory
from .gaussian import GaussianDensity
from .neighbours import nearest
from .tensors import generator

RESOLUTION = 1e-7  # l: a viewer tells pictures apart to about three ten-thousandths of the spread, squared
UNSEEN = 2000  # distances that say how near to the memory an unseen picture usually lies
BLOCK = 256  # pictures of a session taken in at once


@dataclass(frozen=True, eq=False)
class Novelty:
    """Readings of N pictures, [N] each; bits unless said otherwise.

    Attributes
    ----------
    novelty : the headline, the smaller of `global_bits` and `local_bits`: an odd picture seen before is not new.
    bits : surprise under the density alone, calibrated: 10 bits is 1 in 1,024.
    global_bits : the same about the viewer's belief; `bits` for an empty memory.
    local_bits : -log2 `survival`; infinite for an empty memory.
    surprisal : -log2 of the predictive density (`predictive_surprisal`): only differences mean something.
    bayesian_surprise, information_gain : see the functions of these names.
    nearest : index of the nearest remembered item, -1 for an empty memory.
    distance : Euclidean, to that item, in units of the embedding; infinite for an empty memory.
    survival : the share of unseen pictures at least this far from everything remembered; 0 for an empty memory.
    conformity : cosine to the density's mean; 1 is as ordinary as a direction can be.
    """

    novelty: Tensor
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

    def rows(self) -> list[dict]:
        """One dictionary a picture, JSON values only: what is infinite is None."""
        lists = {name: getattr(self, name).tolist() for name in self.__dataclass_fields__}
        return [
            {name: values[i] if math.isfinite(values[i]) else None for name, values in lists.items()}
            for i in range(len(self.novelty))
        ]


def score_novelty(
    items: Embeddings,
    density: GaussianDensity,
    memory: ExposureMemory,
    *,
    baseline: Embeddings | None = None,
    seed: int = 0,
) -> Novelty:
    """Read every picture under the density and the memory; each by itself, so that their order does not matter.

    Global: the calibrated bits of D2 about the viewer's belief. Local: -log2 S(distance to the nearest item seen),
    where S is learnt from the distances of pictures that were not seen. A Gaussian cannot tell a copy of an odd
    picture from another odd picture; the distance can.

    Parameters
    ----------
    items : N pictures.   memory : what the viewer has seen; may be empty.
    baseline : pictures to learn S from, those in the memory left out; without it, draws from the density.
    seed : of these draws, or of the choice of UNSEEN of the baseline's rows.

    Raises
    ------
    RarityError : different spaces; a baseline of fewer than 50 pictures that were not seen.
    """
    density.space.require_same(items.space, "pictures to score")
    x = items.vectors.double()
    belief = memory.belief(density)
    bits = density.bits(x)
    global_bits = density.calibration.bits(_about(belief, density, x)) if len(memory) or memory.n_eff else bits
    n = len(items)
    local_bits = distance = torch.full((n,), math.inf, dtype=torch.float64)
    index = torch.full((n,), -1)
    if len(memory):
        distance, index = (found[:, 0] for found in nearest(items.vectors, memory.vectors))
        local_bits = unseen_distances(density, memory, baseline=baseline, seed=seed).bits(distance)
    return Novelty(
        novelty=torch.minimum(global_bits, local_bits),
        bits=bits,
        global_bits=global_bits,
        local_bits=local_bits,
        surprisal=predictive_surprisal(items, density, memory),
        bayesian_surprise=bayesian_surprise(items, density, memory),
        information_gain=information_gain(items, density, memory),
        nearest=index,
        distance=distance,
        survival=torch.exp2(-local_bits),
        conformity=conformity(items, density),
    )


def unseen_distances(
    density: GaussianDensity, memory: ExposureMemory, *, baseline: Embeddings | None = None, seed: int = 0
) -> Calibration:
    """The calibration of a distance to the nearest item remembered, from UNSEEN pictures that are not in the memory."""
    if baseline is None:
        unseen = density.sample(UNSEEN, seed).vectors
    else:
        density.space.require_same(baseline.space, "baseline")
        unseen = baseline.vectors[torch.randperm(len(baseline), generator=generator(seed))[:UNSEEN]]
    distances = nearest(unseen, memory.vectors)[0][:, 0]
    return Calibration.fit(distances if baseline is None else distances[distances > 0], seed)


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
    d2 = _about(belief, density, items.vectors.double())
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
    d2 = _about(belief, density, items.vectors.double())
    spread = d * (math.log1p(1 / kappa) - 1 / (kappa + 1))
    return 0.5 * (spread + kappa / (kappa + 1) ** 2 * d2) / math.log(2)


def information_gain(items: Embeddings, density: GaussianDensity, memory: ExposureMemory) -> Tensor:
    """What each picture would teach by itself, [N] bits: the part of it that the pictures seen do not span.

        gain = 1/2 log2(1 + v' (I + sum v_i v_i' / l)^-1 v / l)

    with whitened coordinates v, the sum over what the memory holds, and l = RESOLUTION. A repeat gains half a bit at
    most, whatever its first showing gained. There are d directions only: once they are all spanned, every picture
    gains little, new or not.
    """
    density.space.require_same(items.space, "pictures to score")
    return _gains(_root(density, memory), _whitened(density, items))


def session_gains(items: Embeddings, density: GaussianDensity, memory: ExposureMemory) -> Tensor:
    """What each picture teaches after those before it in `items`, [N] bits; their sum does not depend on the order.

    The sum is 1/2 log2 det(I + sum v v' / l), after less before. It is read off triangular factors: a determinant
    formed from the matrix itself would lose its last seven digits to l.
    """
    density.space.require_same(items.space, "pictures of the session")
    root, gains = _root(density, memory), []
    for v in _whitened(density, items).split(BLOCK):
        t = torch.linalg.solve_triangular(root.T, v.T / math.sqrt(RESOLUTION), upper=False)
        stacked = torch.cat([t, torch.eye(len(v), dtype=torch.float64)])
        gains.append(torch.linalg.qr(stacked, mode="r").R.diagonal().abs().log2())
        root = torch.linalg.qr(torch.cat([root, v / math.sqrt(RESOLUTION)]), mode="r").R
    return torch.cat(gains)


def conformity(items: Embeddings, density: GaussianDensity) -> Tensor:
    """Cosine of every picture to the density's mean, [N]."""
    density.space.require_same(items.space, "pictures to score")
    return normalize(items.vectors.double(), dim=1) @ normalize(density.mean, dim=0)


def _about(belief: Belief, density: GaussianDensity, x: Tensor) -> Tensor:
    """D2 = (x - m)' Sigma^-1 (x - m) about the belief's mean instead of the density's, [N]."""
    return density.score(x - (belief.mean - density.mean))


def _whitened(density: GaussianDensity, items: Embeddings) -> Tensor:
    """v = Sigma^-1/2 (x - mu) in all d dimensions, [N, d]: |v|^2 is D2."""
    w, r = density.whiten(items.vectors)
    return w @ density.basis.T + r / math.sqrt(density.residual_variance)


def _root(density: GaussianDensity, memory: ExposureMemory) -> Tensor:
    """Upper triangular R with R'R = I + sum v v' / l over the memory, [d, d]."""
    values, vectors = torch.linalg.eigh(memory.whitened(density)[2])
    scaled = (1 + values.clamp_min(0) / RESOLUTION).sqrt()[:, None] * vectors.T
    return torch.linalg.qr(scaled, mode="r").R


def _gains(root: Tensor, v: Tensor) -> Tensor:
    t = torch.linalg.solve_triangular(root.T, v.T / math.sqrt(RESOLUTION), upper=False)
    return 0.5 * torch.log1p(t.square().sum(dim=0)) / math.log(2)
