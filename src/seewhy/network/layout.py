"""Where the positions and channels of a layer's output are: NCHW maps, NHWC maps, token sequences."""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Literal

from jaxtyping import Float
from torch import Tensor, nn

Axes = Literal["BKhw", "BhwK", "BNK", "NBK"]
Grid = tuple[int, int]

_MOST_PREFIX_TOKENS = 16
_CHANNELS_FIRST = (nn.modules.conv._ConvNd, nn.modules.batchnorm._BatchNorm, nn.GroupNorm)


@dataclass(frozen=True)
class Layout:
    """How to read a layer's output as feature maps (B, K, h, w).

    Attributes:
        axes: the order of batch B, channels K and positions (h and w, or N tokens).
        grid: height and width of the map.
        prefix: class and register tokens before the N = h·w position tokens.
    """

    axes: Axes
    grid: Grid
    prefix: int = 0

    def maps(self, output: Tensor) -> Float[Tensor, "*lead B K h w"]:
        """The output as (…, B, K, h, w); further axes in front, as gradients of T targets have, are kept."""
        if self.axes == "BKhw":
            return output
        if self.axes == "BhwK":
            return output.movedim(-1, -3)
        if self.axes == "NBK":
            output = output.transpose(-3, -2)
        tokens = output[..., self.prefix :, :].transpose(-1, -2)
        return tokens.reshape(*tokens.shape[:-1], *self.grid)

    def replace(self, output: Tensor, maps: Float[Tensor, "B K h w"]) -> Tensor:
        """The output with its positions set to other maps; prefix tokens stay."""
        if self.axes == "BKhw":
            return maps
        if self.axes == "BhwK":
            return maps.movedim(-3, -1)
        tokens = maps.flatten(2).transpose(1, 2)
        replaced = output.clone()
        if self.axes == "NBK":
            replaced[self.prefix :] = tokens.transpose(0, 1)
        else:
            replaced[:, self.prefix :] = tokens
        return replaced


class LayoutFinder:
    """Reads layouts off shapes, given the picture's size and the maps of the convolutions seen so far.

    A sequence of tokens carries no grid of its own: it is the grid of a convolution that ran before it
    (the patch embedding), or that grid halved, as in hierarchical transformers.
    """

    def __init__(self, size: Grid, prefix: int | None = None) -> None:
        self.size = size
        self.prefix = prefix
        self._seen: list[Grid] = []
        self._known: dict[tuple[int, ...], Layout] = {}

    def find(self, module: nn.Module, shape: tuple[int, ...], batch_axis: int) -> Layout | None:
        """The layout of an output of this shape, or None where it has no two-dimensional positions."""
        if 0 in shape:
            return None
        if len(shape) == 4 and batch_axis == 0:
            return self._four(module, shape)
        if len(shape) == 3 and batch_axis in (0, 1):
            return self._tokens(module, shape[1 - batch_axis], "NBK" if batch_axis else "BNK")
        return None

    def _four(self, module: nn.Module, shape: tuple[int, ...]) -> Layout:
        first = Layout("BKhw", (shape[2], shape[3]))
        last = Layout("BhwK", (shape[1], shape[2]))
        if isinstance(module, _CHANNELS_FIRST):
            self._known[shape] = first
        elif _is_channels_last(module):
            self._known[shape] = last
        elif shape not in self._known:
            # What follows a convolution mostly keeps its shape, also where the grid is not like the picture.
            if self._stretch(first.grid) <= self._stretch(last.grid):
                return first
            self._known[shape] = last
        found = self._known[shape]
        self._seen.append(found.grid)
        return found

    def _stretch(self, grid: tuple[int, ...]) -> float:
        """How far a grid's proportions are from the picture's."""
        return abs(math.log(grid[0] / grid[1]) - math.log(self.size[0] / self.size[1]))

    def _tokens(self, module: nn.Module, count: int, axes: Axes) -> Layout | None:
        if isinstance(module, nn.RNNBase):
            return None
        for grid in reversed(self._seen):
            prefix = count - grid[0] * grid[1]
            expected = self.prefix is None or prefix == self.prefix
            if expected and 0 <= prefix <= _MOST_PREFIX_TOKENS and math.prod(grid) > prefix:
                return Layout(axes, grid, prefix)
        for grid in _halved(self._seen):
            if grid[0] * grid[1] == count:
                return Layout(axes, grid)
        return None


def _is_channels_last(module: nn.Module) -> bool:
    """Whether the last axis is known to hold channels; subclasses of layer norm may turn the axes first."""
    return type(module) is nn.Linear or (type(module) is nn.LayerNorm and len(module.normalized_shape) == 1)


def _halved(grids: Iterable[Grid]) -> Iterable[Grid]:
    """The grids that patch merging makes of these, largest first, down to 2 x 2."""
    for height, width in dict.fromkeys(grids):
        while height > 2 and width > 2:
            height, width = math.ceil(height / 2), math.ceil(width / 2)
            yield height, width
