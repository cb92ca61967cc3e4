"""Run a network up to a layer once, and on from it as often as needed."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from typing import Any

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn
from torch.overrides import TorchFunctionMode

from seewhy.network.inputs import Arguments
from seewhy.network.layout import Layout
from seewhy.network.precision import out_of_memory
from seewhy.network.preserve import Forward, replaced_forwards
from seewhy.network.probe import with_leaf
from seewhy.network.structures import map_tensors, tensors
from seewhy.network.survey import BatchAxis, Call, Survey

_TOLERANCE = 1e-3
_INPUTS = ("", -1)  # stands among the skipped calls for the network's own inputs
_READS_NO_VALUES = {"shape", "size", "dim", "ndim", "device", "dtype", "is_cuda", "numel", "requires_grad"}


@dataclass(frozen=True)
class Plan:
    """Which calls a replay skips, and which of their outputs it needs; holds names only, no tensors.

    Attributes:
        call: the layer's call whose output is given.
        skipped: the outermost calls that ended before it, with the batch axes of their outputs.
        order: per module, which of its calls a replay still sees; those inside skipped calls are gone.
        needed: the calls whose values are read by what still runs; the others' outputs only have shapes.
        verified: whether a replay was found to give what a full forward gives.
        writes: whether the network writes into what the layer returned.
    """

    call: Call
    skipped: Mapping[tuple[str, int], tuple[BatchAxis | None, ...]]
    order: Mapping[str, tuple[int, ...]]
    needed: frozenset[tuple[str, int]]
    verified: bool
    writes: bool = True

    @property
    def lean(self) -> bool:
        """Whether some outputs only have shapes."""
        return not self.needed.issuperset((*self.skipped, _INPUTS))


@dataclass
class Head:
    """The network from one layer's activation on, for the pictures it was recorded with.

    Attributes:
        activation: what the layer returned for these pictures, as it returned it.
        outputs: what the network returned for them.
        replays: how many pictures have been run through the head.
        forwards: how many were run through the whole network, as recording does, and every call of a head
            that could not be verified.
    """

    module: nn.Module
    plan: Plan
    arguments: Arguments
    activation: Tensor
    outputs: Any
    recorded: Mapping[tuple[str, int], Any]
    replays: int = 0
    forwards: int = 0

    def __call__(self, activation: Float[Tensor, "*shape"], rows: Int[Tensor, " M"] | None = None) -> Any:
        """The outputs for M other activations. Call it inside `preserved`.

        Args:
            activation: shaped as the layer returns it, with M in place of the batch.
            rows: which recorded picture each of the M stands for; all pictures in order by default.
        """
        device = self.activation.device
        rows = torch.arange(self.arguments.batch, device=device) if rows is None else rows.to(device)
        if self.plan.verified:
            self.replays += len(rows)
            outputs = self.replayed(activation, rows)
            # NaN, where only shapes were given: it may have read what it did not when the replay was planned.
            if not self.plan.lean or not any(bool(each.isnan().any()) for each in tensors(outputs)):
                return outputs
        self.forwards += len(rows)
        given = activation.clone() if self.plan.writes else activation
        return _inject(self.module, self.arguments.select(rows), self.plan.call, given)

    def replayed(self, activation: Tensor, rows: Tensor) -> Any:
        """The outputs of what comes after the layer alone."""
        given = self.given(activation.clone() if self.plan.writes else activation, rows)
        return _replay(self.module, self.plan, self.inputs(rows), given)

    @property
    def maps(self) -> Float[Tensor, "B K *grid"]:
        """The activation as feature maps, in float32."""
        return self._layout.maps(self.activation).float()

    def holding(self, maps: Float[Tensor, "M K *grid"], rows: Int[Tensor, " M"]) -> Tensor:
        """The activation for these rows with other feature maps in it, as the layer would return it."""
        axis = self.plan.call.axes[self.plan.call.leaf]
        assert axis is not None
        return self._layout.replace(axis.expand(self.activation, rows), maps.to(self.activation.dtype))

    @property
    def _layout(self) -> Layout:
        layout = self.plan.call.layout
        assert layout is not None
        return layout

    def inputs(self, rows: Tensor) -> Arguments:
        """The network's inputs for these rows; only their shapes where nobody reads their values."""
        if _INPUTS in self.plan.needed:
            return self.arguments.select(rows)
        return self.arguments.map(lambda each: _shell(each, BatchAxis(0), rows))

    def given(self, activation: Tensor, rows: Tensor) -> dict[tuple[str, int], Any]:
        """What the skipped calls and the layer return in a replay for these rows."""
        given = {key: self._expanded(key, axes, rows) for key, axes in self.plan.skipped.items()}
        call = self.plan.call
        layer = (call.name, call.index)
        output = self._expanded(layer, call.axes, rows) if len(call.axes) > 1 else self.recorded[layer]
        return {**given, layer: with_leaf(output, call.leaf, lambda _: activation)}

    def _expanded(self, key: tuple[str, int], axes: tuple[BatchAxis | None, ...], rows: Tensor) -> Any:
        """A recorded output for these rows; where nobody reads its values, only its shape."""
        remaining = iter(axes)

        def each(tensor: Tensor) -> Tensor:
            axis = next(remaining)
            assert axis is not None
            return axis.expand(tensor, rows) if key in self.plan.needed else _shell(tensor, axis, rows)

        return map_tensors(each, self.recorded[key])


