"""Where the frames of a clip are in a layer's output: folded into the batch, or on an axis of their own."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import Literal

from jaxtyping import Float
from torch import Tensor, nn

from seewhy.errors import LayerError
from seewhy.network.layout import Layout, LayoutFinder
from seewhy.network.survey import BatchAxis, Call, Survey

Order = Literal["(BF)", "(FB)", "BF", "FB", "BKF", "calls"]
"""Clips B and frames F folded into one axis, or apart; `BKF` behind the channels; `calls`: one call per frame."""


@dataclass(frozen=True)
class FrameLayout(Layout):
    """How to read a layer's output as feature maps of frames (B, K, F, h, w).

    Attributes:
        order: where the clips and their frames are.
        frames: how many there are per clip.
    """

    order: Order = "BF"
    frames: int = 1

    def maps(self, output: Tensor) -> Float[Tensor, "B K F h w"]:
        if self.order == "BKF":
            return output
        return self._apart(super().maps(self._flat(output))).movedim(1, 2)

    def replace(self, output: Tensor, maps: Float[Tensor, "B K F h w"]) -> Tensor:
        if maps.shape[2] != self.frames:
            raise ValueError(f"maps of {maps.shape[2]} frames for clips of {self.frames}")
        if self.order == "BKF":
            return maps
        return self._unflat(super().replace(self._flat(output), maps.movedim(2, 1).flatten(0, 1)))

    def _flat(self, output: Tensor) -> Tensor:
        """The frames of the first clip, then those of the second, and so on, on the first axis."""
        if self.order == "(BF)":
            return output
        if self.order == "(FB)":
            output = output.reshape(self.frames, -1, *output.shape[1:])
        return (output if self.order in ("BF", "calls") else output.transpose(0, 1)).flatten(0, 1)

    def _unflat(self, flat: Tensor) -> Tensor:
        """The inverse."""
        if self.order == "(BF)":
            return flat
        apart = self._apart(flat)
        if self.order in ("BF", "calls"):
            return apart
        apart = apart.transpose(0, 1)
        return apart.flatten(0, 1) if self.order == "(FB)" else apart

    def _apart(self, flat: Tensor) -> Tensor:
        """Clips and their frames on axes of their own."""
        return flat.reshape(-1, self.frames, *flat.shape[1:])


def framed(
    survey: Survey, module: nn.Module, frames: int, size: tuple[int, int], order: Order | None = None
) -> list[Call]:
    """The calls that return feature maps of every frame, in order of computation, with their `FrameLayout`.

    Where one shape can be read in two ways, both are listed, the likelier one last. A layer that is called once per
    frame is listed by its last call.

    Args:
        survey: of the network, for such clips.
        module: the network.
        frames: per clip.
        size: height and width of a frame.
        order: where frames are, where it is known.

    Raises:
        LayerError: the network loops over the clips of a batch.
    """
    if not survey.steady:
        raise LayerError(
            "two clips make this network call other modules than one does; it must take a batch of clips"
        )
    modules, finder = dict(module.named_modules()), LayoutFinder(size)
    found: list[Call] = []
    for call in survey.calls:
        for leaf, (shape, axis) in enumerate(zip(call.shapes, call.axes, strict=True)):
            for each, rest in _readings(shape, axis, frames):
                inner = finder.find(modules[call.name], (1, *rest), 0) if len(rest) in (2, 3) else None
                if inner is not None and math.prod(inner.grid) > 1 and order in (None, each):
                    layout = FrameLayout(inner.axes, inner.grid, inner.prefix, each, frames)
                    found.append(replace(call, leaf=leaf, layout=layout))
        calls, own = survey.of(call.name), call.layout
        once_each = frames > 1 and len(calls) == frames and call is calls[-1] and len(call.shapes) == 1
        if once_each and own is not None and math.prod(own.grid) > 1 and order in (None, "calls"):
            layout = FrameLayout(own.axes, own.grid, own.prefix, "calls", frames)
            found.append(replace(call, layout=layout))
    return found


def chosen(calls: list[Call], layer: str | None) -> list[Call]:
    """The readings of the layer that is named, or of the last of all.

    Raises:
        LayerError: no layer returns a map of every frame, or not this one.
    """
    if not calls:
        raise LayerError(
            "no layer of this network returns a feature map of every frame; frames are looked for folded into the "
            "batch, as (B, F, ...), (F, B, ...) or (B, K, F, ...), or as one call each"
        )
    if layer is None:
        good = [each for each in calls if each.name and not each.passes_on and not each.pools] or calls
        return [each for each in good if (each.name, each.index) == (good[-1].name, good[-1].index)]
    name, _, index = layer.partition("[")
    own = [each for each in calls if each.name == name]
    if index:
        own = [each for each in own if f"{each.index}]" == index]
    if not own:
        names = ", ".join(list(dict.fromkeys(each.name for each in calls if each.name))[-8:])
        raise LayerError(
            f"no layer {layer!r} returns a feature map of every frame; among those that do: {names}"
        )
    return [each for each in own if each.index == own[-1].index]


def _readings(
    shape: tuple[int, ...], axis: BatchAxis | None, frames: int
) -> Iterator[tuple[Order, tuple[int, ...]]]:
    """How a clip's output of this shape can hold its frames, and the shape of what it says of one."""
    if axis is None or axis.axis is None:
        return
    if axis.axis == 0 and axis.fold == frames and len(shape) < 5:
        yield "(BF)" if axis.picture_major else "(FB)", shape[1:]
    if axis.fold != 1 or len(shape) < 4:
        return
    if axis.axis == 0 and len(shape) == 5 and shape[2] == frames:
        yield "BKF", (shape[1], *shape[3:])
    if axis.axis == 0 and shape[1] == frames:
        yield "BF", shape[2:]
    if axis.axis == 1 and shape[0] == frames:
        yield "FB", shape[2:]
