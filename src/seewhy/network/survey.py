"""One look at what a network computes: every module call, its output, and what the target makes of it."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from typing import Any, Literal

import torch
from torch import Tensor, nn

from seewhy.errors import NotApplicableError
from seewhy.network.inputs import Arguments
from seewhy.network.layout import Layout, LayoutFinder
from seewhy.network.precision import out_of_memory
from seewhy.network.preserve import Forward, replaced_forwards, version
from seewhy.network.probe import begin_graph
from seewhy.network.structures import map_tensors, tensors

_POOLING = (
    nn.modules.pooling._MaxPoolNd,
    nn.modules.pooling._AvgPoolNd,
    nn.modules.pooling._AdaptiveAvgPoolNd,
    nn.modules.pooling._AdaptiveMaxPoolNd,
    nn.modules.pooling._LPPoolNd,
)


_PICKING = {
    *("Sum", "Amax", "Max", "Select", "Slice", "Index", "Squeeze", "Unsqueeze"),
    *("View", "Reshape", "Alias", "Clone", "ToCopy", "Expand"),
}
"""Names of autograd nodes that only pick, add up or reshape."""


@dataclass(frozen=True)
class BatchAxis:
    """Where the pictures are in one tensor of a module's output.

    Attributes:
        axis: the axis that grows with the batch; None for a tensor that does not, such as a position table.
        fold: entries per picture along the axis: 1, or F for F frames folded into the batch.
        picture_major: whether the F entries of one picture stand together.
    """

    axis: int | None
    fold: int = 1
    picture_major: bool = True

    def expand(self, tensor: Tensor, rows: Tensor) -> Tensor:
        """The tensor for a batch made of these rows; always a copy, as its consumer may write to it."""
        if self.axis is None:
            return tensor.clone()
        if self.fold == 1:
            return tensor.index_select(self.axis, rows)
        sizes = (-1, self.fold) if self.picture_major else (self.fold, -1)
        split = tensor.reshape(*tensor.shape[: self.axis], *sizes, *tensor.shape[self.axis + 1 :])
        axis = self.axis if self.picture_major else self.axis + 1
        return split.index_select(axis, rows).flatten(self.axis, self.axis + 1)


Use = Literal["used", "ignored", "unknown"]


@dataclass(frozen=True)
class Call:
    """One call of one module during a forward pass.

    Attributes:
        name: dotted module name; "" is the network itself.
        index: how many calls of the same module came before it.
        kind: class name of the module.
        started: place in the order in which calls began.
        finished: place in the order in which calls ended.
        shapes: shape for one picture of every tensor in the output.
        axes: the batch axis of every tensor in the output; None where it could not be learned.
        leaf: which of these tensors is the feature map.
        layout: how to read the feature map; None where it has no positions.
        passes_on: the output is an input, untouched, as in evaluation-mode dropout.
        source: the first call (by place in `Survey.calls`) that returned this very tensor.
        pools: the module is a pooling layer.
        positions: whether the target depends on the map's positions.
        channels: on how many channels the target depends.
        inputs: the picture inputs that the output depends on.
    """

    name: str
    index: int
    kind: str
    started: int
    finished: int
    shapes: tuple[tuple[int, ...], ...]
    axes: tuple[BatchAxis | None, ...] = ()
    leaf: int = 0
    layout: Layout | None = None
    passes_on: bool = False
    source: int = -1
    pools: bool = False
    positions: Use = "unknown"
    channels: int = 0
    inputs: tuple[int | str, ...] = ()

    @property
    def shape(self) -> tuple[int, ...]:
        """Shape of the feature map (or of the first tensor) for one picture."""
        return self.shapes[self.leaf] if self.shapes else ()


@dataclass(frozen=True)
class Survey:
    """What a network computes.

    Attributes:
        calls: every call of a module, in the order in which they ended.
        columns: how many output columns the target chooses from; None if it does not choose.
        forwards: pictures run to find this out.
        steady: whether two pictures make the same calls as one, which loops over the pictures do not.
        squashed: whether the output comes out of a sigmoid or softmax, be it a module or a function.
    """

    calls: tuple[Call, ...]
    columns: int | None
    forwards: int
    steady: bool
    squashed: bool

    def of(self, name: str) -> list[Call]:
        """All calls of one module."""
        return [call for call in self.calls if call.name == name]


def survey(
    module: nn.Module,
    arguments: Arguments,
    score: Callable[[Any], tuple[Tensor, int | None]],
    read: Callable[[Any], Tensor | None],
    prefix: int | None = None,
) -> Survey:
    """Run one and two noisy pictures and note what every module returns and which of it the target uses.

    Noise is added so that a black picture or a dead unit does not look like a network that ignores a layer.
    Call it inside `preserved`.

    Args:
        module: the network.
        arguments: a real call of it; the first picture is taken.
        score: the scalar that is explained, from the outputs, and the number of columns it chooses from.
        read: the output that holds the answers, from the outputs, if there is one.
        prefix: class and register tokens before the position tokens, where the network says so.
    """
    pair = noisy_pair(arguments)
    single = pair.select(slice(0, 1))
    names = {each: name for name, each in module.named_modules()}

    with torch.no_grad():
        two = _record(module, names, pair)
    one = _record(module, names, single, differentiate=True)
    total, columns = score(one.outputs)
    steady = [(a.name, a.index) for a in one.entries] == [(b.name, b.index) for b in two.entries]
    calls = _with_batch_axes(one.entries, two.entries if steady else None)
    calls = _with_layouts(calls, one.entries, LayoutFinder(arguments.size, prefix))
    calls = _with_gradients(calls, one.entries, total)
    answers = read(one.outputs)
    squashed = answers is not None and _is_squashed(answers)
    forwards = 3
    del one, total, answers

    dependence: dict[int, list[int | str]] = {}
    if len(arguments.pictures) > 1:
        forwards += 2 * len(arguments.pictures)
        dependence = _input_dependence(module, names, pair, two.entries)
    everything = arguments.pictures
    calls = [
        replace(call, inputs=tuple(dependence.get(place, ())) or everything[:1])
        for place, call in enumerate(calls)
    ]
    return Survey(tuple(calls), columns, forwards, steady, squashed)


@dataclass
class _Entry:
    """What one recorded call left behind."""

    name: str
    index: int
    module: nn.Module
    started: int
    tensors: list[Tensor | tuple[int, ...]]
    versions: list[int]
    signatures: list[Tensor | None]
    passes_on: bool


@dataclass
class _Record:
    entries: list[_Entry] = field(default_factory=list)
    outputs: Any = None


def _record(
    module: nn.Module, names: Mapping[nn.Module, str], arguments: Arguments, differentiate: bool = False
) -> _Record:
    """One forward pass; tensors are kept where gradients are wanted, otherwise only their shapes."""
    record = _Record()
    begun = 0
    calls: Counter[str] = Counter()

    def watch(each: nn.Module) -> Forward:
        def forward(original: Forward, *args: Any, **kwargs: Any) -> Any:
            nonlocal begun
            begun += 1
            started, index = begun, calls[names[each]]
            calls[names[each]] += 1
            before = {id(leaf): version(leaf) for leaf in tensors((args, kwargs))}
            output = original(*args, **kwargs)
            if differentiate:
                output = map_tensors(_connected, output)
            leaves = tensors(output)
            record.entries.append(
                _Entry(
                    names[each],
                    index,
                    each,
                    started,
                    list(leaves) if differentiate else [tuple(leaf.shape) for leaf in leaves],
                    [version(leaf) for leaf in leaves],
                    [_signature(leaf) for leaf in leaves],
                    bool(leaves) and before.get(id(leaves[0])) == version(leaves[0]),
                )
            )
            return output

        return forward

    if differentiate:
        # A graph through the pictures, on copies, so that in-place preprocessing may write to them.
        pictures = {id(arguments[key]) for key in arguments.pictures}
        arguments = arguments.map(
            lambda value: value.detach().requires_grad_().clone() if id(value) in pictures else value
        )
    with replaced_forwards({each: watch(each) for each in names}):
        record.outputs = arguments.call(module)
    return record


def noisy_pair(arguments: Arguments) -> Arguments:
    """The first picture twice, under two noises of the picture's own strength."""
    generator = torch.Generator().manual_seed(0)
    first = arguments.select(slice(0, 1))

    def noisy(value: Tensor) -> Tensor:
        doubled = value.expand(2, *value.shape[1:]).clone()
        if not value.is_floating_point() or value.ndim < 3:
            return doubled
        strength = float(value.std()) or 1.0
        noise = torch.randn(doubled.shape, generator=generator, dtype=torch.float32)
        return doubled + (strength * noise).to(value.device, value.dtype)

    return first.map(noisy)


