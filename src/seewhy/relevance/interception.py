"""What a network computes, operation by operation, each tied to its rule as it runs."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor
from torch.overrides import TorchFunctionMode
from torch.utils.weak import WeakTensorKeyDictionary

from seewhy.errors import NotApplicableError
from seewhy.network.operations import Computation, Operation, operation_of
from seewhy.relevance.affine import Affine, Map, Weighting
from seewhy.relevance.composites import ACCEPTED, Composite, names_of
from seewhy.relevance.conservation import Ledger
from seewhy.relevance.normalisations import batch_statistics, normalised
from seewhy.relevance.rules import STABILISER, Constant, Epsilon, Gate, Halves, Pass, Route, Unpool
from seewhy.relevance.steps import Bilinear, Joined, Passed, Product, Step, Sum, Unpooled, joined, step_of
from seewhy.relevance.weights import KeptWeights

# What moves or copies values: the gradient moves their relevance back.
_ROUTING = frozenset(
    (
        *(
            "view",
            "view_as",
            "reshape",
            "reshape_as",
            "flatten",
            "unflatten",
            "permute",
            "transpose",
            "t",
            "movedim",
        ),
        *(
            "moveaxis",
            "swapaxes",
            "swapdims",
            "squeeze",
            "unsqueeze",
            "chunk",
            "split",
            "tensor_split",
            "hsplit",
        ),
        *(
            "vsplit",
            "dsplit",
            "unbind",
            "narrow",
            "select",
            "index_select",
            "__getitem__",
            "gather",
            "expand",
        ),
        *(
            "expand_as",
            "broadcast_to",
            "repeat",
            "repeat_interleave",
            "tile",
            "roll",
            "flip",
            "fliplr",
            "flipud",
        ),
        *(
            "rot90",
            "contiguous",
            "clone",
            "to",
            "float",
            "double",
            "half",
            "bfloat16",
            "type",
            "type_as",
            "cpu",
            "cuda",
            "pad",
        ),
        *("unfold", "pixel_shuffle", "pixel_unshuffle", "channel_shuffle", "native_channel_shuffle"),
        *("max", "min", "maximum", "minimum", "sort", "topk", "__get__", "requires_grad_", "diagonal"),
    )
)
# What adds values up with fixed weights, none of them below 0, and nothing else.
_AVERAGING = frozenset(["sum", "interpolate", "upsample", "fold"])
_SQUASHING = frozenset(["sigmoid", "sigmoid_", "hardsigmoid", "softmax"])
_SUBTRACTING = ("sub", "sub_", "__sub__", "__isub__")


class Interception(TorchFunctionMode):
    """Within it every operation that relevance reaches is run as ever and tied to its rule.

    What overwrites its input is computed beside it instead, and whoever uses the input later is given the new
    tensor, so that what rules need of the old one stays.

    Args:
        composite: the rules.
        kept: changed weights.
        ledger: gives the books of the backward pass under way.
        box: the least and greatest values of pictures.
        layers: tensors whose relevance is wanted; where a normalisation is folded into the layer before it, the
            result of both stands for that layer.
    """

    def __init__(
        self,
        composite: Composite,
        kept: KeptWeights,
        ledger: Callable[[], Ledger],
        box: tuple[Tensor, Tensor] | None,
        layers: dict[tuple[str, int], Tensor],
    ) -> None:
        super().__init__()
        self.scope: list[str] = []
        self.functions: set[str] = set()
        self._composite = composite
        self._kept = kept
        self._ledger = ledger
        self._box = box
        self._layers = layers
        self._newer = WeakTensorKeyDictionary()
        self._rules: dict[Operation, Callable[[Computation], Any]] = {
            Operation.CONVOLUTION: self._layer,
            Operation.LINEAR: self._layer,
            Operation.MATRIX_PRODUCT: self._matrix_product,
            Operation.RELU: self._activation,
            Operation.ACTIVATION: self._activation,
            Operation.DROPOUT: self._activation,
            Operation.SOFTMAX: self._activation,
            Operation.ADD: self._sum,
            Operation.MULTIPLY: self._product,
            Operation.CONCATENATE: self._concatenated,
            Operation.MAX_POOL: self._max_pool,
            Operation.AVERAGE_POOL: self._average,
            Operation.BATCH_NORM: self._batch_norm,
            Operation.LAYER_NORM: self._norm,
            Operation.GROUP_NORM: self._norm,
        }

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        args, kwargs = self._currently(args), kwargs or {}
        carrying = [each for each in _tensors((*args, *kwargs.values())) if each.requires_grad]
        if not carrying:
            return func(*args, **kwargs)
        operation = operation_of(func)
        name = getattr(func, "__name__", str(func))
        if operation is None:
            return self._other(name, func, args, kwargs)
        self.functions.add(name)
        for each in carrying:
            _check_origin(each, self._where)
        return self._rules[operation](Computation(operation, func, tuple(args), kwargs))

    def current(self, tensor: Tensor) -> Tensor:
        """The tensor, or what it was overwritten by."""
        while len(self._newer) and tensor in self._newer:
            tensor = self._newer[tensor]
        return tensor

    @property
    def _where(self) -> str:
        return self.scope[-1] if self.scope else ""

    def _currently(self, args: Any) -> Any:
        if not len(self._newer):
            return args
        return tuple(
            self.current(each)
            if isinstance(each, Tensor)
            else type(each)(self._currently(each))
            if type(each) in (list, tuple)
            else each
            for each in args
        )

    def _rule(self, computation: Computation, kind: str | None = None, first: bool = False) -> Any:
        """The rule for a computation.

        Raises:
            NotApplicableError: there is none.
        """
        name = _name(computation)
        kind = kind or computation.operation.value
        rule = self._composite.find(kind, self._where, name, first)
        if rule is None:
            raise self._without(name, kind, names_of(ACCEPTED[kind]))
        return rule

    def _without(self, name: str, kind: str, rules: Iterable[str]) -> NotApplicableError:
        place = f" in {self._where!r}" if self._where else ""
        choices = " or ".join(repr(each) for each in rules)
        advice = (
            f"give one, as in LRP(rules={{{kind!r}: ...}}): {choices}" if choices else "there is none to give"
        )
        return NotApplicableError(f"relevance has no rule for {name} ({kind}){place}; {advice}")

    def _written(self, computation: Computation) -> tuple[Tensor, bool]:
        """The ordinary result without a graph, computed beside the input, and whether it should overwrite it."""
        named = dict(computation.kwargs)
        first, *others = computation.args or (named.pop("input"),)
        value = first.detach()
        with torch.no_grad():
            if named.get("inplace"):
                return computation.function(value, *others, **{**named, "inplace": False}), True
            if not (computation.in_place or any(each is True for each in others)):
                return computation.function(value, *others, **named), False
            value = value.clone()
            result: Tensor = computation.function(value, *others, **named)
        return result, result.data_ptr() == value.data_ptr()

    def _tie(self, step: Step, value: Tensor, *inputs: Tensor, replaces: Tensor | None = None) -> Tensor:
        result = joined(step, value, *inputs)
        if replaces is not None:
            self._newer[replaces] = result
        return result

    def _other(self, name: str, func: Any, args: Any, kwargs: Any) -> Any:
        """What no kind of operation stands for: it moves values, is asked for by its own name, or is refused."""
        first = args[0] if args else None
        rule = None
        if name not in ("__get__", "size", "dim"):
            rule = self._composite.find(name, self._where, name)
        if isinstance(rule, Constant):
            return func(*_detached(args), **kwargs)
        result = func(*args, **kwargs)
        if not any(each.requires_grad for each in _tensors((result,))) and name != "__setitem__":
            return result
        self.functions.add(name)
        writes = name == "__setitem__" or (name.endswith("_") and not name.endswith("__"))
        if writes and name != "requires_grad_":
            if isinstance(first, Tensor) and not first.is_leaf and name not in ("__setitem__", "copy_"):
                raise self._without(name, name, ())
            return result
        if name in _ROUTING or isinstance(rule, Route):
            return result
        computation = Computation(Operation.AVERAGE_POOL, func, tuple(args), kwargs)
        if name in _AVERAGING:
            return self._average(computation)
        if name in ("neg", "__neg__", "normalize") or isinstance(rule, Pass):
            return self._tie(Passed(), result.detach(), first)
        if isinstance(rule, Epsilon):
            return self._average(computation, rule)
        raise self._without(name, name, ("pass", "route", "epsilon", "constant"))

    def _affine(
        self, rule: Any, source: Tensor, map_: Map, weighting: Weighting, bias: Tensor | None, **details: Any
    ) -> Tensor:
        step = Affine(self._where, rule, source, map_, weighting, bias, self._ledger, self._kept, **details)
        return self._tie(step, step.run(), source)

    def _layer(self, computation: Computation) -> Tensor:
        """A convolution or a linear layer."""
        function, named = computation.function, dict(computation.kwargs)
        places = ("input", "weight", "bias")
        given = {**dict(zip(places, computation.args, strict=False)), **named}
        source, weight, bias = given["input"], given["weight"], given.get("bias")
        if weight.requires_grad or not source.requires_grad or _name(computation) == "bilinear":
            raise self._without(_name(computation), computation.operation.value + " of computed weights", ())
        rest = computation.args[3:]
        named = {key: value for key, value in named.items() if key not in places}
        transposed, groups = "transpose" in _name(computation), given.get("groups", 1)
        if transposed and len(computation.args) > 6:
            groups = computation.args[6]
        first, box = self._reads_pictures(source)
        linear = computation.operation is Operation.LINEAR

        def map_(each: Tensor, under: Any, added: Tensor | None) -> Tensor:
            result: Tensor = function(each, under, None if added is None else added.flatten(), *rest, **named)
            return result

        return self._affine(
            self._rule(computation, first=first),
            source,
            map_,
            Weighting(weight, None, (weight,)),
            None if bias is None else bias if linear else bias.reshape(-1, *[1] * (weight.ndim - 2)),
            box=box,
            fold_axis=None if transposed and groups != 1 else 1 if transposed else 0,
            is_layer=True,
        )

    def _reads_pictures(self, source: Tensor) -> tuple[bool, tuple[Tensor, Tensor] | None]:
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
        return True, self._box if plain else None

    def _matrix_product(self, computation: Computation) -> Tensor:
        """A product with a constant is a linear layer; of two that carry relevance it is what the user says."""
        name, function = _name(computation), computation.function
        if name == "scaled_dot_product_attention":
            self._rule(computation)
            query, key, value, *rest = computation.args
            return self._affine(
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
            raise self._without(name, computation.operation.value, ())
        bias = computation.args[0] if name == "addmm" else None
        if isinstance(bias, Tensor) and bias.requires_grad:
            raise self._without(name, "sum and matrix product", ())

        def product(one: Tensor, other: Tensor) -> Tensor:
            if name == "addmm":
                return one @ other
            before = computation.args[:1] if name == "einsum" else ()
            result: Tensor = function(*before, one, other)
            return result

        one, other = factors
        if one.requires_grad and other.requires_grad:
            rule = self._rule(computation)
            if isinstance(rule, Constant):
                return product(one.detach(), other.detach())
            leaves = (one.detach().requires_grad_(), other.detach().requires_grad_())
            output = product(*leaves)
            step = Bilinear(self._where, leaves, output, STABILISER, self._ledger)
            return self._tie(step, output.detach(), one, other)
        source, weight = (one, other) if one.requires_grad else (other, one)

        def map_(each: Tensor, under: Any, added: Tensor | None) -> Tensor:
            result = product(each, under) if one.requires_grad else product(under, each)
            return result if added is None else result + added

        return self._affine(
            self._rule(computation, Operation.LINEAR.value, self._reads_pictures(source)[0]),
            source,
            map_,
            Weighting(weight, None, (weight,)),
            bias,
            is_layer=True,
        )

    def _activation(self, computation: Computation) -> Tensor:
        """What works on each value alone."""
        rule = self._rule(computation)
        value, overwrites = self._written(computation)
        if isinstance(rule, Constant):
            return value
        source = (computation.args or (computation.kwargs["input"],))[0]
        if not source.requires_grad:
            raise self._without(_name(computation), "of a computed parameter", ())
        step = Passed(squashes=_name(computation) in _SQUASHING)
        return self._tie(step, value, source, replaces=source if overwrites else None)

    def _sum(self, computation: Computation) -> Tensor:
        rule = self._rule(computation)
        name = _name(computation)
        one, other = (
            *computation.args,
            *(computation.kwargs[k] for k in ("other",) if k in computation.kwargs),
        )[:2]
        factor = float(computation.kwargs.get("alpha", 1))
        factors = (-1.0, 1.0) if name == "__rsub__" else (1.0, -factor if name in _SUBTRACTING else factor)
        value, overwrites = self._written(computation)
        summands = [
            (each, sign)
            for each, sign in zip((one, other), factors, strict=True)
            if isinstance(each, Tensor) and each.requires_grad
        ]
        constant = next(
            (
                each * sign
                for each, sign in zip((one, other), factors, strict=True)
                if not isinstance(each, Tensor) or not each.requires_grad
            ),
            None,
        )
        step = Sum(
            self._where, [(t.detach(), sign) for t, sign in summands], constant, rule.epsilon, self._ledger
        )
        return self._tie(step, value, *(t for t, _ in summands), replaces=one if overwrites else None)

    def _product(self, computation: Computation) -> Tensor:
        rule = self._rule(computation)
        factors = (
            *computation.args,
            *(computation.kwargs[k] for k in ("other",) if k in computation.kwargs),
        )[:2]
        value, overwrites = self._written(computation)
        carrying = [each for each in factors if isinstance(each, Tensor) and each.requires_grad]
        if "div" in _name(computation) and carrying[-1] is factors[1]:
            raise self._without(_name(computation), "division by what carries relevance", ())
        shares = [1.0] if len(carrying) == 1 else _shares(carrying, rule)
        step = Product([each.shape for each in carrying], shares)
        return self._tie(step, value, *carrying, replaces=factors[0] if overwrites else None)

    def _concatenated(self, computation: Computation) -> Tensor:
        parts = list(_tensors(computation.args[:1] or (computation.kwargs.get("tensors"),)))
        if all(each.requires_grad for each in parts):
            result: Tensor = computation.run()
            return result
        leaves = [each.detach().requires_grad_() for each in parts]
        rest = computation.args[1:]
        output = computation.function(
            leaves, *rest, **{k: v for k, v in computation.kwargs.items() if k != "tensors"}
        )
        step = Joined(self._where, leaves, [each.requires_grad for each in parts], output, self._ledger)
        return self._tie(step, output.detach(), *(each for each in parts if each.requires_grad))

    def _max_pool(self, computation: Computation) -> Any:
        rule = self._rule(computation)
        if isinstance(rule, Route):
            return computation.run()
        assert isinstance(rule, Unpool)
        if _name(computation) != "max_pool2d":
            raise self._without(_name(computation), "unpooling", ("route",))
        source, *rest = computation.args
        named = {key: value for key, value in computation.kwargs.items() if key != "return_indices"}
        with torch.no_grad():
            value, indices = F.max_pool2d(source.detach(), *rest[:5], **named, return_indices=True)
        return self._tie(Unpooled(source.shape, indices), value, source)

    def _average(self, computation: Computation, rule: Any = None) -> Tensor:
        """Sums with fixed weights; under a rule of the user's, whatever is linear."""
        source = (computation.args or (computation.kwargs["input"],))[0]
        compute = _on_input(computation)

        def map_(each: Tensor, under: Any, _: Tensor | None) -> Tensor:
            return compute(each) if under == 1 else compute(each) * under

        return self._affine(rule or self._rule(computation), source, map_, Weighting(), None)

    def _batch_norm(self, computation: Computation) -> Tensor:
        """Folded into the convolution or linear layer before it; without one, a layer of its own."""
        found = batch_statistics(computation)
        if found is None:
            if _name(computation) == "instance_norm":
                return self._norm(computation)
            raise self._without(_name(computation), "by the statistics of the batch itself", ())
        source, scale, shift, sources = found
        before = step_of(source)
        compute = _on_input(computation)
        if isinstance(before, Affine) and before.is_layer and before.fold_axis is not None:
            with torch.no_grad():
                value = compute(source.detach())
            step = before.folded(scale, shift, sources, value)
            result = self._tie(step, value, before.source)
            for key, tensor in self._layers.items():
                if tensor is source:
                    self._layers[key] = result
            return result
        rule = self._rule(computation)
        if isinstance(rule, Pass):
            return self._tie(Passed(), compute(source.detach()), source)
        shape = (1, -1, *[1] * (source.ndim - 2))

        def map_(each: Tensor, under: Any, added: Tensor | None) -> Tensor:
            return each * under if added is None else each * under + added

        return self._affine(
            rule, source, map_, Weighting(scale.reshape(shape), None, sources), shift.reshape(shape)[0]
        )

    def _norm(self, computation: Computation) -> Tensor:
        """A normalisation by the values' own statistics: centring, and a scale that counts as constant."""
        kind = Operation.GROUP_NORM.value if computation.operation is Operation.BATCH_NORM else None
        rule = self._rule(computation, kind)
        found, exact = normalised(computation), _on_input(computation)
        value = exact(found.source.detach())
        if isinstance(rule, Pass):
            return self._tie(Passed(), value, found.source)
        step = Affine(
            self._where, rule, found.source, found.map, Weighting(), found.bias, self._ledger, self._kept
        )
        step.run()  # equal to the value but for rounding
        return self._tie(step, value, found.source)


def _on_input(computation: Computation) -> Callable[[Tensor], Tensor]:
    """The computation as a function of its first argument."""

    def compute(each: Tensor) -> Tensor:
        rest = computation.args[1:]
        named = {key: value for key, value in computation.kwargs.items() if key != "input"}
        result: Tensor = computation.function(each, *rest, **named)
        return result

    return compute


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


def _name(computation: Computation) -> str:
    return getattr(computation.function, "__name__", str(computation.function))


def _tensors(values: Iterable[Any]) -> Iterable[Tensor]:
    for each in values:
        if isinstance(each, Tensor):
            yield each
        elif isinstance(each, list | tuple):
            yield from _tensors(each)


def _detached(args: Any) -> Any:
    return tuple(each.detach() if isinstance(each, Tensor) else each for each in args)


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
