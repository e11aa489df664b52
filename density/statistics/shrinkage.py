"""How far to shrink a covariance towards a sphere. It follows from sums that merge, without a second pass."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from ..base.errors import RarityError
from ..base.tensors import plain
from .moments import Moments, centre, chunks


class RadialMoments:
    """Moments, and the sum of |x - mean|^4 that the Ledoit-Wolf intensity needs; in one pass and in any order.

    With y = x - mean over n rows, S = sum y y', V = sum |y|^2 y and F = sum |y|^4. About a point at the distance d from
    the mean the rows are y + d. Because sum y = 0:

        V' = V + 2 S d + (tr S + n |d|^2) d
        F' = F + 4 d'V + 4 d'S d + 2 |d|^2 tr S + n |d|^4

    (expand |y + d|^2 = |y|^2 + 2 y'd + |d|^2). To merge two sets, both are moved to their common mean and added. So the
    fourth moment needs only the third, which is a vector: d + 1 numbers beside `Moments`.

    Parameters
    ----------
    width : number of dimensions d.

    Attributes
    ----------
    moments : count, mean and scatter.   third : [d] float64, V.   fourth : F.
    """

    def __init__(self, width: int):
        self.moments = Moments(width)
        with plain():
            self.third = torch.zeros(width, dtype=torch.float64)
        self.fourth = 0.0

    def update(self, batch: Tensor) -> RadialMoments:
        """Take in a batch [b, d] and return self.

        Raises
        ------
        RarityError : a batch of another width, or rows that are not finite (nothing is taken in then).
        """
        self.moments.check(batch)
        with plain():
            for rows in chunks(batch.detach()):
                if len(rows):
                    self._take(*centre(rows))
        return self

    def merge(self, other: RadialMoments) -> RadialMoments:
        """The moments of both sets of rows together. The two sets stay as they are."""
        if len(other.third) != len(self.third):
            raise RarityError(f"Moments of width {len(self.third)} and {len(other.third)} cannot be merged.")
        return RadialMoments.joined([self, other])

    @classmethod
    def joined(cls, parts: Sequence[RadialMoments]) -> RadialMoments:
        """The moments of all parts together; all have one width."""
        both = cls(len(parts[0].third))
        both.moments = Moments.joined([part.moments for part in parts])
        for part in parts:
            third, fourth = part._about(both.moments.mean)
            both.third, both.fourth = both.third + third, both.fourth + fourth
        return both

    def _take(self, mean: Tensor, centred: Tensor, rest: Tensor) -> None:
        """Take in rows as `centre` returns them: S d from the rows themselves, for their scatter is never formed."""
        b, n = len(centred), self.moments.count
        point = self.moments.mean + (mean - self.moments.mean) * (b / (n + b))
        lengths = torch.linalg.vector_norm(centred, dim=1).cpu().double().square()
        third = (centred.T @ lengths.to(centred.dtype).to(centred.device)).cpu().double()
        d = mean - point
        pushed = (centred.T @ (centred @ d.to(centred.dtype).to(centred.device))).cpu().double()
        moved = _moved(third, float(lengths.square().sum()), pushed, float(lengths.sum()), b, d)
        own = self._about(point)
        self.third, self.fourth = own[0] + moved[0], own[1] + moved[1]
        self.moments.take(mean, centred, rest)

    def _about(self, point: Tensor) -> tuple[Tensor, float]:
        """V and F about a point [d] instead of the mean."""
        d, moments = self.moments.mean - point, self.moments
        trace = float(moments.diagonal().sum())
        return _moved(self.third, self.fourth, moments.times(d), trace, moments.count, d)


def _moved(third: Tensor, fourth: float, pushed: Tensor, trace: float, n: int, d: Tensor) -> tuple[Tensor, float]:
    """V' and F' of n rows about a point whose offset from their mean is d, from V, F, S d and tr S."""
    far = float(d @ d)
    moved = fourth + 4 * float(d @ third) + 4 * float(d @ pushed) + 2 * far * trace + n * far**2
    return third + 2 * pushed + (trace + n * far) * d, moved


def ledoit_wolf(radial: RadialMoments, width: int = 0) -> float:
    """The Ledoit-Wolf intensity, 0 to 1, which gives the shrunk covariance the smallest expected squared error.

        beta = (F / n - |S|^2) / (d n),   delta = |S - m I|^2 / d,   rho = min(beta, delta) / delta,   m = tr S / d

    Here S is the covariance, and |.| is the Frobenius norm. beta is the squared error of S by chance; delta is the squared
    distance of S from a sphere. Ledoit & Wolf (2004), lemmas 3.2 to 3.4.

    Parameters
    ----------
    radial : of n rows.
    width : d, if the rows are given in coordinates of the fewer directions that they span; 0 is the width of the rows.

    Returns
    -------
    rho. It is 0 if S is a sphere already (one dimension, identical rows): shrinking then changes nothing.

    Raises
    ------
    RarityError : no rows.
    """
    covariance, n = radial.moments.covariance(), radial.moments.count
    d = width or len(covariance)
    delta = _from_sphere(covariance, d) / d
    beta = max(0.0, (radial.fourth / n - float(covariance.square().sum())) / (d * n))
    return min(beta, delta) / delta if delta > 0 else 0.0


def oas(moments: Moments, width: int = 0) -> float:
    """The intensity of oracle approximating shrinkage, 0 to 1. For few Gaussian samples it is better than Ledoit-Wolf.

        rho = min(1, (a + m^2) / ((n + 1) (a - m^2 / d))),   a = |S|^2 / d^2,   m = tr S / d

    Chen, Wiesel, Eldar & Hero (2010), equation 23 without its terms in 2 / d, as in scikit-learn. Parameters as for
    `ledoit_wolf`.

    Returns
    -------
    rho. It is 1, the limit of the formula, if S is a sphere already; and 0 in one dimension, where nothing can shrink.

    Raises
    ------
    RarityError : no rows.
    """
    covariance = moments.covariance()
    d = width or len(covariance)
    if d == 1:
        return 0.0
    size, m = float(covariance.square().sum()) / d**2, float(covariance.trace()) / d
    beyond = (moments.count + 1) * _from_sphere(covariance, d) / d**2
    return min(1.0, (size + m**2) / beyond) if beyond > 0 else 1.0


def shrink(spectrum: Tensor, intensity: float) -> Tensor:
    """Eigenvalues of the shrunk covariance (1 - rho) S + rho m I: (1 - rho) lambda + rho mean(lambda), [d] float64.

    The eigenvectors and the sum stay as they are.

    Raises
    ------
    RarityError : an intensity outside 0 to 1.
    """
    if not 0 <= intensity <= 1:
        raise RarityError(f"A shrinkage intensity is from 0 to 1, got {intensity}.")
    spectrum = spectrum.double()
    return (1 - intensity) * spectrum + intensity * spectrum.mean()


def _from_sphere(covariance: Tensor, d: int) -> float:
    """|S - m I|^2 in d dimensions; S may be given in fewer, and is 0 in the others.

    It is a sum of squares. The shorter |S|^2 - d m^2 would lose its digits if S is nearly a sphere.
    """
    m = covariance.trace() / d
    off = covariance.clone()
    off.diagonal().sub_(m)
    return float(off.square().sum() + (d - len(covariance)) * m**2)
