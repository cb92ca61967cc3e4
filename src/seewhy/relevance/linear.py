"""The operations that are linear in an input: layers, matrix products, averages, normalisations."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from seewhy.network.operations import Computation, Operation
from seewhy.relevance.affine import Affine, Weighting
from seewhy.relevance.context import Context, name_of, on_input
from seewhy.relevance.normalisations import batch_statistics, normalised
from seewhy.relevance.rules import STABILISER, Constant, Epsilon, Pass
from seewhy.relevance.steps import Bilinear, Passed, step_of


def layer(context: Context, computation: Computation) -> Tensor:
    """A convolution or a linear layer."""
    function, named = computation.function, dict(computation.kwargs)
    places = ("input", "weight", "bias")
    given = {**dict(zip(places, computation.args, strict=False)), **named}
    source, weight, bias = given["input"], given["weight"], given.get("bias")
    if weight.requires_grad or not source.requires_grad or name_of(computation) == "bilinear":
        raise context.without(name_of(computation), computation.operation.value + " of computed weights", ())
    rest = computation.args[3:]
    named = {key: value for key, value in named.items() if key not in places}
    transposed, groups = "transpose" in name_of(computation), given.get("groups", 1)
    if transposed and len(computation.args) > 6:
        groups = computation.args[6]
    first, box = _reads_pictures(context, source)
    linear = computation.operation is Operation.LINEAR

    def map_(each: Tensor, under: Any, added: Tensor | None) -> Tensor:
        result: Tensor = function(each, under, None if added is None else added.flatten(), *rest, **named)
        return result

    return context.affine(
        context.rule(computation, first=first),
        source,
        map_,
        Weighting(weight, None, (weight,)),
        None if bias is None else bias if linear else bias.reshape(-1, *[1] * (weight.ndim - 2)),
        box=box,
        fold_axis=None if transposed and groups != 1 else 1 if transposed else 0,
        is_layer=True,
    )


def _reads_pictures(context: Context, source: Tensor) -> tuple[bool, tuple[Tensor, Tensor] | None]:
    """Whether no layer comes before this tensor, and the pictures' bounds where it is the pictures."""
    open_, plain = [source.grad_fn], True
    seen = set()
    while open_:
        node = open_.pop()
        if node is None or node in seen:
            continue
        seen.add(node)
        step = getattr(node, "step", None)
        if isinstance(step, Affine) and step.is_layer:
            return False, None
        plain = plain and node.name() in ("CloneBackward0", "torch::autograd::AccumulateGrad")
        open_ += [each for each, _ in node.next_functions]
    return True, context.box if plain else None


def matrix_product(context: Context, computation: Computation) -> Tensor:
    """A product with a constant is a linear layer; of two that carry relevance it is what the user says."""
    name, function = name_of(computation), computation.function
    if name == "scaled_dot_product_attention":
        context.rule(computation)
        # Its softmax is held constant whatever is given; a rule for it that says so is not one for nothing.
        context.composite.find(Operation.SOFTMAX.value, context.where, name)
        query, key, value, *rest = computation.args
        return context.affine(
            Epsilon(epsilon=STABILISER),
            value,
            lambda each, *_: function(query.detach(), key.detach(), each, *rest, **computation.kwargs),
            Weighting(),
            None,
        )
    factors = computation.args[1:] if name in ("einsum", "addmm") else computation.args
    if name == "einsum" and len(factors) == 1 and not isinstance(factors[0], Tensor):
        factors = tuple(factors[0])
    if name == "multi_head_attention_forward" or len(factors) != 2 or computation.kwargs:
        raise context.without(name, computation.operation.value, ())
    bias = computation.args[0] if name == "addmm" else None
    if isinstance(bias, Tensor) and bias.requires_grad:
        raise context.without(name, "sum and matrix product", ())

    def product(one: Tensor, other: Tensor) -> Tensor:
        if name == "addmm":
            return one @ other
        before = computation.args[:1] if name == "einsum" else ()
        result: Tensor = function(*before, one, other)
        return result

    one, other = factors
    if one.requires_grad and other.requires_grad:
        rule = context.rule(computation)
        if isinstance(rule, Constant):
            return product(one.detach(), other.detach())
        leaves = (one.detach().requires_grad_(), other.detach().requires_grad_())
        output = product(*leaves)
        step = Bilinear(context.where, leaves, output, STABILISER, context.ledger)
        return context.tie(step, output.detach(), one, other)
    source, weight = (one, other) if one.requires_grad else (other, one)

    def map_(each: Tensor, under: Any, added: Tensor | None) -> Tensor:
        result = product(each, under) if one.requires_grad else product(under, each)
        return result if added is None else result + added

    return context.affine(
        context.rule(computation, Operation.LINEAR.value, _reads_pictures(context, source)[0]),
        source,
        map_,
        Weighting(weight, None, (weight,)),
        bias,
        is_layer=True,
    )


def average(context: Context, computation: Computation, rule: Any = None) -> Tensor:
    """Sums with fixed weights; under a rule of the user's, whatever is linear."""
    source = (computation.args or (computation.kwargs["input"],))[0]
    compute = on_input(computation)

    def map_(each: Tensor, under: Any, _: Tensor | None) -> Tensor:
        return compute(each) if under == 1 else compute(each) * under

    return context.affine(rule or context.rule(computation), source, map_, Weighting(), None)


def batch_norm(context: Context, computation: Computation) -> Tensor:
    """Folded into the convolution or linear layer before it; without one, a layer of its own."""
    found = batch_statistics(computation)
    if found is None:
        if name_of(computation) == "instance_norm":
            return norm(context, computation)
        raise context.without(name_of(computation), "by the statistics of the batch itself", ())
    source, scale, shift, sources = found
    before = step_of(source)
    compute = on_input(computation)
    if isinstance(before, Affine) and before.is_layer and before.folds(source):
        with torch.no_grad():
            value = compute(source.detach())
        step = before.folded(scale, shift, sources, value)
        result = context.tie(step, value, before.source)
        for key, tensor in context.layers.items():
            if tensor is source:
                context.layers[key] = result
        return result
    rule = context.rule(computation)
    if isinstance(rule, Pass):
        return context.tie(Passed(), compute(source.detach()), source)
    shape = (1, -1, *[1] * (source.ndim - 2))

    def map_(each: Tensor, under: Any, added: Tensor | None) -> Tensor:
        scaled: Tensor = each * under
        return scaled if added is None else scaled + added

    return context.affine(
        rule, source, map_, Weighting(scale.reshape(shape), None, sources), shift.reshape(shape)[0]
    )


def norm(context: Context, computation: Computation) -> Tensor:
    """A normalisation by the values' own statistics: centring, and a scale that counts as constant."""
    kind = Operation.GROUP_NORM.value if computation.operation is Operation.BATCH_NORM else None
    rule = context.rule(computation, kind)
    found, exact = normalised(computation), on_input(computation)
    value = exact(found.source.detach())
    if isinstance(rule, Pass):
        return context.tie(Passed(), value, found.source)
    step = Affine(
        context.where, rule, found.source, found.map, Weighting(), found.bias, context.ledger, context.kept
    )
    step.run()  # equal to the value but for rounding
    return context.tie(step, value, found.source)