def record(module: nn.Module, arguments: Arguments, plan: Plan) -> Head:
    """Run the network once on these pictures and keep what a replay needs. Call it inside `preserved`."""
    kept: dict[tuple[str, int], Any] = {}
    activations: list[Tensor] = []

    def keep(key: tuple[str, int], output: Any) -> Any:
        if key == (plan.call.name, plan.call.index):
            kept[key] = map_tensors(lambda leaf: leaf.detach().clone(), output)
            activations.append(tensors(kept[key])[plan.call.leaf])
        elif key in plan.skipped:
            copied = key in plan.needed
            kept[key] = map_tensors(lambda leaf: leaf.detach().clone() if copied else _empty(leaf), output)
        return output

    with torch.no_grad(), _watched(module, {name for name, _ in [*plan.skipped, (plan.call.name, 0)]}, keep):
        outputs = arguments.call(module)
    return Head(module, plan, arguments, activations[0], outputs, kept, forwards=arguments.batch)


def plan_replay(module: nn.Module, pair: Arguments, survey: Survey, call: Call) -> Plan:
    """Work out, and verify, how to replay from a call. Call it inside `preserved`.

    A perturbed activation, for more rows than there are pictures, must give what a full forward gives
    whose layer is made to return that activation; otherwise the head falls back to such full forwards.
    Other pictures run in between, so that a network that remembers the last ones it saw is found out.

    Args:
        module: the network.
        pair: a call of it with two pictures.
        survey: what the network computes.
        call: the layer's call.
    """
    outermost = _outermost_before(survey, call)
    skipped = {(each.name, each.index): each.axes for each in outermost}
    learned = all(axis is not None for axes in [*skipped.values(), call.axes] for axis in axes)
    layer = (call.name, call.index)
    everything = frozenset([*skipped, layer, _INPUTS])
    order = _order(survey, [*outermost, call])
    plan = Plan(call, skipped if learned else {}, order if learned else {}, everything, verified=False)
    if not learned:
        return plan
    head = record(module, pair, replace(plan, verified=True))
    rows = torch.tensor([0, 1, 1, 1], device=head.activation.device)
    axis = call.axes[call.leaf]
    assert axis is not None
    activation = axis.expand(head.activation, rows)
    generator = torch.Generator().manual_seed(0)
    noise = torch.randn(activation.shape, generator=generator).to(activation)
    activation = activation + noise * (activation.std() + 1e-3)
    with torch.no_grad():
        expected = _inject(module, pair.select(rows), call, activation.clone())
        pair.map(lambda value: value.flip(0)).call(module)
        try:
            with _Readers() as readers:
                inputs, handed = head.inputs(rows), activation.clone()
                given = head.given(handed, rows)
                readers.watch({**given, _INPUTS: (inputs.positional, inputs.named)})
                got = _replay(module, plan, inputs, given)
            needed = frozenset([*readers.read, layer])
            full = replace(plan, verified=True, writes=handed._version > 0)
            verified = replace(full, needed=needed)
            lean = replace(head, plan=verified).replayed(activation, rows)
        except Exception as error:
            # Whatever the network's own code makes of a replay, it runs whole then.
            if out_of_memory(error):
                raise
            return plan
    if not _same(expected, got):
        return plan
    return verified if _same(expected, lean) else full


def _outermost_before(survey: Survey, call: Call) -> list[Call]:
    """The outermost calls that ended before the layer's call did, and are not part of it."""
    before = [
        each for each in survey.calls if each.finished < call.finished and not (each.started > call.started)
    ]
    outermost: list[Call] = []
    for each in sorted(before, key=lambda other: other.started):
        if not outermost or each.finished > outermost[-1].finished:
            outermost.append(each)
    return outermost


