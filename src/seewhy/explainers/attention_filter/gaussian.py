"""Filters that are one Gaussian on the grid, of learned mean and covariance."""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor
from torch.linalg import vector_norm

from seewhy.explainers.attention_filter.regions import Region, pulled

_NARROWEST, _WIDEST = 0.3, 2.0  # standard deviation: in cells, and in longest sides of the grid


@dataclass(frozen=True)
class Gaussian(Region):
    """Gaussians of norm rho on a grid of any number of axes; points are their parameters.

    These are the mean, in longest sides of the grid, and the Cholesky factor of the inverse covariance, its diagonal as
    logarithms.

    Attributes:
        grid: the lengths of the axes of one group.
    """

    grid: tuple[int, ...] = (7, 7)

    def filters(self, points: Float[Tensor, "N G P"]) -> Float[Tensor, "N G S"]:
        mean, factor = self._split(points)
        apart = self._places(points) - mean[..., None, :]
        exponents = -(apart @ factor).square().sum(-1) / 2
        # Not to underflow where the mean lies between narrow cells.
        heights = (exponents - exponents.amax(-1, keepdim=True)).exp()
        found: Tensor = self.rho * heights / vector_norm(heights, dim=-1, keepdim=True)
        return found

    def project(self, points: Float[Tensor, "N G P"]) -> Float[Tensor, "N G P"]:
        low, high = self._bounds(points)
        return points.clamp(low, high)

    def slope(
        self, points: Float[Tensor, "N G P"], gradient: Float[Tensor, "N G S"]
    ) -> Float[Tensor, "N G P"]:
        return pulled(self.filters, points, gradient)

    def furthest(self, direction: Float[Tensor, "N G S"]) -> Float[Tensor, "N G S"]:
        """The Gaussian with the mean and the covariance of the direction's positive part: near the furthest."""
        return self.filters(self.starts(-direction))

    def uniform(self, like: Float[Tensor, "N G S"]) -> Float[Tensor, "N G S"]:
        return torch.full_like(like, self.rho / math.sqrt(like.shape[-1]))

    def starts(self, gradient: Float[Tensor, "N G S"]) -> Float[Tensor, "N G P"]:
        weights = (-gradient).clamp_min(0)
        weights = torch.where((weights > 0).any(-1, keepdim=True), weights, 1.0)
        weights = weights / weights.sum(-1, keepdim=True)
        places = self._places(gradient)
        mean = weights @ places
        apart = places - mean[..., None, :]
        covariance = torch.einsum("ngs,ngsa,ngsb->ngab", weights, apart, apart)
        least = (_NARROWEST / max(self.grid)) ** 2
        axes = len(self.grid)
        covariance = covariance + least * torch.eye(axes, dtype=gradient.dtype, device=gradient.device)
        factor = torch.linalg.cholesky(torch.linalg.inv(covariance))
        rows, columns = torch.tril_indices(axes, axes)
        entries = factor[..., rows, columns]
        entries = torch.where((rows == columns).to(entries.device), entries.abs().log(), entries)
        return self.project(torch.cat([mean, entries], -1))

    def residual(
        self, points: Float[Tensor, "N G P"], gradient: Float[Tensor, "N G S"]
    ) -> Float[Tensor, " N"]:
        """The slope along the parameters as a share of the gradient, but for those at a bound that they press on."""
        found = self.slope(points, gradient)
        low, high = self._bounds(points)
        held = ((points <= low) & (found > 0)) | ((points >= high) & (found < 0))
        most = self.rho * vector_norm(gradient, dim=(1, 2))
        left: Tensor = vector_norm(torch.where(held, 0.0, found), dim=(1, 2))
        return left / torch.where(most > 0, most, 1.0)

    def free(self, variables: Float[Tensor, "N G S"]) -> Float[Tensor, "N G S"]:
        raise NotImplementedError

    def _split(self, points: Float[Tensor, "N G P"]) -> tuple[Tensor, Tensor]:
        axes = len(self.grid)
        rows, columns = torch.tril_indices(axes, axes)
        entries = points[..., axes:]
        entries = torch.where((rows == columns).to(points.device), entries.exp(), entries)
        # One matrix per entry: a write in place would hide the entries from forward differentiation.
        basis = points.new_zeros((len(rows), axes, axes))
        basis[torch.arange(len(rows)), rows, columns] = 1
        return points[..., :axes], torch.einsum("ngp,pab->ngab", entries, basis)

    def _places(self, like: Tensor) -> Float[Tensor, "S A"]:
        longest = max(self.grid)
        ranges = [torch.arange(n, dtype=like.dtype, device=like.device) / longest for n in self.grid]
        return torch.stack([each.flatten() for each in torch.meshgrid(*ranges, indexing="ij")], -1)

    def _bounds(self, points: Tensor) -> tuple[Tensor, Tensor]:
        """What parameters lie between: means on the grid, and neither spikes nor flat maps."""
        longest, axes = max(self.grid), len(self.grid)
        narrow, wide = longest / _NARROWEST, 1 / _WIDEST
        rows, columns = torch.tril_indices(axes, axes)
        diagonal = (rows == columns).tolist()
        low = [0.0] * axes + [math.log(wide) if each else -narrow for each in diagonal]
        high = [(n - 1) / longest for n in self.grid] + [math.log(narrow) if d else narrow for d in diagonal]
        return points.new_tensor(low), points.new_tensor(high)
