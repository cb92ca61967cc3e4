"""How relevance passes what is not affine in one input: sums, products, what passes it on, poolings."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import reduce
from typing import Any, Protocol, runtime_checkable

import torch
from torch import Tensor

from seewhy.relevance.conservation import Ledger


@runtime_checkable
class Step(Protocol):
    """One computation of the forward pass."""

    def back(self, relevance: Tensor) -> tuple[Tensor | None, ...]:
        """The relevance of the inputs that carry any, from the output's."""
        ...


class _Node(torch.autograd.Function):
    """A node of the graph whose gradient is relevance."""

    @staticmethod
    def forward(
        ctx: Any, step: Step, ledger: Callable[[], Ledger], value: list[Tensor], *inputs: Tensor
    ) -> Tensor:
        ctx.step, ctx.ledger = step, ledger
        return value.pop()

    @staticmethod
    def backward(ctx: Any, *relevance: Tensor) -> tuple[Tensor | None, ...]:
        step = ctx.step
        if ctx.ledger().last:
            ctx.step = None  # the node lives as long as the graph, the tensors of its step need not
        return (None, None, None, *step.back(*relevance))


def joined(step: Step, ledger: Callable[[], Ledger], value: Tensor, *inputs: Tensor) -> Tensor:
    """The value, tied to the inputs in a graph along which relevance flows by the step's rule."""
    result: Tensor = _Node.apply(step, ledger, [value], *inputs)  # type: ignore[no-untyped-call]
    return result


def step_of(tensor: Tensor) -> Any:
    """The step that made a tensor, or None."""
    return getattr(tensor.grad_fn, "step", None)


@dataclass
class Start:
    """The outputs: a score's gradient there, times the output, is what relevance begins with.

    Attributes:
        output: the output.
        ledger: gives the books of the backward pass under way.
        contrast: whether what the target has is taken from all others in equal parts.
    """

    output: Tensor
    ledger: Callable[[], Ledger]
    contrast: bool

    def back(self, gradient: Tensor) -> tuple[Tensor]:
        relevance = gradient * self.output
        if self.contrast:
            others = gradient == 0
            given = relevance.sum(1, keepdim=True) / others.sum(1, keepdim=True).clamp_min(1)
            relevance = torch.where(others, -given, relevance)
        self.ledger().start(relevance)
        return (relevance,)


@dataclass(frozen=True)
class Passed:
    """Relevance stays where it is.

    Attributes:
        squashes: whether this was a sigmoid or its like, as gates are made by.
    """

    squashes: bool = False

    def back(self, relevance: Tensor) -> tuple[Tensor]:
        return (relevance,)


@dataclass
class Sum:
    """A sum: each summand in proportion to what it adds; what constants add counts as a bias.

    Attributes:
        where: its layer.
        summands: those that carry relevance, and their factors.
        constant: the rest.
        epsilon: of the stabiliser.
        ledger: gives the books of the backward pass under way.
    """

    where: str
    summands: Sequence[tuple[Tensor, float]]
    constant: Tensor | float | None
    epsilon: float
    ledger: Callable[[], Ledger]

    def back(self, relevance: Tensor) -> tuple[Tensor, ...]:
        parts = [part if factor == 1 else part * factor for part, factor in self.summands]
        total = reduce(Tensor.add, parts)
        if self.constant is not None:
            total = total + self.constant
        shift = torch.copysign(total.new_full((), self.epsilon), total)
        quotient = relevance / total.add_(shift)
        constant = None if self.constant is None else self.constant * quotient
        self.ledger().absorb(self.where, constant, shift.mul_(quotient))
        return tuple((part * quotient).sum_to_size(part.shape) for part in parts)


@dataclass
class Product:
    """A product of which each factor gets a fixed share of the relevance.

    Attributes:
        shapes: those of the factors that carry relevance.
        shares: theirs; what gets none is not asked for more.
    """

    shapes: Sequence[torch.Size]
    shares: Sequence[float]

    def back(self, relevance: Tensor) -> tuple[Tensor | None, ...]:
        return tuple(
            (relevance if share == 1 else share * relevance).sum_to_size(shape) if share else None
            for shape, share in zip(self.shapes, self.shares, strict=True)
        )


@dataclass
class Bilinear:
    """A matrix product of two that carry relevance: each term's relevance is halved between its factors.

    Attributes:
        where: its layer.
        leaves: the factors.
        output: their product, with its own graph.
        epsilon: of the stabiliser.
        ledger: gives the books of the backward pass under way.
    """

    where: str
    leaves: tuple[Tensor, Tensor]
    output: Tensor
    epsilon: float
    ledger: Callable[[], Ledger]

    def back(self, relevance: Tensor) -> tuple[Tensor, ...]:
        total = self.output.detach()
        shift = torch.copysign(total.new_full((), self.epsilon), total)
        quotient = relevance / (total + shift)
        self.ledger().absorb(self.where, None, shift * quotient)
        found = torch.autograd.grad(self.output, self.leaves, quotient, retain_graph=True)
        return tuple(each.detach() * gradient / 2 for each, gradient in zip(self.leaves, found, strict=True))


@dataclass
class Joined:
    """A concatenation with constants among its parts; what they receive counts as a bias's.

    Attributes:
        where: its layer.
        leaves: the parts.
        carrying: which of them carry relevance.
        output: the whole, with its own graph.
        ledger: gives the books of the backward pass under way.
    """

    where: str
    leaves: Sequence[Tensor]
    carrying: Sequence[bool]
    output: Tensor
    ledger: Callable[[], Ledger]

    def back(self, relevance: Tensor) -> tuple[Tensor, ...]:
        found = torch.autograd.grad(self.output, list(self.leaves), relevance, retain_graph=True)
        for each, carries in zip(found, self.carrying, strict=True):
            if not carries:
                self.ledger().absorb(self.where, each)
        return tuple(each for each, carries in zip(found, self.carrying, strict=True) if carries)


@dataclass
class Unpooled:
    """Max-unpooling: of windows that share their maximum the last one's relevance overwrites the others'.

    Attributes:
        shape: that of the input.
        indices: the maxima's positions in each map.
    """

    shape: torch.Size
    indices: Tensor

    def back(self, relevance: Tensor) -> tuple[Tensor]:
        flat = relevance.new_zeros((*self.shape[:2], self.shape[2:].numel()))
        return (flat.scatter(2, self.indices.flatten(2), relevance.flatten(2)).reshape(self.shape),)