def _connected(leaf: Tensor) -> Tensor:
    """The value itself, or a copy that begins a graph where the network ran without one."""
    return begin_graph(leaf)[1] if leaf.is_floating_point() and not leaf.requires_grad else leaf


def _is_float(leaf: object) -> bool:
    return isinstance(leaf, Tensor) and leaf.is_floating_point()


def _signature(tensor: Tensor) -> Tensor | None:
    """One number per entry of the first axis: tells whose entry it is when pictures are folded."""
    if not tensor.is_floating_point() or tensor.ndim == 0:
        return None
    return tensor.detach().float().flatten(1).mean(1) if tensor.ndim > 1 else tensor.detach().float()


def _batch_axis(
    one: tuple[int, ...], two: tuple[int, ...], first: Tensor | None, both: Tensor | None
) -> BatchAxis | None:
    """The axis along which two pictures take twice the room of one."""
    if one == two:
        return BatchAxis(None)
    grown = [axis for axis, (a, b) in enumerate(zip(one, two, strict=False)) if a != b]
    if len(one) != len(two) or len(grown) != 1 or two[grown[0]] != 2 * one[grown[0]]:
        return None
    axis = grown[0]
    fold = one[axis]
    if fold == 1 or axis > 0 or first is None or both is None:
        return BatchAxis(axis) if fold == 1 else None
    picture_major = torch.allclose(both[:fold], first, rtol=1e-3, atol=1e-5)
    if not picture_major and not torch.allclose(both[::2], first, rtol=1e-3, atol=1e-5):
        return None
    return BatchAxis(axis, fold, picture_major)


