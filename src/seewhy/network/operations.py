"""Intercept what a network computes, whatever module, function or method computes it."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from enum import Enum
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor
from torch.overrides import TorchFunctionMode


class Operation(Enum):
    """Kinds of computation that rules can be written for."""

    CONVOLUTION = "convolution"
    LINEAR = "linear"
    MATRIX_PRODUCT = "matrix product"
    RELU = "relu"
    ACTIVATION = "activation"
    ADD = "add"
    MULTIPLY = "multiply"
    CONCATENATE = "concatenate"
    MAX_POOL = "max pool"
    AVERAGE_POOL = "average pool"
    BATCH_NORM = "batch norm"
    LAYER_NORM = "layer norm"
    GROUP_NORM = "group norm"
    SOFTMAX = "softmax"
    DROPOUT = "dropout"


@dataclass(frozen=True)
class Computation:
    """One intercepted function call.

    Attributes:
        operation: its kind.
        function: the torch function itself; calling it computes the ordinary result.
        args: its positional arguments.
        kwargs: its named arguments.
    """

    operation: Operation
    function: Callable[..., Any]
    args: tuple[Any, ...]
    kwargs: Mapping[str, Any]

    @property
    def in_place(self) -> bool:
        """Whether the function overwrites its first argument."""
        name = getattr(self.function, "__name__", "")
        written = name.endswith("_") and not name.endswith("__")
        return bool(written or name.startswith("__i") or self.kwargs.get("inplace"))

    @property
    def rectifies(self) -> bool:
        """Whether this is a ReLU by any name: relu, relu6, hardtanh from 0, clamp at 0."""
        if self.operation == Operation.RELU:
            return True
        name = getattr(self.function, "__name__", "").rstrip("_")
        if name == "relu6":
            return True
        if name not in ("hardtanh", "clamp", "clamp_min", "clip"):
            return False
        low = self.args[1] if len(self.args) > 1 else self.kwargs.get("min_val", self.kwargs.get("min"))
        return isinstance(low, int | float) and low == 0

    def run(self) -> Any:
        """Compute the ordinary result."""
        return self.function(*self.args, **self.kwargs)


Rule = Callable[[Computation], Any]


def _functions() -> dict[Any, Operation]:
    names: dict[Operation, tuple[list[Any], str]] = {
        Operation.CONVOLUTION: (
            [torch, F],
            "conv1d conv2d conv3d conv_transpose1d conv_transpose2d conv_transpose3d",
        ),
        Operation.LINEAR: ([F], "linear bilinear"),
        Operation.MATRIX_PRODUCT: (
            [torch, Tensor, F],
            "matmul mm bmm addmm einsum __matmul__ __rmatmul__ scaled_dot_product_attention "
            "multi_head_attention_forward",
        ),
        Operation.RELU: ([torch, Tensor, F], "relu relu_"),
        Operation.ACTIVATION: (
            [torch, Tensor, F],
            "relu6 hardtanh hardtanh_ gelu silu mish elu elu_ selu celu leaky_relu leaky_relu_ prelu "
            "softplus hardswish hardsigmoid sigmoid sigmoid_ tanh tanh_ logsigmoid "
            "clamp clamp_ clamp_min clamp_min_ clip clip_",
        ),
        Operation.ADD: (
            [torch, Tensor],
            "add add_ sub sub_ __add__ __radd__ __iadd__ __sub__ __rsub__ __isub__",
        ),
        Operation.MULTIPLY: (
            [torch, Tensor],
            "mul mul_ div div_ __mul__ __rmul__ __imul__ __truediv__ __itruediv__",
        ),
        Operation.CONCATENATE: ([torch], "cat concat concatenate stack hstack vstack"),
        Operation.MAX_POOL: (
            [torch, F, Tensor],
            "max_pool1d max_pool2d max_pool3d "
            "adaptive_max_pool1d adaptive_max_pool2d adaptive_max_pool3d amax",
        ),
        Operation.AVERAGE_POOL: (
            [torch, F, Tensor],
            "avg_pool1d avg_pool2d avg_pool3d "
            "adaptive_avg_pool1d adaptive_avg_pool2d adaptive_avg_pool3d mean",
        ),
        Operation.BATCH_NORM: ([torch, F], "batch_norm instance_norm"),
        Operation.LAYER_NORM: ([torch, F], "layer_norm rms_norm normalize"),
        Operation.GROUP_NORM: ([torch, F], "group_norm"),
        Operation.SOFTMAX: ([torch, Tensor, F], "softmax log_softmax"),
        Operation.DROPOUT: (
            [torch, F],
            "dropout dropout1d dropout2d dropout3d alpha_dropout feature_alpha_dropout dropout_",
        ),
    }  # fmt: skip
    found: dict[Any, Operation] = {}
    for operation, (places, text) in names.items():
        for name in text.split():
            for place in places:
                function = getattr(place, name, None)
                if function is not None:
                    found[function] = operation
    return found


_OPERATIONS = _functions()


def operation_of(function: Any) -> Operation | None:
    """The kind of computation of a torch function or tensor method; None for kinds without a name here."""
    return _OPERATIONS.get(function)


@contextmanager
def intercept(rules: Mapping[Operation, Rule]) -> Iterator[None]:
    """Within the block every computation of these kinds is handed to its rule, which returns the result.

    Modules, functional calls, tensor methods and operators are caught alike, as all of them end in torch
    functions. Inside a rule nothing is intercepted, so that `computation.run()` gives the ordinary result.

    Args:
        rules: per kind a function from the `Computation` to its result.

    Example:
        >>> seen = []
        >>> with intercept({Operation.RELU: lambda c: (seen.append(c), c.run())[1]}):
        ...     _ = torch.nn.ReLU()(torch.ones(1))
        >>> [c.operation.value for c in seen]
        ['relu']
    """
    with _Interception(rules):
        yield


class _Interception(TorchFunctionMode):
    """Hands torch functions to rules; torch itself suspends the mode while a rule runs."""

    def __init__(self, rules: Mapping[Operation, Rule]) -> None:
        super().__init__()
        self._rules = rules

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        operation = _OPERATIONS.get(func)
        rule = self._rules.get(operation) if operation is not None else None
        if rule is None or operation is None:
            return func(*args, **(kwargs or {}))
        return rule(Computation(operation, func, tuple(args), kwargs or {}))
