"""Attention filters of any activation and head: the right solver for each, and what proves the result."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Literal

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from seewhy.errors import InputError, NotApplicableError
from seewhy.explainers.attention_filter.closed_form import kept
from seewhy.explainers.attention_filter.gaussian import Gaussian
from seewhy.explainers.attention_filter.linear_head import LinearHead, learned
from seewhy.explainers.attention_filter.objectives import (
    Linear,
    Objective,
    Quadratic,
    Replayed,
    Run,
    matching,
    raising,
    sees_averages,
)
from seewhy.explainers.attention_filter.regions import Box, NonNegativeSphere, Region, Simplex, Sphere
from seewhy.explainers.attention_filter.solver import Descent, Solved, descended, projected
from seewhy.explainers.linearity import probed
from seewhy.network.precision import exact_type

Constraint = Literal["non-negative", "sphere", "simplex", "gaussian", "box"]
Solver = Literal["auto", "closed-form", "riemannian", "adam", "sgd"]

_NOTHING = 1e-10  # of the mean square of the outputs


@dataclass(frozen=True)
class Search:
    """What filter is looked for, and how.

    Attributes:
        constraint: the set that it lies in.
        rho: its norm.
        area: of a box, the largest share of the positions.
        separate: how many leading axes of the grid number groups, each in the set by itself: 1 for frames.
        solver: `auto`, or by name.
        iterations: evaluations of the head at most, per filter.
        tolerance: the KKT residual at which `riemannian` is done; what the loss changes by in 50 steps of the others.
        descent: how `adam` and `sgd` go down.
    """

    constraint: Constraint = "non-negative"
    rho: float = 1.0
    area: float = 0.25
    separate: int = 0
    solver: Solver = "auto"
    iterations: int = 300
    tolerance: float = 1e-6
    descent: Descent = field(default_factory=lambda: Descent("adam", 0.5, 0.0, True))

    def region(self, grid: tuple[int, ...]) -> Region:
        """The set, for groups of this shape."""
        if self.constraint == "gaussian":
            return Gaussian(self.rho, grid)
        if self.constraint == "box":
            return Box(area=self.area)
        kinds = {"non-negative": NonNegativeSphere, "sphere": Sphere, "simplex": Simplex}
        return kinds[self.constraint](self.rho)


@dataclass(frozen=True)
class Subject:
    """What is filtered, and what the filter shall do.

    Attributes:
        activation: of the layer.
        run: the head.
        outputs: of the unfiltered pictures.
        coefficients: how much of each output the filters raise; None to keep the outputs as they are.
        linear: the head as a matrix, where it is one.
    """

    activation: Float[Tensor, "B K *grid"]
    run: Run
    outputs: Float[Tensor, "B D"]
    coefficients: Float[Tensor, "B T D"] | None = None
    linear: LinearHead | None = None

    @property
    def keeps(self) -> bool:
        """Whether outputs are to be kept, rather than raised."""
        return self.coefficients is None

    @property
    def targets(self) -> int:
        """How many filters per picture."""
        return 1 if self.coefficients is None else self.coefficients.shape[1]


@dataclass(frozen=True)
class Filters:
    """The filters found, with their certificate.

    Attributes:
        values: the filters.
        loss: of the head under each.
        residual: the KKT residual, as a share of the loss's gradient: 0 at an optimum.
        iterations: evaluations of the head that each took; 0 where a formula gives it.
        solver: which.
        unique: whether no other filter is as good, as far as it is known.
        evidence: whether showing more of any position would lower the loss.
        even: whether the uniform filter keeps the outputs, as on normalised embeddings.
        dark: positions with a negative filter to which the head is deaf, as behind a ReLU.
        sensitivity: the loss's gradient at each group, as a share of the largest; 0 where the head reads it not.
        evaluations: filtered activations run through the head and differentiated, all together.
    """

    values: Float[Tensor, "B T *grid"]
    loss: Float[Tensor, "B T"]
    residual: Float[Tensor, "B T"]
    iterations: Tensor
    solver: str
    unique: Bool[Tensor, "B T"]
    evidence: Bool[Tensor, "B T"]
    even: Bool[Tensor, "B T"]
    dark: Tensor
    sensitivity: Float[Tensor, "B T G"]
    evaluations: int


def attention_filter(
    activation: Float[Tensor, "B K *grid"],
    head: Callable[[Tensor], Tensor],
    coefficients: Float[Tensor, "B T D"] | None = None,
    *,
    search: Search | None = None,
    linear: LinearHead | None = None,
    starts: Float[Tensor, "N G S"] | None = None,
) -> Filters:
    """Filters of any activation for any head (Taha et al., ECCV 2020), all pictures and targets together.

    Args:
        activation: what is filtered, on a grid of any number of axes.
        head: from activations (M, K, *grid) to outputs (M, D); rows must not depend on each other.
        coefficients: how much of each output the T filters of a picture raise, as 1 for a class and -1 for the others;
            None to find the filter that keeps all outputs as they are.
        search: constraint, norm and solver.
        linear: the head as a matrix, if it is known; otherwise whether it is affine is measured.
        starts: where an iterative solver begins.

    Returns:
        The filters with their losses and KKT residuals.

    Raises:
        NotApplicableError: a closed form was asked for, and there is none.

    Example:
        >>> pool = torch.nn.Sequential(torch.nn.AdaptiveAvgPool2d(1), torch.nn.Flatten(), torch.nn.Linear(8, 3))
        >>> attention_filter(torch.rand(2, 8, 7, 7), pool).values.shape
        torch.Size([2, 1, 7, 7])
    """
    search = search or Search()

    def run(maps: Tensor, _pictures: Tensor) -> Tensor:
        return head(maps)

    with torch.no_grad():
        outputs = head(activation)
    if linear is None and search.solver in ("auto", "closed-form"):
        shape = probed(head, activation[:1])
        linear = None if shape.not_affine else learned(run, activation[:1], not shape.not_pooled)
    return solve(Subject(activation, run, outputs, coefficients, linear), search, starts)


def solve(subject: Subject, search: Search, starts: Float[Tensor, "N G S"] | None = None) -> Filters:
    """The filters of a subject.

    Raises:
        InputError: `separate` does not fit the grid.
        NotApplicableError: a closed form was asked for, and there is none.
    """
    grid = tuple(subject.activation.shape[2:])
    if not 0 <= search.separate < len(grid):
        raise InputError(f"separate={search.separate}, but the grid has {len(grid)} axes; leave one at least")
    if search.solver in ("adam", "sgd") and search.constraint in ("box", "gaussian"):
        raise InputError(f"solver={search.solver!r} knows no {search.constraint} filters; 'riemannian' does")
    groups = math.prod(grid[: search.separate])
    by_steps = search.solver in ("riemannian", "adam", "sgd") or starts is not None
    matrix = None if by_steps else _model(subject, groups)
    problem = _Problem(subject, search, search.region(grid[search.separate :]), groups, matrix)
    if matrix is not None and problem.has_formula:
        return problem.by_formula(matrix)
    if search.solver == "closed-form":
        raise NotApplicableError(
            "there is no closed form here: the head must be affine in the layer, and the constraint a sphere, or no "
            "Gaussian and classes asked for; solver='auto' finds the filter by steps"
        )
    return problem.by_descent(starts) if search.solver in ("adam", "sgd") else problem.by_projection(starts)


def _model(subject: Subject, groups: int) -> Linear | Quadratic | None:
    """The loss as a function of the filter alone, where the head is a matrix."""
    linear, activation = subject.linear, subject.activation
    if linear is None or not linear.agrees(activation, subject.outputs):
        return None
    exact = exact_type(activation.device)
    if subject.coefficients is None:
        return Quadratic(linear.gram(activation) / subject.outputs.shape[1])
    direction = linear.maps(activation, subject.coefficients).to(exact)
    offset = -(subject.coefficients @ linear.bias).flatten().to(exact)
    return Linear(direction.reshape(len(offset), groups, -1), offset)


class _Problem:
    """A subject, the set that its N filters lie in, and the loss."""

    def __init__(
        self, subject: Subject, search: Search, region: Region, groups: int, matrix: Linear | Quadratic | None
    ) -> None:
        self.subject, self.search, self.region, self.groups = subject, search, region, groups
        activation, targets = subject.activation, subject.targets
        self.count = targets * len(activation)
        self.rows = torch.arange(self.count, device=activation.device)
        pictures = self.rows // targets
        if subject.coefficients is None:
            loss = matching(subject.outputs, pictures)
        else:
            loss = raising(subject.coefficients.flatten(0, 1))
        pooled = matrix is None and sees_averages(subject.run, activation)
        self.head = Replayed(activation, pictures, subject.run, loss, pooled)
        # Steps on the head's matrix run no head.
        self.objective: Objective = self.head if matrix is None else matrix
        self.rounding = 4 * torch.finfo(activation.dtype if matrix is None else self.exact).eps
        # Of the mean square of the outputs: below it a loss is zero.
        self.nothing = subject.keeps * subject.outputs.square().mean(1).to(self.exact)[pictures]

    @property
    def exact(self) -> torch.dtype:
        return exact_type(self.subject.activation.device)

    @property
    def has_formula(self) -> bool:
        """Whether the optimum of the loss on the matrix is known without a search."""
        if isinstance(self.objective, Linear):
            return not isinstance(self.region, Gaussian)
        positions = self.subject.activation[0, 0].numel()
        convex = self.region.rho**2 <= positions * (1 + 1e-12)
        return type(self.region) is Sphere or (
            isinstance(self.region, Sphere) and convex and self.groups == 1
        )

    def by_formula(self, matrix: Linear | Quadratic) -> Filters:
        if isinstance(matrix, Linear):
            filters = self.region.furthest(matrix.direction)
            unique = matrix.direction.flatten(1).any(1)
        else:
            found, unique = kept(matrix.gram, self.region.rho, isinstance(self.region, NonNegativeSphere))
            filters = found[:, None]
        loss, gradient = matrix(filters, self.rows)
        residual = self.region.residual(filters, gradient)
        solved = Solved(filters, loss, gradient, residual, torch.zeros_like(self.rows))
        if bool(((residual > self.search.tolerance) & (loss > _NOTHING * self.nothing)).any()):
            # Exchanges between positions at zero and others that went round in circles.
            solved = self._projected(filters)
        return self._certified(solved, "closed-form", unique)

    def by_projection(self, starts: Float[Tensor, "N G S"] | None) -> Filters:
        uniform = self.region.uniform(self._ones())
        loss, gradient = self.objective(uniform, self.rows)
        even = loss <= _NOTHING * self.nothing
        if starts is not None:
            points = starts
        elif type(self.region) is Sphere:
            _, mirrored = self.objective(-uniform, self.rows)
            points = self.region.furthest(_steeper(-gradient, -mirrored))
        else:
            points = self.region.starts(gradient)
        if starts is None and points.shape == uniform.shape:
            other, _ = self.objective(points, self.rows)
            points = torch.where((other < loss)[:, None, None], points, uniform)
        solved = self._projected(points)
        # A loss of zero by fewer equations than positions has other solutions near by.
        fewer = self.subject.keeps and self.subject.outputs.shape[1] < uniform[0].numel()
        unique = (solved.loss > _NOTHING * self.nothing) | (not fewer)
        return self._certified(solved, "riemannian", unique, even)

    def by_descent(self, starts: Float[Tensor, "N G S"] | None) -> Filters:
        search = self.search
        variables = self._ones() if starts is None else starts
        found = descended(
            self.objective, self.region, variables, search.descent, search.iterations, search.tolerance
        )
        return self._certified(found, search.solver)

    def _certified(
        self, solved: Solved, solver: str, unique: Tensor | None = None, even: Tensor | None = None
    ) -> Filters:
        subject, gradient = self.subject, solved.gradient
        shape = (len(subject.activation), subject.targets)
        everyone = torch.ones_like(self.rows, dtype=torch.bool)
        strength = gradient.norm(dim=2)
        most = strength.amax(1, keepdim=True)
        residual = torch.where(solved.loss <= _NOTHING * self.nothing, 0.0, solved.residual)
        dark = ((solved.filters < 0) & (gradient == 0)).flatten(1).sum(1)
        return Filters(
            solved.filters.reshape(*shape, *subject.activation.shape[2:]),
            solved.loss.reshape(shape),
            (residual if subject.keeps else solved.residual).reshape(shape),
            solved.iterations.reshape(shape),
            solver,
            (everyone if unique is None else unique).reshape(shape),
            ((gradient < 0).flatten(1).any(1) | subject.keeps).reshape(shape),
            (~everyone if even is None else even & subject.keeps).reshape(shape),
            dark.reshape(shape),
            (strength / torch.where(most > 0, most, 1.0)).reshape(*shape, self.groups),
            self.head.evaluations,
        )

    def _projected(self, points: Float[Tensor, "N G P"]) -> Solved:
        return projected(
            self.objective,
            self.region,
            points,
            self.search.iterations,
            self.search.tolerance,
            self.rounding,
            _NOTHING**2 * self.nothing,
        )

    def _ones(self) -> Float[Tensor, "N G S"]:
        activation = self.subject.activation
        size = (self.count, self.groups, activation[0, 0].numel() // self.groups)
        return torch.ones(size, dtype=self.exact, device=activation.device)


def _steeper(above: Float[Tensor, "N G S"], below: Float[Tensor, "N G S"]) -> Float[Tensor, "N G S"]:
    """Where each entry should go, by the loss's descent where entries are positive and where they are negative.

    Behind a ReLU these differ. A head that adds up positions has its optimum there, which steps from one side miss.
    """
    positive, negative = above.clamp_min(0), (-below).clamp_min(0)
    return torch.where(positive >= negative, positive, -negative)
