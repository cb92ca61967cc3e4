"""The best filters by steps: spectral projected gradients, and the descents of the reference."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import torch
from jaxtyping import Float
from torch import Tensor
from torch.linalg import vector_norm

from seewhy.explainers.attention_filter.closed_form import nonzero
from seewhy.explainers.attention_filter.objectives import Objective
from seewhy.explainers.attention_filter.regions import Region, pulled

_MEMORY = 5  # steps back that a loss may be compared with
_ENOUGH = 1e-4  # share of the promised descent that a step must bring
_SHORTER, _LONGEST = 0.25, 1e10
_IDLE = 15  # evaluations that bring nothing, after which a filter is left where it is
_EVERY = 50  # iterations after which the reference looks whether to stop


@dataclass(frozen=True)
class Solved:
    """Filters, and what is known of each.

    Attributes:
        filters: (N, G, S).
        loss: of the head under each.
        gradient: of that loss.
        residual: the KKT residual, as a share of the gradient.
        iterations: evaluations of the loss that each took.
    """

    filters: Float[Tensor, "N G S"]
    loss: Float[Tensor, " N"]
    gradient: Float[Tensor, "N G S"]
    residual: Float[Tensor, " N"]
    iterations: Tensor


def projected(
    objective: Objective,
    region: Region,
    points: Float[Tensor, "N G P"],
    iterations: int,
    tolerance: float,
    rounding: float,
    nothing: Float[Tensor, " N"],
) -> Solved:
    """Spectral projected gradients (Birgin, Martinez and Raydan, SIAM J. Optim. 2000), all filters at once.

    Each filter has its own step and stops by itself, so that one is what it is whatever else is looked for. Nothing
    depends on the loss's scale.

    Args:
        objective: what is minimised.
        region: within what.
        points: where to begin.
        iterations: evaluations of the loss at most, per filter.
        tolerance: the KKT residual at which a filter is done.
        rounding: what part of a loss its format does not tell from nothing.
        nothing: losses that are as good as zero, where zero is the least; 0 otherwise.
    """
    everyone = torch.arange(len(points), device=points.device)
    points = region.project(points)
    loss, gradient = objective(region.filters(points), everyone)
    slope = region.slope(points, gradient)
    residual = region.residual(points, gradient)
    steepness = vector_norm(slope, dim=(1, 2))
    step = vector_norm(points, dim=(1, 2)).clamp_min(region.rho) / nonzero(steepness)
    longest = _LONGEST * step
    recent = loss[:, None].repeat(1, _MEMORY)
    best, idle = loss.clone(), torch.zeros_like(everyone)
    kept = points.clone(), loss.clone(), gradient.clone(), residual.clone()
    taken = torch.ones_like(everyone)
    active = everyone[(residual > tolerance) & (steepness > 0)]
    for turn in range(1, iterations):
        if not len(active):
            break
        at, here = points[active], step[active]
        trial = region.project(at - here[:, None, None] * slope[active])
        moved = trial - at
        found, changed = objective(region.filters(trial), active)
        promised = _ENOUGH * moved.flatten(1).square().sum(1) / (2 * here)
        bound = recent[active].amax(1) - promised + rounding * loss[active].abs()
        taken[active] += 1
        good = found <= bound
        step[active[~good]] *= _SHORTER
        rows, moved, trial = active[good], moved[good], trial[good]
        turned = region.slope(trial, changed[good])
        step[rows] = torch.minimum(_spectral(moved, turned - slope[rows], step[rows], turn), longest[rows])
        points[rows], loss[rows], gradient[rows], slope[rows] = trial, found[good], changed[good], turned
        residual[rows] = region.residual(trial, changed[good])
        recent[rows, turn % _MEMORY] = loss[rows]
        better = loss[active] < best[active] - rounding * best[active].abs()
        idle[active] = torch.where(better, 0, idle[active] + 1)
        best[active] = torch.minimum(best[active], loss[active])
        # Of losses that only rounding tells apart, the filter nearest to an optimum.
        lower = loss < kept[1] - rounding * kept[1].abs()
        same = (loss <= kept[1] + rounding * kept[1].abs()) & (residual < kept[3])
        for old, new in zip(kept, (points, loss, gradient, residual), strict=True):
            old[lower | same] = new[lower | same]
        left = (residual[active] > tolerance) & (idle[active] < _IDLE)
        active = active[left & ((nothing[active] == 0) | (loss[active] > nothing[active]))]
    points, loss, gradient, residual = kept
    return Solved(region.filters(points), loss, gradient, residual, taken)


def _spectral(moved: Tensor, turned: Tensor, before: Tensor, turn: int) -> Float[Tensor, " M"]:
    """The step by which the slope would vanish if the curvature stayed as it was along the last one."""
    moved, turned = moved.flatten(1), turned.flatten(1)
    along = (moved * turned).sum(1)
    long = moved.square().sum(1) / nonzero(along)
    short = along / nonzero(turned.square().sum(1))
    return torch.where(along > 0, short if turn % 2 else long, before / _SHORTER)


@dataclass(frozen=True)
class Descent:
    """How the reference goes down, in variables without a constraint.

    Attributes:
        rule: plain gradient steps or Adam's.
        rate: the first step's length.
        last: the length that it falls to, evenly, over all iterations.
        relative: whether the tolerance is a share of the loss, rather than a difference of losses.
    """

    rule: Literal["sgd", "adam"]
    rate: float
    last: float
    relative: bool


def descended(
    objective: Objective,
    region: Region,
    variables: Float[Tensor, "N G S"],
    how: Descent,
    iterations: int,
    tolerance: float,
) -> Solved:
    """The loop of the reference, all filters at once; each stops by itself.

    Every 50 iterations a filter stops if its loss has changed by less than the tolerance since the last look.
    """
    everyone = torch.arange(len(variables), device=variables.device)
    variables, taken = variables.clone(), torch.zeros_like(everyone)
    last = variables.new_full((len(variables),), float("inf"))
    means, squares = torch.zeros_like(variables), torch.zeros_like(variables)
    active = everyone
    for turn in range(iterations):
        loss, gradient = objective(region.free(variables[active]), active)
        taken[active] += 1
        if turn % _EVERY == 0:
            bound = tolerance * (loss.abs() if how.relative else torch.ones_like(loss))
            going = ~((loss - last[active]).abs() < bound)
            last[active] = loss
            active, gradient = active[going], gradient[going]
            if not len(active):
                break
        change = pulled(region.free, variables[active], gradient)
        if how.rule == "adam":
            means[active] = 0.9 * means[active] + 0.1 * change
            squares[active] = 0.999 * squares[active] + 0.001 * change.square()
            mean, square = (
                means[active] / (1 - 0.9 ** (turn + 1)),
                squares[active] / (1 - 0.999 ** (turn + 1)),
            )
            change = mean / (square.sqrt() + 1e-8)
        variables[active] -= (how.last + (how.rate - how.last) * (1 - turn / iterations)) * change
    filters = region.free(variables)
    loss, gradient = objective(filters, everyone)
    return Solved(filters, loss, gradient, region.residual(filters, gradient), taken)
