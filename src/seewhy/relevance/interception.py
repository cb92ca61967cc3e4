"""What a network computes, operation by operation, each tied to its rule as it runs."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import torch
from torch import Tensor
from torch.overrides import TorchFunctionMode

from seewhy.errors import NotApplicableError
from seewhy.network.operations import Computation, Operation, operation_of
from seewhy.network.structures import operands
from seewhy.relevance import linear, nonlinear
from seewhy.relevance.context import Context
from seewhy.relevance.rules import Constant, Epsilon, Pass, Route
from seewhy.relevance.steps import Passed

# What moves or copies values: the gradient moves their relevance back.
_MOVING = """
    view view_as reshape reshape_as flatten unflatten permute transpose t movedim moveaxis swapaxes
    swapdims squeeze unsqueeze chunk split tensor_split hsplit vsplit dsplit unbind narrow select
    index_select __getitem__ gather expand expand_as broadcast_to repeat repeat_interleave tile roll
    flip fliplr flipud rot90 contiguous clone to float double half bfloat16 type type_as cpu cuda pad
    unfold pixel_shuffle pixel_unshuffle channel_shuffle native_channel_shuffle max min maximum minimum
    sort topk __get__ requires_grad_ diagonal
"""
_ROUTING = frozenset(_MOVING.split())
# What adds values up with fixed weights, none of them below 0, and nothing else.
_AVERAGING = frozenset(["sum", "interpolate", "upsample", "fold"])
_PASSING = frozenset(["neg", "__neg__", "normalize"])
_HANDLERS: Mapping[Operation, Callable[[Context, Computation], Any]] = {
    Operation.CONVOLUTION: linear.layer,
    Operation.LINEAR: linear.layer,
    Operation.MATRIX_PRODUCT: linear.matrix_product,
    Operation.AVERAGE_POOL: linear.average,
    Operation.BATCH_NORM: linear.batch_norm,
    Operation.LAYER_NORM: linear.norm,
    Operation.GROUP_NORM: linear.norm,
    Operation.RELU: nonlinear.activation,
    Operation.ACTIVATION: nonlinear.activation,
    Operation.DROPOUT: nonlinear.activation,
    Operation.SOFTMAX: nonlinear.activation,
    Operation.ADD: nonlinear.addition,
    Operation.MULTIPLY: nonlinear.product,
    Operation.CONCATENATE: nonlinear.concatenation,
    Operation.MAX_POOL: nonlinear.max_pool,
}


class Interception(TorchFunctionMode):
    """Within it every operation that relevance reaches is run as ever and tied to its rule.

    What overwrites its input is computed beside it instead, and whoever uses the input later is given the new
    tensor, so that what rules need of the old one stays.

    Args:
        context: of the pass.
    """

    def __init__(self, context: Context) -> None:
        super().__init__()
        self._context = context

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        context = self._context
        args, kwargs = context.currently(args), kwargs or {}
        carrying = [each for each in operands((*args, *kwargs.values())) if each.requires_grad]
        if not carrying:
            return func(*args, **kwargs)
        operation = operation_of(func)
        name = getattr(func, "__name__", str(func))
        if operation is None:
            return _other(context, name, func, args, kwargs)
        context.functions.add(name)
        for each in carrying:
            _check_origin(each, context.where)
        return _HANDLERS[operation](context, Computation(operation, func, tuple(args), kwargs))


def _other(context: Context, name: str, func: Any, args: Any, kwargs: Any) -> Any:
    """What no kind of operation stands for: it moves values, is asked for by its own name, or is refused."""
    first: Any = args[0] if args else None
    rule = None
    if name not in ("__get__", "size", "dim"):
        rule = context.composite.find(name, context.where, name)
    if isinstance(rule, Constant):
        return func(*(each.detach() if isinstance(each, Tensor) else each for each in args), **kwargs)
    result = func(*args, **kwargs)
    if not any(each.requires_grad for each in operands((result,))) and name != "__setitem__":
        return result
    context.functions.add(name)
    writes = name == "__setitem__" or (name.endswith("_") and not name.endswith("__"))
    if writes and name != "requires_grad_":
        if isinstance(first, Tensor) and not first.is_leaf and name not in ("__setitem__", "copy_"):
            raise context.without(name, name, ())
        return result
    if name in _ROUTING or isinstance(rule, Route):
        return result
    computation = Computation(Operation.AVERAGE_POOL, func, tuple(args), kwargs)
    if name in _AVERAGING:
        return linear.average(context, computation)
    if name in _PASSING or isinstance(rule, Pass):
        return context.tie(Passed(), result.detach(), first)
    if isinstance(rule, Epsilon):
        return linear.average(context, computation, rule)
    raise context.without(name, name, ("pass", "route", "epsilon", "constant"))


def _check_origin(tensor: Tensor, where: str) -> None:
    """Refuse what a function of the network's own computed, whose backward pass knows no relevance.

    Raises:
        NotApplicableError: the tensor comes out of such a function.
    """
    node = tensor.grad_fn
    if isinstance(node, torch.autograd.function.BackwardCFunction) and not hasattr(node, "step"):
        raise NotApplicableError(
            f"relevance has no rule for {node.name().removesuffix('Backward')}, an autograd function of the network's "
            f"own before {where!r}; there is none to give: use the plain operations that it stands for"
        )