def _order(survey: Survey, given: list[Call]) -> dict[str, tuple[int, ...]]:
    """Per module among the given calls, its calls that are not inside one of them."""
    spans = [(each.started, each.finished) for each in given]
    order: dict[str, tuple[int, ...]] = {}
    for name in {each.name for each in given}:
        order[name] = tuple(
            each.index
            for each in survey.of(name)
            if not any(start < each.started and each.finished < end for start, end in spans)
        )
    return order


def _replay(module: nn.Module, plan: Plan, arguments: Arguments, given: Mapping[tuple[str, int], Any]) -> Any:
    """Run the network; calls whose output is given return it, everything else runs."""
    counts: Counter[str] = Counter()
    modules = dict(module.named_modules())

    def stand_in(name: str) -> Forward:
        def forward(original: Forward, *args: Any, **kwargs: Any) -> Any:
            seen, order = counts[name], plan.order[name]
            counts[name] += 1
            key = (name, order[seen] if seen < len(order) else -1)
            return given[key] if key in given else original(*args, **kwargs)

        return forward

    with replaced_forwards({modules[name]: stand_in(name) for name in {name for name, _ in given}}):
        # Not on copies of the arguments: most have no memory of their own, and the others are copies already.
        return module(*arguments.positional, **arguments.named)


def _inject(module: nn.Module, arguments: Arguments, call: Call, activation: Tensor) -> Any:
    """A full forward in which the layer returns the given activation."""

    def change(key: tuple[str, int], output: Any) -> Any:
        if key != (call.name, call.index):
            return output
        return with_leaf(output, call.leaf, lambda _: activation)

    with _watched(module, {call.name}, change):
        return arguments.call(module)


@contextmanager
def _watched(module: nn.Module, names: set[str], change: Any) -> Iterator[None]:
    """Pass the outputs of these modules through `change((name, call index), output)`."""
    counts: Counter[str] = Counter()
    modules = dict(module.named_modules())

    def watch(name: str) -> Forward:
        def forward(original: Forward, *args: Any, **kwargs: Any) -> Any:
            index = counts[name]
            counts[name] += 1
            return change((name, index), original(*args, **kwargs))

        return forward

    with replaced_forwards({modules[name]: watch(name) for name in names}):
        yield


class _Readers(TorchFunctionMode):
    """Notes whose recorded outputs are read by an operation that a replay still runs."""

    def __init__(self) -> None:
        super().__init__()
        self.read: set[tuple[str, int]] = set()
        self._owner: dict[int, tuple[str, int]] = {}

    def watch(self, outputs: Mapping[tuple[str, int], Any]) -> None:
        """Tell whose tensors these are; they must outlive the block, as they are known by identity."""
        for key, output in outputs.items():
            for tensor in tensors(output):
                self._owner[id(tensor)] = key

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        name = getattr(func, "__name__", "")
        if name == "__get__":
            name = getattr(getattr(func, "__self__", None), "__name__", "")
        if name not in _READS_NO_VALUES:
            owners = (self._owner.get(id(tensor)) for tensor in tensors((args, kwargs or {})))
            self.read.update(owner for owner in owners if owner is not None)
        return func(*args, **(kwargs or {}))


def _empty(tensor: Tensor, shape: Sequence[int] | None = None) -> Tensor:
    """A tensor's shape, or another, without memory for values: NaN, so that it shows where they are read."""
    value = math.nan if tensor.is_floating_point() else 0
    return tensor.new_full((), value).expand(tensor.shape if shape is None else shape)


def _shell(tensor: Tensor, axis: BatchAxis, rows: Tensor) -> Tensor:
    """The shape that a tensor would have for these rows, without memory for its values."""
    shape = list(tensor.shape)
    if axis.axis is not None:
        shape[axis.axis] = axis.fold * len(rows)
    return _empty(tensor, shape)


def _same(expected: Any, got: Any) -> bool:
    """Whether two outputs hold tensors that agree, within what another batch size makes of float32.

    Outputs that are the same for all rows, as of a classifier of zeros, tell nothing.
    """
    some, others = tensors(expected), tensors(got)
    if len(some) != len(others) or any(a.shape != b.shape for a, b in zip(some, others, strict=True)):
        return False
    pairs = [(a, b) for a, b in zip(some, others, strict=True) if a.is_floating_point() and a.numel()]
    telling = any(a.ndim > 0 and bool((a != a[:1]).any()) for a, _ in pairs)
    return telling and all(
        float((a - b).abs().max()) <= _TOLERANCE * float(a.abs().max())
        for a, b in pairs  # not with NaN
    )
