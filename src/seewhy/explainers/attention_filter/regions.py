"""The sets that an attention filter is chosen from: what lies nearest, what lies furthest, what is an optimum.

Filters are (N, G, S): N of them, each of G groups of S positions, and each group lies in the set by itself. One group
is the usual case; the frames of a clip may be groups.
"""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from collections.abc import Callable
from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor
from torch.linalg import vector_norm

Pull = Callable[[Tensor], Tensor]

_HALVINGS = 80  # of the interval that a threshold is known to lie in


@dataclass(frozen=True)
class Region(ABC):
    """A set of filters.

    Attributes:
        rho: the norm of each group: L2, but of the simplex, whose entries sum to it.
    """

    rho: float = 1.0

    @abstractmethod
    def project(self, points: Float[Tensor, "N G P"]) -> Float[Tensor, "N G P"]:
        """The nearest points of the set."""

    @abstractmethod
    def furthest(self, direction: Float[Tensor, "N G S"]) -> Float[Tensor, "N G S"]:
        """The filters that maximise <direction, f>: the optimum where the loss is linear."""

    @abstractmethod
    def residual(
        self, points: Float[Tensor, "N G P"], gradient: Float[Tensor, "N G S"]
    ) -> Float[Tensor, " N"]:
        """How far a filter is from a stationary point, as a share of the loss's gradient; 0 at an optimum."""

    @abstractmethod
    def free(self, variables: Float[Tensor, "N G S"]) -> Float[Tensor, "N G S"]:
        """Filters of unconstrained variables, as the reference has them."""

    def uniform(self, like: Float[Tensor, "N G S"]) -> Float[Tensor, "N G S"]:
        """The filter that shows all positions alike."""
        return self.project(torch.ones_like(like))

    def starts(self, gradient: Float[Tensor, "N G S"]) -> Float[Tensor, "N G P"]:
        """Points to begin at: the best ones, were the loss as steep everywhere as at the uniform filter."""
        return self.furthest(-gradient)

    def filters(self, points: Float[Tensor, "N G P"]) -> Float[Tensor, "N G S"]:
        """The filters that points stand for; the points themselves unless they are parameters."""
        return points

    def slope(
        self, points: Float[Tensor, "N G P"], gradient: Float[Tensor, "N G S"]
    ) -> Float[Tensor, "N G P"]:
        """The direction in which the loss rises within the set."""
        return gradient


class Sphere(Region):
    """Filters of either sign of norm rho: the constraint of the paper."""

    def project(self, points: Float[Tensor, "N G P"]) -> Float[Tensor, "N G P"]:
        norms = vector_norm(points, dim=-1, keepdim=True)
        uniform = torch.full_like(points, self.rho / math.sqrt(points.shape[-1]))
        return torch.where(norms > 0, self.rho * points / _positive(norms), uniform)

    def furthest(self, direction: Float[Tensor, "N G S"]) -> Float[Tensor, "N G S"]:
        return self.project(direction)

    def slope(
        self, points: Float[Tensor, "N G P"], gradient: Float[Tensor, "N G S"]
    ) -> Float[Tensor, "N G P"]:
        outward = (gradient * points).sum(-1, keepdim=True) / self.rho**2
        return gradient - outward * points

    def residual(
        self, points: Float[Tensor, "N G P"], gradient: Float[Tensor, "N G S"]
    ) -> Float[Tensor, " N"]:
        return _share(self.slope(points, gradient), gradient)

    def free(self, variables: Float[Tensor, "N G S"]) -> Float[Tensor, "N G S"]:
        found: Tensor = self.rho * variables / vector_norm(variables, dim=-1, keepdim=True)
        return found


class NonNegativeSphere(Sphere):
    """Filters without negative entries, of norm rho: our default."""

    def project(self, points: Float[Tensor, "N G P"]) -> Float[Tensor, "N G P"]:
        positive = points.clamp_min(0)
        # Where nothing is positive the nearest point is the corner at the largest entry.
        return super().project(torch.where((positive > 0).any(-1, keepdim=True), positive, _corner(points)))

    def residual(
        self, points: Float[Tensor, "N G P"], gradient: Float[Tensor, "N G S"]
    ) -> Float[Tensor, " N"]:
        slope = self.slope(points, gradient)
        # At zero only a loss that falls when the entry grows speaks against the filter.
        return _share(torch.where(points > 0, slope, slope.clamp_max(0)), gradient)

    def free(self, variables: Float[Tensor, "N G S"]) -> Float[Tensor, "N G S"]:
        return super().free(variables.abs())


