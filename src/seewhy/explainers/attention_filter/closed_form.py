"""Least squares on a sphere: the filters that keep what a linear head answers, by one eigenproblem each."""

from __future__ import annotations

import torch
from jaxtyping import Bool, Float
from torch import Tensor
from torch.linalg import vector_norm

_STEPS = 100  # of the search for the multiplier; it doubles its digits once it is near
_EXACT = 1e-15  # of rho
_NOTHING = 1e-14  # of the largest eigenvalue, per position
_ROUNDING = 1e-12
_ROUNDS = 50  # of exchanges between the positions at zero and the others


def kept(
    gram: Float[Tensor, "N S S"], rho: float, nonnegative: bool
) -> tuple[Float[Tensor, "N S"], Bool[Tensor, " N"]]:
    """The f with |f| = rho that minimises |M (f - 1)|^2, and whether no other does.

    (G + l) f = G 1 with G = M'M, and l such that the norm fits. Of several optima, the one towards f = 1. With
    `nonnegative` f has no negative entry, which is convex up to rho = sqrt(S), and is found by exchanging positions
    between those at zero and the others until all multipliers have their sign.

    Args:
        gram: G, in float64.
        rho: at most sqrt(S) where `nonnegative`.
        nonnegative: whether entries may not be negative.
    """
    free = torch.ones_like(gram[:, 0], dtype=torch.bool)
    if not nonnegative:
        found, _, short = _on_sphere(gram, rho, free, signed=True)
        return found, ~short
    filters = torch.zeros_like(gram[:, 0])
    several = torch.zeros_like(free[:, 0])
    left = torch.arange(len(gram), device=gram.device)
    for _ in range(_ROUNDS):
        found, multiplier, short = _on_sphere(gram[left], rho, free[left], signed=False)
        # How the loss falls where an entry at zero grows; at the others it is zero.
        falls = torch.einsum("nst,nt->ns", gram[left], 1 - found) - multiplier * found
        scale = gram[left].abs().sum(2).amax(1, keepdim=True)
        wanted = torch.where(free[left], found > 0, falls > _ROUNDING * scale)
        filters[left], several[left] = found.clamp_min(0), short
        changed = (wanted != free[left]).any(1) & wanted.any(1)
        left = left[changed]
        if not len(left):
            break
        free[left] = wanted[changed]
    # On the way to ones a loss of zero stays zero.
    filters = torch.where(several[:, None], _until(filters, 1 - filters, rho), filters)
    return filters * rho / nonzero(filters.norm(dim=1, keepdim=True)), ~several


def _on_sphere(
    gram: Float[Tensor, "N S S"], rho: float, free: Tensor, signed: bool
) -> tuple[Float[Tensor, "N S"], Float[Tensor, "N 1"], Bool[Tensor, " N"]]:
    """The optimum with zeros where entries are not free, its multiplier, and whether it was too short without help.

    Then part of it costs nothing, and others are as good. It is brought to length if `signed`, else left as it is.
    """
    shown = free.to(gram.dtype)
    values, vectors = torch.linalg.eigh(gram * shown[:, :, None] * shown[:, None, :])
    values = values.clamp_min(0)
    tiny = _NOTHING * values.shape[1] * values[:, -1:]
    values = torch.where(values <= tiny, 0.0, values)
    target = gram.sum(2) * shown
    parts = torch.where(values == 0, 0.0, torch.einsum("nst,ns->nt", vectors, target))
    floor = -values[:, :1] if signed else torch.zeros_like(tiny)
    # Just above the floor the norm is largest.
    short = _norm(parts, values, floor + tiny) < rho * (1 - _ROUNDING)
    multiplier = torch.where(short, floor, _multiplier(parts, values, floor + tiny, rho))
    lowest = short & (values + multiplier <= tiny)
    found = torch.where(lowest, 0.0, parts / nonzero(values + multiplier))
    # Eigenvectors leave rounding where entries are not free.
    found = torch.einsum("nst,nt->ns", vectors, found) * shown
    if signed:
        # What it lacks of ones is invisible to the loss where there is a null space.
        lacking = 1 - found
        usable = (lacking.norm(dim=1, keepdim=True) > _ROUNDING * rho) & (floor == 0)
        found = torch.where(short, _until(found, torch.where(usable, lacking, vectors[:, :, 0]), rho), found)
    return found, multiplier, short[:, 0]


def _multiplier(parts: Tensor, values: Tensor, low: Tensor, rho: float) -> Float[Tensor, "N 1"]:
    """The l at which |parts / (values + l)| is rho, above `low`, where it is more."""
    high = low.maximum(parts.norm(dim=1, keepdim=True) / rho)
    multiplier = high
    for _ in range(_STEPS):
        size = _norm(parts, values, multiplier)
        if bool(((size - rho).abs() <= _EXACT * rho).all()):
            break
        low, high = torch.where(size > rho, multiplier, low), torch.where(size > rho, high, multiplier)
        # Newton's step on 1 / |f|, which is nearly straight (More and Sorensen, 1983), or the middle.
        curve = (parts.square() / nonzero(values + multiplier) ** 3).sum(1, keepdim=True)
        step = multiplier + (size - rho) / rho * size.square() / nonzero(curve)
        multiplier = torch.where((step > low) & (step < high), step, (low + high) / 2)
    return multiplier


def _norm(parts: Tensor, values: Tensor, multiplier: Tensor) -> Float[Tensor, "N 1"]:
    found: Tensor = vector_norm(parts / nonzero(values + multiplier), dim=1, keepdim=True)
    return found


def _until(found: Tensor, along: Tensor, rho: float) -> Tensor:
    """`found + t along`, with the t >= 0 for which the length is rho."""
    squared = along.square().sum(1, keepdim=True)
    cross = (found * along).sum(1, keepdim=True)
    lacking = (rho**2 - found.square().sum(1, keepdim=True)).clamp_min(0)
    root = (cross.square() + squared * lacking).sqrt()
    return found + (root - cross) / nonzero(squared) * along


def nonzero(values: Tensor) -> Tensor:
    """Divisors: 1 where there is nothing to divide."""
    return torch.where(values == 0, 1.0, values)
