"""Convolutions that are quick in many forwards: batch norms folded in, weights laid out once; the same answers.

It goes by what runs, not by kinds of modules, and leaves the network as it is: while it runs, a convolution is computed
with other weights, and its batch norm hands on what it is given. What a batch norm subtracts becomes a convolution's
bias, which must not be rounded to bfloat16: that would move a whole channel, everywhere, to the same side. On
processors oneDNN reads weights in an order of its own, into which torch brings them in every forward; here they stay in
it. (oneDNN could compute the ReLU, too, but makes zeros of what is not a number, which must not be hidden.)
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
from seewhy.network.structures import operands, tensors

R = TypeVar("R")

_CONVOLUTIONS = (F.conv1d, F.conv2d, F.conv3d)
# What torch does not tell of its own functions.
_CONVOLUTION = signature(lambda input, weight, bias=None, stride=1, padding=0, dilation=1, groups=1: None)
_NORM = signature(F.batch_norm)
_STATISTICS = ("running_mean", "running_var", "weight", "bias")
# What may be asked of a tensor without reading its values.
_ASKING = frozenset(
    [Tensor.dim, Tensor.size]
    + [getattr(Tensor, name).__get__ for name in ("shape", "ndim", "dtype", "device", "layout", "is_cuda")]
)


@dataclass(frozen=True)
class Norm:
    """A batch norm in evaluation mode.

    Attributes:
        statistics: names of its running mean, running variance, weight and bias; the last two may be None.
        eps: what it adds to the variance.
    """

    statistics: tuple[str | None, ...]
    eps: float


@dataclass(frozen=True)
class Fold:
    """A convolution of the network's own weights, and the batch norm that alone reads its output.

    Attributes:
        weight: name of the convolution's weight in the network.
        bias: name of its bias; None where it has none.
        norm: None where anything else reads the output, too.
    """

    weight: str
    bias: str | None
    norm: Norm | None


Folds = Mapping[int, Fold]
"""By the number of the convolution among those of a forward pass."""


def folds_in(module: nn.Module, forward: Callable[[], Any]) -> Folds:
    """The convolutions with weights of the network's own, each with the batch norm that can be folded into it.

    Args:
        module: the network.
        forward: a pass of it.
    """
    watch = _Watch({id(tensor): name for name, tensor in _named(module).items()})
    with torch.inference_mode(), watch:
        returned = tensors(forward())
    return {
        number: Fold(*output.names, output.norm(returned))
        for number, output in enumerate(watch.outputs)
        if output.names is not None
    }


class Folding:
    """Runs a network with its batch norms folded and its weights laid out, where that can be done.

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
            mode = _Folded(self._folds, self._convolved, self._is_norm)
            try:
                with mode:
                    found = forward()
                if not mode.awaited:
                    return found
            except _OtherwiseError:
                pass
            self._folds = {}
        return forward()

    def _convolved(self, fold: Fold, func: Any, asked: Mapping[str, Any]) -> tuple[Tensor, bool]:
        """What a convolution returns, and whether its batch norm is in it."""
        own = self._named[fold.weight]
        if asked["weight"] is not own or asked["bias"] is not self._of(fold.bias):
            raise _OtherwiseError
        dtype = _computed_in(own)
        exact = dtype.itemsize >= torch.float32.itemsize
        options = _options(asked) if _suits_onednn(dtype, asked) else None
        if options is not None:
            weight, bias = self._changed(fold, dtype, (*options, asked["input"].shape))
            convolution = torch.ops.mkldnn._convolution_pointwise  # what torch's compiler calls
            picture = asked["input"].to(dtype)
            return convolution(picture, weight, bias, *options, "none", [], ""), fold.norm is not None
        if fold.norm is None or not exact:
            return func(**asked), False
        weight, bias = self._changed(fold, dtype)
        return func(**{**asked, "weight": weight, "bias": bias}), True

    def _of(self, name: str | None) -> Tensor | None:
        """The network's tensor of that name; where there is no name, none."""
        return None if name is None else self._named[name]

    def _is_norm(self, fold: Fold, func: Any, args: Any, kwargs: Any) -> bool:
        """Whether a call is the batch norm that was folded."""
        if func is not F.batch_norm or fold.norm is None:
            return False
        asked = _asked(_NORM, args, kwargs)
        given = (asked[name] for name in _STATISTICS)
        same = all(each is self._of(name) for each, name in zip(given, fold.norm.statistics, strict=True))
        return same and asked["eps"] == fold.norm.eps and not asked["training"]

    def _changed(
        self, fold: Fold, dtype: torch.dtype, layout: tuple[Any, ...] | None = None
    ) -> tuple[Tensor, Tensor | None]:
        """Weight, in a number format and laid out, and bias of a convolution with its batch norm in them."""
        weight, norm = self._named[fold.weight], fold.norm
        bias, mean, variance, scale, shift = (
            self._of(name) for name in (fold.bias, *((None,) * 4 if norm is None else norm.statistics))
        )
        sources = tuple(each for each in (weight, bias, mean, variance, scale, shift) if each is not None)
        exact = exact_type(weight.device)
        eps = 0.0 if norm is None else norm.eps

        def factor() -> Tensor:
            assert variance is not None
            found = (variance.to(exact) + eps).rsqrt()
            return found if scale is None else found * scale

        def changed_weight() -> Tensor:
            across = (-1, *[1] * (weight.ndim - 1))
            changed = weight if norm is None else weight.to(exact) * factor().view(across)
            return _laid_out(changed.to(dtype), layout)

        def changed_bias() -> Tensor:
            changed = weight.new_zeros(len(weight)) if bias is None else bias
            changed = changed if mean is None else (changed - mean.to(exact)) * factor()
            changed = changed if shift is None else changed + shift
            return changed.to(torch.promote_types(weight.dtype, torch.float32))

        key = None if layout is None else str(layout[:-1])
        return (
            self._kept.get(sources, ("folded weight", eps, dtype, key), changed_weight),
            None if bias is mean is None else self._kept.get(sources, ("folded bias", eps), changed_bias),
        )


