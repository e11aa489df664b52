"""The shell of one rarity: each of its points is a unit direction, with the radius at which that rarity is reached."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn.functional import normalize

from ..base.tensors import normal_rows
from ..estimators.contract import Density
from ..estimators.frame import Frame

# A radius is searched in at most MOST_ROUNDS rounds, each a step of Newton's or a halving of the bracket; usually a few
# are enough. The search ends when the score misses the target by the share CLOSE, which no calibration can show.
MOST_ROUNDS, CLOSE = 60, 1e-11


def shell(
    density: Density, x: Tensor, limit: float, target: float | Tensor, seed: int
) -> GaussianShell | MixtureShell:
    """The shell on which rows are moved. Its `start` [N, k] holds the rows' unit directions.

    Parameters
    ----------
    x : [N, d], the rows to move.   target : the score of all points on the shell, or one for each row, [N, 1].
    limit : the largest Q; longer residuals are shortened to it.   seed : of the direction of a row at the very centre.
    """
    kind = GaussianShell if density.modes is None else MixtureShell
    return kind(density, x, limit, target, seed)


class GaussianShell:
    """All points of score `target` around a Gaussian: for a row with its own residual, a sphere in whitened w.

        D2 = |w|^2 + |r|^2 / sigma2 = target,    w = radius u,    r = r_x sqrt(target / D2(x))

    The residual grows as the row moves outwards. It keeps its share of D2, up to its usual share (d - k) / d and the
    limit. Rare samples have both a long w and a long residual; with the residual unchanged, w alone would have to make
    the row rarer.
    """

    def __init__(self, density: Density, x: Tensor, limit: float, target: float | Tensor, seed: int):
        self.frame = density.frame
        w, r = self.frame.whiten(x)
        self.r = _scaled(r, density.score(x)[:, None], target, self.frame, limit)
        # The residual takes part of the target's D2; the radius takes the rest.
        self.radius = (target - self.r.square().sum(dim=1, keepdim=True) / self.frame.residual_variance).sqrt()
        self.start = _directions(w, self.frame, seed)

    def place(self, u: Tensor) -> Tensor:
        """The points in directions u [N, k], [N, d] float64."""
        return self.frame.unwhiten(self.radius * u, self.r)

    def pull_back(self, gradient: Tensor, u: Tensor) -> Tensor:
        """Turn gradients in x [N, d] into gradients in u [N, k], by the chain rule of `place`."""
        return self.radius * self.frame.variances.sqrt() * (gradient @ self.frame.basis)


class MixtureShell:
    """All points of score `target` of a mixture. A row reaches them on rays from the centre of its own mode.

    Row n belongs to its most responsible mode j. That mode's own whitened coordinates v are (w_m - mu_j) P_j and the
    other entries of w, unchanged. A ray rho u starts at the mode's centre. Along it the square for every mode i is

        |(w_m - mu_i) P_i|^2 = |c|^2 + 2 rho c'd + rho^2 |d|^2,    c = (mu_j - mu_i) P_i,    d = u_m P_j^-1 P_i,

    so the score along the ray and its slope have closed forms. A mixture is nowhere less dense than any of its modes,
    so the mode's own sphere of the target score lies inside the shell. From this sphere Newton's steps, kept inside a
    bracket, find rho. With a single mode the sphere is the shell itself, that of a Gaussian. The residual keeps its
    share of |v|^2 + |r|^2 / sigma2, as far as there is room between the mode's centre and the target.

    A mode whose very centre is rarer than the target has no shell. Its rows keep their |v| and lose their residual;
    their score shows that they are not at the target.
    """

    def __init__(self, density: Density, x: Tensor, limit: float, target: float | Tensor, seed: int):
        self.frame = density.frame
        means, self.factors = density.modes.means, density.modes.factors
        self.mixed = m = means.shape[1]
        self.alone = 2 * (density.modes.log_peak - density.modes.heights())  # score of each centre by its own mode, [K]
        w, r = self.frame.whiten(x)
        own = torch.einsum("nkm,kml->nkl", w[:, None, :m] - means, self.factors)
        mode = (self.alone + own.square().sum(dim=2)).argmin(dim=1)
        self.mean, self.spread = means[mode], torch.linalg.inv(self.factors)[mode]
        self.apart = torch.einsum("nkm,kml->nkl", self.mean[:, None] - means, self.factors)
        self.depth = self.alone + self.apart.square().sum(dim=2)
        centre = -2 * (-self.depth / 2).logsumexp(dim=1, keepdim=True)
        v = torch.cat([own[torch.arange(len(w)), mode], w[:, m:]], dim=1)
        out = v.square().sum(dim=1, keepdim=True) + r.square().sum(dim=1, keepdim=True) / self.frame.residual_variance
        self.r = _scaled(r, out, (target - centre).clamp_min(0), self.frame, limit)
        self.room = target - self.r.square().sum(dim=1, keepdim=True) / self.frame.residual_variance
        self.inner = (self.room - self.alone[mode, None]).clamp_min(0).sqrt()
        self.shellless, self.distance = centre >= self.room, v.norm(dim=1, keepdim=True)
        self.start = _directions(v, self.frame, seed)

    def place(self, u: Tensor) -> Tensor:
        """The points in directions u [N, k], [N, d] float64."""
        v = self._radius(u, self._turned(u)) * u
        leading = self.mean + (v[:, None, : self.mixed] @ self.spread)[:, 0]
        return self.frame.unwhiten(torch.cat([leading, v[:, self.mixed :]], dim=1), self.r)

    def pull_back(self, gradient: Tensor, u: Tensor) -> Tensor:
        """Turn gradients in x [N, d] into gradients in u [N, k], by the chain rule of `place`.

        The radius depends on u, too. The score s stays at the target, so  d rho = - rho (ds/dv) du / (ds/dv u).
        """
        turned = self._turned(u)
        radius = self._radius(u, turned)
        steps = self.apart + radius[:, :, None] * turned
        slope = torch.einsum("nk,nkl,kml->nm", self._shares(radius, turned), steps, self.factors)
        uphill = torch.cat([self._own(slope), radius * u[:, self.mixed :]], dim=1)
        pulled = self.frame.variances.sqrt() * (gradient @ self.frame.basis)
        pulled = torch.cat([self._own(pulled[:, : self.mixed]), pulled[:, self.mixed :]], dim=1)
        along = (uphill * u).sum(dim=1, keepdim=True)
        turn = (pulled * u).sum(dim=1, keepdim=True) / along.clamp_min(1e-9) * uphill
        return radius * (pulled - torch.where(self.shellless, 0.0, turn))

    def _turned(self, u: Tensor) -> Tensor:
        """d of the class's formula for every mode, [N, K, m]."""
        return torch.einsum("nm,kml->nkl", (u[:, None, : self.mixed] @ self.spread)[:, 0], self.factors)

    def _own(self, g: Tensor) -> Tensor:
        """Turn gradients in the leading w [N, m] into gradients in the mode's own v."""
        return (self.spread @ g[:, :, None])[:, :, 0]

    def _shares(self, radius: Tensor, turned: Tensor) -> Tensor:
        """How responsible each mode is for the points at these radii, [N, K]."""
        far = (self.apart + radius[:, :, None] * turned).square().sum(dim=2)
        return torch.softmax(-(self.alone + far) / 2, dim=1)

    def _radius(self, u: Tensor, turned: Tensor) -> Tensor:
        """The rho of each ray at which the score is the target, [N, 1]."""
        linear, square = (self.apart * turned).sum(dim=2), turned.square().sum(dim=2)
        rest = u[:, self.mixed :].square().sum(dim=1, keepdim=True)

        def excess(rho: Tensor) -> tuple[Tensor, Tensor]:
            seen = -(self.depth + 2 * rho * linear + rho.square() * square) / 2
            slope = (torch.softmax(seen, dim=1) * (linear + rho * square)).sum(dim=1, keepdim=True) + rho * rest
            return -2 * seen.logsumexp(dim=1, keepdim=True) + rho.square() * rest - self.room, 2 * slope

        low, high = self.inner, 2 * self.inner + 1
        for _ in range(MOST_ROUNDS):
            beyond = excess(high)[0] > 0
            if beyond.all():
                break
            high = torch.where(beyond, high, 2 * high)
        rho = low
        for _ in range(MOST_ROUNDS):
            gap, slope = excess(rho)
            done = (gap.abs() <= CLOSE * self.room) | self.shellless
            if done.all():
                break
            low, high = torch.where(gap <= 0, rho, low), torch.where(gap > 0, rho, high)
            step = rho - gap / slope
            step = torch.where((step > low) & (step < high), step, (low + high) / 2)
            rho = torch.where(done, rho, step)
        return torch.where(self.shellless, self.distance, rho)


def _scaled(r: Tensor, score: Tensor, room: float | Tensor, frame: Frame, limit: float) -> Tensor:
    """Scale residuals r [N, d] so that their share of `room` is their share of the rows' present score [N, 1].

        r sqrt(min(room / score, limit / Q, sigma2 room (d - k) / d / Q)),    Q = |r|^2
    """
    d, k = frame.basis.shape
    room = torch.as_tensor(room, dtype=torch.float64)
    q = r.square().sum(dim=1, keepdim=True)
    most = (frame.residual_variance * room * (d - k) / d).clamp_max(limit)
    return r * torch.minimum(room / score.clamp_min(1e-300), most / q.clamp_min(1e-300)).sqrt()


def _directions(w: Tensor, frame: Frame, seed: int) -> Tensor:
    """Unit directions of w, [N, k]. A row at the very centre gets a seeded one, which is drawn in the space.

    A draw in the axes would differ between processors, because axes of nearly equal variance do.
    """
    any_way = normal_rows(len(w), len(frame.mean), seed) @ frame.basis
    return normalize(torch.where(w.norm(dim=1, keepdim=True) > 1e-4, w, any_way), dim=1)
