"""Rectangles as datasets write them, as the whole pixels of `seewhy.truth.Box`."""

from __future__ import annotations

import math
from collections.abc import Sequence

from seewhy.errors import InputError
from seewhy.truth import Box

Edges = tuple[float, float, float, float]


def edges(values: Sequence[str | float], first: int | None = None) -> Edges:
    """Left, top, right and bottom edge in pixels, where the picture's own left and top edge are 0.

    Args:
        values: left, top, right, bottom, as numbers or as text.
        first: what the dataset calls the first pixel of a row, where right and bottom name the last pixel
            that still belongs to the box (VOC: 1, ImageNet: 0); None where the values are edges already.

    Raises:
        InputError: not four finite numbers.
    """
    try:
        left, top, right, bottom = map(float, values)
    except (TypeError, ValueError):
        raise InputError(f"a box of {', '.join(map(str, values))} is not four numbers") from None
    if not all(map(math.isfinite, (left, top, right, bottom))):
        raise InputError(f"a box of {', '.join(map(str, values))} is not four finite numbers")
    if first is None:
        return left, top, right, bottom
    return left - first, top - first, right - first + 1, bottom - first + 1


def whole(box: Edges, size: tuple[int, int]) -> Box:
    """The pixels whose centres lie in a box; at least one, where a box is narrower than a pixel.

    Args:
        box: its edges, in pixels.
        size: height and width (H, W) of the picture.

    Raises:
        InputError: the box has no extent, or reaches half a pixel or more beyond the picture.
    """
    left, top, right, bottom = box
    if right <= left or bottom <= top:
        raise InputError(f"the box {_plain(box)} has no extent")
    (x0, x1), (y0, y1) = _pixels(left, right), _pixels(top, bottom)
    height, width = size
    if x0 < 0 or y0 < 0 or x1 > width or y1 > height:
        raise InputError(f"the box {_plain(box)} reaches beyond the picture of {width} x {height} pixels")
    return Box(x0, y0, x1, y1)


def _pixels(low: float, high: float) -> tuple[int, int]:
    """First pixel, and the one after the last, of those whose centres lie in [low, high)."""
    first, end = math.ceil(low - 0.5), math.ceil(high - 0.5)
    middle = math.floor((low + high) / 2)
    return (first, end) if end > first else (middle, middle + 1)


def _plain(box: Edges) -> str:
    left, top, right, bottom = (f"{value:g}" for value in box)
    return f"from ({left}, {top}) to ({right}, {bottom})"