class _OtherwiseError(Exception):
    """The pass computes something else than the one that was watched."""


@dataclass
class _Output:
    """What a convolution returned, and who read it: a batch norm that can be folded, or None for anything else.

    Attributes:
        names: of the convolution's weight and bias, where both are the network's own.
    """

    tensor: ReferenceType[Tensor]
    names: tuple[str, str | None] | None
    readers: list[Norm | None] = field(default_factory=list)

    def norm(self, returned: Sequence[Tensor]) -> Norm | None:
        """The batch norm that alone reads it."""
        alone = len(self.readers) == 1 and not any(each is self.tensor() for each in returned)
        return self.readers[0] if alone else None


class _Watch(TorchFunctionMode):
    """Follows what becomes of the outputs of convolutions."""

    def __init__(self, names: Mapping[int, str]) -> None:
        super().__init__()
        self._names = names
        self.outputs: list[_Output] = []

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        kwargs = kwargs or {}
        if func not in _ASKING:
            for each in operands((*args, *kwargs.values())):
                for output in self.outputs:
                    if output.tensor() is each:
                        output.readers.append(self._norm(each, func, args, kwargs))
        result = func(*args, **kwargs)
        if func in _CONVOLUTIONS:
            asked = _asked(_CONVOLUTION, args, kwargs)
            weight, bias = (self._names.get(id(asked[name])) for name in ("weight", "bias"))
            known = bias is not None or asked["bias"] is None
            self.outputs.append(
                _Output(ref(result), (weight, bias) if weight is not None and known else None)
            )
        return result

    def _norm(self, read: Tensor, func: Any, args: Any, kwargs: Any) -> Norm | None:
        if func is not F.batch_norm:
            return None
        asked = _asked(_NORM, args, kwargs)
        statistics = [asked[name] for name in _STATISTICS]
        names = tuple(self._names.get(id(each)) for each in statistics)
        known = all(name is not None or each is None for name, each in zip(names, statistics, strict=True))
        if asked["input"] is not read or asked["training"] or None in names[:2] or not known:
            return None
        return Norm(names, asked["eps"])


class _Folded(TorchFunctionMode):
    """Computes convolutions with changed weights, and lets the batch norms that are in them pass."""

    def __init__(
        self,
        folds: Folds,
        convolved: Callable[[Fold, Any, Mapping[str, Any]], tuple[Tensor, bool]],
        is_norm: Callable[[Fold, Any, Any, Any], bool],
    ) -> None:
        super().__init__()
        self._folds, self._convolved, self._is_norm = folds, convolved, is_norm
        self._count = 0
        self._passed: dict[int, ReferenceType[Tensor]] = {}
        self.awaited: dict[int, tuple[Tensor, Fold]] = {}

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        kwargs = kwargs or {}
        if func not in _ASKING:
            for each in operands((*args, *kwargs.values())):
                if id(each) in self.awaited:
                    output, fold = self.awaited.pop(id(each))
                    if not self._is_norm(fold, func, args, kwargs):
                        raise _OtherwiseError
                    return self._normalised(output)
                if each is self._passed.get(id(each), _nothing)():
                    raise _OtherwiseError
        if func not in _CONVOLUTIONS:
            return func(*args, **kwargs)
        found = self._folds.get(self._count)
        self._count += 1
        if found is None:
            return func(*args, **kwargs)
        result, normalised = self._convolved(found, func, _asked(_CONVOLUTION, args, kwargs))
        if normalised:
            self.awaited[id(result)] = result, found
        return result

    def _normalised(self, output: Tensor) -> Tensor:
        """What the batch norm returns: another tensor than the convolution, so that later readers are told apart."""
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


def _suits_onednn(dtype: torch.dtype, asked: Mapping[str, Any]) -> bool:
    """Whether oneDNN computes a convolution, in bfloat16 with a bias of float32, which `F.conv2d` does not take."""
    picture: Tensor = asked["input"]
    return (
        (dtype == torch.float32 or (dtype == torch.bfloat16 and fast_in_bfloat16("cpu")))
        and picture.device.type == "cpu"
        and picture.ndim == asked["weight"].ndim
        and not isinstance(asked["padding"], str)
        and bool(torch.backends.mkldnn.enabled)
        and hasattr(torch.ops.mkldnn, "_convolution_pointwise")
    )


def _options(asked: Mapping[str, Any]) -> tuple[list[int], list[int], list[int], int]:
    """Padding, stride and dilation, a number per axis, and groups."""
    axes = asked["weight"].ndim - 2
    padding, stride, dilation = (
        [int(number) for number in each] if isinstance(each, Sequence) else [int(each)] * axes
        for each in (asked["padding"], asked["stride"], asked["dilation"])
    )
    return padding, stride, dilation, asked["groups"]


def _laid_out(weight: Tensor, layout: tuple[Any, ...] | None) -> Tensor:
    """A weight as oneDNN reads it, by the options and the input's shape; that of one axis stays as it is."""
    if layout is None or weight.ndim == 3:
        return weight
    found: Tensor = torch.ops.mkldnn._reorder_convolution_weight(weight, *layout)
    return found


def _named(module: nn.Module) -> dict[str, Tensor]:
    return dict(module.named_parameters()) | dict(module.named_buffers())
