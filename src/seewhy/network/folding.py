"""Batch norms folded into the convolutions before them: a pass over memory less per layer, the same answers.

It goes by what runs, not by kinds of modules, and leaves the network as it is: while it runs, a convolution is computed
with other weights, and its batch norm hands on what it is given. What a batch norm subtracts becomes a convolution's
bias, which must not be rounded to bfloat16: that would move a whole channel, everywhere, to the same side.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from inspect import Signature, signature
from typing import Any, TypeVar
from weakref import ReferenceType, ref

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.overrides import TorchFunctionMode

from seewhy.network.kept_weights import KeptWeights
from seewhy.network.precision import exact_type, fast_in_bfloat16
from seewhy.network.structures import tensors

R = TypeVar("R")

_CONVOLUTIONS = (F.conv1d, F.conv2d, F.conv3d)
# What torch does not tell of its own functions.
_CONVOLUTION = signature(lambda input, weight, bias=None, stride=1, padding=0, dilation=1, groups=1: None)
_NORM = signature(F.batch_norm)
# What may be asked of a tensor without reading its values.
_ASKING = frozenset(
    [Tensor.dim, Tensor.size]
    + [getattr(Tensor, name).__get__ for name in ("shape", "ndim", "dtype", "device", "layout", "is_cuda")]
)


@dataclass(frozen=True)
class Fold:
    """A convolution and the batch norm that alone reads its output.

    Attributes:
        weight: name of the convolution's weight in the network.
        bias: name of its bias; None where it has none.
        statistics: names of the batch norm's running mean, running variance, weight and bias; the last two may be None.
        eps: of the batch norm.
    """

    weight: str
    bias: str | None
    statistics: tuple[str | None, ...]
    eps: float


Folds = Mapping[int, Fold]
"""By the number of the convolution among those of a forward pass."""


def folds_in(module: nn.Module, forward: Callable[[], Any]) -> Folds:
    """The batch norms that can be folded: in evaluation mode, after a convolution whose output nothing else reads.

    Args:
        module: the network.
        forward: a pass of it.
    """
    watch = _Watch({id(tensor): name for name, tensor in _named(module).items()})
    with torch.inference_mode(), watch:
        returned = tensors(forward())
    return {
        number: output.readers[0]
        for number, output in enumerate(watch.outputs)
        if len(output.readers) == 1
        and output.readers[0] is not None
        and not any(each is output.tensor() for each in returned)
    }


class Folding:
    """Runs a network with its batch norms folded, where that can be done.

    Args:
        module: the network, in evaluation mode.
        folds: of inputs of the same kind.
        kept: the changed weights.
    """

    def __init__(self, module: nn.Module, folds: Folds, kept: KeptWeights) -> None:
        self._named = _named(module)
        self._kept = kept
        self._folds = folds

    def run(self, forward: Callable[[], R]) -> R:
        """What a pass without a graph returns.

        A pass that computes something else than the one that was watched is run again as it is, as are all later ones.
        Of convolutions in 16 bits only those are folded that can be given a bias of float32: in bfloat16, on processors
        that are quick at it.
        """
        if self._folds:
            mode = _Folded(self._folds, self._folded)
            try:
                with mode:
                    found = forward()
                if not mode.awaited:
                    return found
            except _OtherwiseError:
                pass
            self._folds = {}
        return forward()

    def _folded(self, fold: Fold, own: Tensor, dtype: torch.dtype) -> tuple[Tensor, Tensor]:
        """Weight, in a number format, and bias of a convolution with its batch norm in them."""
        weight = self._named[fold.weight]
        if own is not weight:
            raise _OtherwiseError
        bias, mean, variance, scale, shift = (
            None if name is None else self._named[name] for name in (fold.bias, *fold.statistics)
        )
        assert mean is not None
        assert variance is not None
        sources = tuple(each for each in (weight, bias, mean, variance, scale, shift) if each is not None)
        exact = exact_type(weight.device)

        def factor() -> Tensor:
            found = (variance.to(exact) + fold.eps).rsqrt()
            return found if scale is None else found * scale

        def changed_weight() -> Tensor:
            changed = weight.to(exact) * factor().view(-1, *[1] * (weight.ndim - 1))
            return changed.to(dtype)

        def changed_bias() -> Tensor:
            changed = ((0 if bias is None else bias) - mean.to(exact)) * factor()
            changed = changed if shift is None else changed + shift
            return changed.to(torch.promote_types(weight.dtype, torch.float32))

        return (
            self._kept.get(sources, ("folded weight", fold.eps, dtype), changed_weight),
            self._kept.get(sources, ("folded bias", fold.eps), changed_bias),
        )


class _OtherwiseError(Exception):
    """The pass computes something else than the one that was watched."""


@dataclass
class _Output:
    """What a convolution returned, and who read it: a batch norm that can be folded, or None for anything else."""

    tensor: ReferenceType[Tensor]
    weight: str | None
    bias: str | None
    foldable: bool
    readers: list[Fold | None] = field(default_factory=list)


class _Watch(TorchFunctionMode):
    """Follows what becomes of the outputs of convolutions."""

    def __init__(self, names: Mapping[int, str]) -> None:
        super().__init__()
        self._names = names
        self.outputs: list[_Output] = []

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        kwargs = kwargs or {}
        if func not in _ASKING:
            for each in tensors((args, kwargs)):
                for output in self.outputs:
                    if output.tensor() is each:
                        output.readers.append(self._fold(output, each, func, args, kwargs))
        result = func(*args, **kwargs)
        if func in _CONVOLUTIONS:
            asked = _asked(_CONVOLUTION, args, kwargs)
            weight, bias = asked["weight"], asked["bias"]
            names = self._names.get(id(weight)), self._names.get(id(bias))
            known = names[0] is not None and (bias is None or names[1] is not None)
            self.outputs.append(_Output(ref(result), *names, foldable=known))
        return result

    def _fold(self, output: _Output, read: Tensor, func: Any, args: Any, kwargs: Any) -> Fold | None:
        if func is not F.batch_norm or not output.foldable or output.weight is None:
            return None
        asked = _asked(_NORM, args, kwargs)
        statistics = [asked[name] for name in ("running_mean", "running_var", "weight", "bias")]
        names = tuple(self._names.get(id(each)) for each in statistics)
        known = all(name is not None or each is None for name, each in zip(names, statistics, strict=True))
        if asked["input"] is not read or asked["training"] or None in names[:2] or not known:
            return None
        return Fold(output.weight, output.bias, names, asked["eps"])


class _Folded(TorchFunctionMode):
    """Computes convolutions with folded weights, and lets their batch norms pass."""

    def __init__(
        self,
        folds: Folds,
        folded: Callable[[Fold, Tensor, torch.dtype], tuple[Tensor, Tensor]],
    ) -> None:
        super().__init__()
        self._folds, self._folded = folds, folded
        self._count = 0
        self._passed: dict[int, ReferenceType[Tensor]] = {}
        self.awaited: dict[int, Tensor] = {}

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        kwargs = kwargs or {}
        if func not in _ASKING:
            for each in tensors((args, kwargs)):
                if id(each) in self.awaited:
                    return self._normalised(func, self.awaited.pop(id(each)))
                if each is self._passed.get(id(each), _nothing)():
                    raise _OtherwiseError
        if func not in _CONVOLUTIONS:
            return func(*args, **kwargs)
        fold = self._folds.get(self._count)
        self._count += 1
        if fold is None:
            return func(*args, **kwargs)
        asked = _asked(_CONVOLUTION, args, kwargs)
        own = asked["weight"]
        dtype = _computed_in(own)
        lower = dtype.itemsize < torch.float32.itemsize
        if lower and not _takes_exact_bias(dtype, asked):
            return func(*args, **kwargs)
        asked["weight"], asked["bias"] = self._folded(fold, own, dtype)
        result = _with_exact_bias(**asked) if lower else func(**asked)
        self.awaited[id(result)] = result
        return result

    def _normalised(self, func: Any, output: Tensor) -> Tensor:
        """What the batch norm returns: another tensor than the convolution, so that later readers are told apart."""
        if func is not F.batch_norm:
            raise _OtherwiseError
        self._passed[id(output)] = ref(output)
        return output.view_as(output)


def _nothing() -> None:
    return None


def _asked(of: Signature, args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> dict[str, Any]:
    """All arguments of a call by name."""
    call = of.bind(*args, **kwargs)
    call.apply_defaults()
    return call.arguments


def _computed_in(weight: Tensor) -> torch.dtype:
    """The number format of a convolution with this weight, as autocast has it where it is called."""
    kind = weight.device.type
    casts = torch.is_autocast_enabled(kind) and weight.dtype != torch.float64
    return torch.get_autocast_dtype(kind) if casts else weight.dtype


def _takes_exact_bias(dtype: torch.dtype, asked: Mapping[str, Any]) -> bool:
    """Whether `_with_exact_bias` can compute this convolution in this number format."""
    picture: Tensor = asked["input"]
    return (
        dtype == torch.bfloat16
        and picture.device.type == "cpu"
        and fast_in_bfloat16("cpu")
        and picture.ndim == asked["weight"].ndim
        and not isinstance(asked["padding"], str)
        and hasattr(torch.ops.mkldnn, "_convolution_pointwise")
    )


def _with_exact_bias(
    input: Tensor, weight: Tensor, bias: Tensor, stride: Any, padding: Any, dilation: Any, groups: int
) -> Tensor:
    """A convolution in bfloat16 with a bias of float32: oneDNN adds it before it rounds; `F.conv2d` does not take it.

    The operator is the one that torch's compiler calls.
    """
    axes = weight.ndim - 2
    padding, stride, dilation = (
        list(each) if isinstance(each, Sequence) else [int(each)] * axes
        for each in (padding, stride, dilation)
    )
    convolution = torch.ops.mkldnn._convolution_pointwise
    found: Tensor = convolution(
        input.to(weight.dtype), weight, bias, padding, stride, dilation, groups, "none", [], ""
    )
    return found


def _named(module: nn.Module) -> dict[str, Tensor]:
    return dict(module.named_parameters()) | dict(module.named_buffers())