class _Convex(Region):
    """Sets whose stationary points are those that a step down and back to the set leaves where they are."""

    def residual(
        self, points: Float[Tensor, "N G P"], gradient: Float[Tensor, "N G S"]
    ) -> Float[Tensor, " N"]:
        size = _positive(vector_norm(gradient, dim=(1, 2)))
        scale = vector_norm(points, dim=(1, 2)).clamp_min(self.rho)
        step = gradient / size[:, None, None] * scale[:, None, None]
        found: Tensor = vector_norm(self.project(points - step) - points, dim=(1, 2)) / scale
        return found


class Simplex(_Convex):
    """Filters without negative entries whose sum is rho: the softmax of the reference's ablation."""

    def project(self, points: Float[Tensor, "N G P"]) -> Float[Tensor, "N G P"]:
        ordered = points.sort(dim=-1, descending=True).values
        counts = torch.arange(1, points.shape[-1] + 1, device=points.device, dtype=points.dtype)
        thresholds = (ordered.cumsum(-1) - self.rho) / counts
        kept = (ordered > thresholds).sum(-1, keepdim=True).clamp_min(1)
        return (points - thresholds.gather(-1, kept - 1)).clamp_min(0)

    def furthest(self, direction: Float[Tensor, "N G S"]) -> Float[Tensor, "N G S"]:
        return self.rho * _corner(direction)

    def free(self, variables: Float[Tensor, "N G S"]) -> Float[Tensor, "N G S"]:
        return self.rho * variables.softmax(-1)


@dataclass(frozen=True)
class Box(_Convex):
    """Filters with entries in [0, 1] that show at most a share of the positions.

    Attributes:
        area: the most that a group's mean may be.
    """

    area: float = 0.25

    def project(self, points: Float[Tensor, "N G P"]) -> Float[Tensor, "N G P"]:
        budget = self.area * points.shape[-1]
        low = torch.zeros_like(points[..., :1])
        high = points.amax(-1, keepdim=True).clamp_min(0)
        for _ in range(_HALVINGS):
            middle = (low + high) / 2
            above = (points - middle).clamp(0, 1).sum(-1, keepdim=True) > budget
            low, high = torch.where(above, middle, low), torch.where(above, high, middle)
        inside = points.clamp(0, 1)
        fits = inside.sum(-1, keepdim=True) <= budget
        return torch.where(fits, inside, (points - high).clamp(0, 1))

    def furthest(self, direction: Float[Tensor, "N G S"]) -> Float[Tensor, "N G S"]:
        ranks = direction.argsort(dim=-1, descending=True, stable=True).argsort(dim=-1).to(direction.dtype)
        budget = self.area * direction.shape[-1]
        return (budget - ranks).clamp(0, 1) * (direction > 0)

    def free(self, variables: Float[Tensor, "N G S"]) -> Float[Tensor, "N G S"]:
        raise NotImplementedError


def pulled(filters: Pull, points: Tensor, gradient: Tensor) -> Tensor:
    """The gradient with respect to what filters are made of."""
    with torch.inference_mode(False), torch.enable_grad():
        leaf = points.detach().clone().requires_grad_()
        found: Tensor = torch.autograd.grad(filters(leaf), leaf, gradient.clone())[0]
    return found


def _share(part: Float[Tensor, "N G S"], whole: Float[Tensor, "N G S"]) -> Float[Tensor, " N"]:
    found: Tensor = vector_norm(part, dim=(1, 2)) / _positive(vector_norm(whole, dim=(1, 2)))
    return found


def _corner(points: Float[Tensor, "N G S"]) -> Float[Tensor, "N G S"]:
    """One at the largest entry, zero elsewhere."""
    return torch.zeros_like(points).scatter(-1, points.argmax(-1, keepdim=True), 1.0)


def _positive(values: Tensor) -> Tensor:
    """Divisors: 1 where there is nothing to divide."""
    return torch.where(values > 0, values, 1.0)