def _with_batch_axes(one: list[_Entry], two: list[_Entry] | None) -> list[Call]:
    """The calls, with the batch axes learned from the two passes where both made the same calls."""
    calls = []
    for place, entry in enumerate(one):
        shapes = tuple(tuple(tensor.shape) for tensor in entry.tensors if isinstance(tensor, Tensor))
        axes: list[BatchAxis | None] = [None] * len(shapes)
        if two is not None and len(two[place].tensors) == len(shapes):
            for leaf, shape in enumerate(shapes):
                other = two[place].tensors[leaf]
                assert isinstance(other, tuple)
                axes[leaf] = _batch_axis(shape, other, entry.signatures[leaf], two[place].signatures[leaf])
        kind, pools = type(entry.module).__name__, isinstance(entry.module, _POOLING)
        calls.append(
            Call(
                entry.name, entry.index, kind, entry.started, place, shapes, tuple(axes),
                passes_on=entry.passes_on, pools=pools,
            )
        )  # fmt: skip
    return calls


def _with_layouts(calls: list[Call], entries: list[_Entry], finder: LayoutFinder) -> list[Call]:
    """The calls with their feature map, its layout, and the call that first returned the same tensor."""
    sources: dict[tuple[int, int], int] = {}
    done: list[Call] = []
    for place, (call, entry) in enumerate(zip(calls, entries, strict=True)):
        leaf, layout = 0, None
        for candidate, (shape, axis) in enumerate(zip(call.shapes, call.axes, strict=True)):
            if (
                axis is not None
                and axis.fold == 1
                and axis.axis is not None
                and _is_float(entry.tensors[candidate])
            ):
                layout = finder.find(entry.module, shape, axis.axis)
            if layout is not None:
                leaf = candidate
                break
        source = place
        if entry.tensors:
            tensor = entry.tensors[leaf]
            assert isinstance(tensor, Tensor)
            source = sources.setdefault((id(tensor), entry.versions[leaf]), place)
        if layout is None and source < place:
            layout = done[source].layout
        done.append(replace(call, leaf=leaf, layout=layout, source=source))
    return done


def _with_gradients(calls: list[Call], entries: list[_Entry], total: Tensor) -> list[Call]:
    """The calls, with what the target makes of the positions and channels of each feature map.

    A map that a later operation overwrote in place is judged by what became of it.
    """
    wanted = [place for place, call in enumerate(calls) if call.layout is not None and call.source == place]
    tensors = [entries[place].tensors[calls[place].leaf] for place in wanted]
    reached = [
        (p, t) for p, t in zip(wanted, tensors, strict=True) if isinstance(t, Tensor) and t.requires_grad
    ]
    if not total.requires_grad or not reached:
        return calls
    try:
        gradients = torch.autograd.grad(total, [tensor for _, tensor in reached], allow_unused=True)
    except RuntimeError as error:
        if out_of_memory(error):
            raise
        raise NotApplicableError(
            f"the network cannot be differentiated ({str(error).splitlines()[0]}); checkpoints can be with "
            "use_reentrant=False. occlusion and rise need no gradient"
        ) from error
    done = list(calls)
    for (place, _), gradient in zip(reached, gradients, strict=True):
        layout = calls[place].layout
        assert layout is not None
        if gradient is None:
            done[place] = replace(calls[place], positions="ignored")
            continue
        strength = layout.maps(gradient)[0].abs()
        channels = int((strength.amax((-2, -1)) > 0).sum())
        done[place] = replace(calls[place], positions="used" if channels else "ignored", channels=channels)
    return [
        replace(call, positions=done[call.source].positions, channels=done[call.source].channels)
        for call in done
    ]


def _is_squashed(output: Tensor) -> bool:
    """Whether a sigmoid or softmax is the last to compute anything before values are picked."""
    node = output.grad_fn
    while node is not None:
        operation = node.name().partition("Backward")[0]
        if operation in ("Sigmoid", "Softmax"):
            return True
        if operation not in _PICKING or not node.next_functions:
            return False
        node = node.next_functions[0][0]
    return False


def _input_dependence(
    module: nn.Module, names: Mapping[nn.Module, str], pair: Arguments, base: list[_Entry]
) -> dict[int, list[int | str]]:
    """Which picture inputs each call depends on: those whose exchange changes its output."""
    found: dict[int, list[int | str]] = {}
    for key in pair.pictures:
        exchanged = pair[key]
        swapped = pair.map(lambda value, it=exchanged: value.flip(0) if value is it else value)  # type: ignore[misc]
        with torch.no_grad():
            other = _record(module, names, swapped)
        for place, (before, after) in enumerate(zip(base, other.entries, strict=False)):
            pairs = zip(before.signatures, after.signatures, strict=False)
            if any(a is not None and b is not None and not torch.equal(a, b) for a, b in pairs):
                found.setdefault(place, []).append(key)
    return found
