"""The operations that are not linear in one input: activations, sums, products, concatenations, max-pooling."""

from __future__ import annotations

from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from seewhy.network.operations import Computation
from seewhy.network.structures import operands
from seewhy.relevance.composites import DIVISION
from seewhy.relevance.context import Context, name_of
from seewhy.relevance.rules import Constant, Gate, Halves, Route, Unpool
from seewhy.relevance.steps import Joined, Passed, Product, Sum, Unpooled, step_of

_SQUASHING = frozenset(["sigmoid", "sigmoid_", "hardsigmoid", "softmax"])
_SUBTRACTING = ("sub", "sub_", "__sub__", "__isub__")


def activation(context: Context, computation: Computation) -> Tensor:
    """What works on each value alone."""
    rule = context.rule(computation)
    value, overwrites = context.written(computation)
    if isinstance(rule, Constant):
        return value
    source = (computation.args or (computation.kwargs["input"],))[0]
    if not source.requires_grad:
        raise context.without(name_of(computation), "of a computed parameter", ())
    step = Passed(squashes=name_of(computation) in _SQUASHING)
    return context.tie(step, value, source, replaces=source if overwrites else None)


def addition(context: Context, computation: Computation) -> Tensor:
    """A sum or difference; what carries no relevance counts as a constant."""
    rule = context.rule(computation)
    name = name_of(computation)
    one, other = _operands(computation)
    factor = float(computation.kwargs.get("alpha", 1))
    factors = (-1.0, 1.0) if name == "__rsub__" else (1.0, -factor if name in _SUBTRACTING else factor)
    value, overwrites = context.written(computation)
    signed = list(zip((one, other), factors, strict=True))
    summands = [(each, sign) for each, sign in signed if isinstance(each, Tensor) and each.requires_grad]
    constants = [
        each * sign for each, sign in signed if not (isinstance(each, Tensor) and each.requires_grad)
    ]
    constant = constants[0] if constants else None
    step = Sum(
        context.where, [(t.detach(), sign) for t, sign in summands], constant, rule.epsilon, context.ledger
    )
    return context.tie(step, value, *(t for t, _ in summands), replaces=one if overwrites else None)


def product(context: Context, computation: Computation) -> Tensor:
    """A product, or a quotient by a constant or by what the user says is one."""
    rule = context.rule(computation)
    factors = _operands(computation)
    value, overwrites = context.written(computation)
    carrying = [each for each in factors if isinstance(each, Tensor) and each.requires_grad]
    if "div" in name_of(computation) and carrying[-1] is factors[1]:
        context.rule(computation, DIVISION)
        carrying.pop()
        if not carrying:
            return factors[0].copy_(value) if overwrites else value
    shares = [1.0] if len(carrying) == 1 else _shares(carrying, rule)
    step = Product([each.shape for each in carrying], shares)
    return context.tie(step, value, *carrying, replaces=factors[0] if overwrites else None)


def concatenation(context: Context, computation: Computation) -> Tensor:
    """Parts put together; the gradient takes their relevance apart again."""
    parts = list(operands(computation.args[:1] or (computation.kwargs.get("tensors"),)))
    if all(each.requires_grad for each in parts):
        result: Tensor = computation.run()
        return result
    leaves = [each.detach().requires_grad_() for each in parts]
    rest = computation.args[1:]
    output = computation.function(
        leaves, *rest, **{k: v for k, v in computation.kwargs.items() if k != "tensors"}
    )
    step = Joined(context.where, leaves, [each.requires_grad for each in parts], output, context.ledger)
    return context.tie(step, output.detach(), *(each for each in parts if each.requires_grad))


def max_pool(context: Context, computation: Computation) -> Any:
    """A maximum of each window, or of an axis."""
    rule = context.rule(computation)
    if isinstance(rule, Route):
        return computation.run()
    assert isinstance(rule, Unpool)
    if name_of(computation) != "max_pool2d":
        raise context.without(name_of(computation), "unpooling", ("route",))
    source, *rest = computation.args
    named = {key: value for key, value in computation.kwargs.items() if key != "return_indices"}
    with torch.no_grad():
        value, indices = F.max_pool2d(source.detach(), *rest[:5], **named, return_indices=True)
    return context.tie(Unpooled(source.shape, indices), value, source)


def _shares(factors: list[Tensor], rule: Gate | Halves) -> list[float]:
    """How the factors of a product share relevance: the gate gets none, where one can be told."""
    one, other = factors
    if isinstance(rule, Gate) and one is not other:
        squashed = [getattr(step_of(each), "squashes", False) for each in factors]
        if squashed[0] != squashed[1]:
            return [0.0 if each else 1.0 for each in squashed]
        if one.numel() != other.numel():
            return [1.0, 0.0] if one.numel() > other.numel() else [0.0, 1.0]
    return [0.5, 0.5]


def _operands(computation: Computation) -> tuple[Any, Any]:
    """The two that an operator joins."""
    one, other = (*computation.args, computation.kwargs.get("other"))[:2]
    return one, other
