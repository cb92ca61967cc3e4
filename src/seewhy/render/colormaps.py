"""Numbers to colours: inferno for magnitude, a zero-centred diverging map for signed values."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from jaxtyping import Float, UInt8

from seewhy.errors import InputError

# Every 8.5th entry of matplotlib's inferno (Nathaniel Smith and Stéfan van der Walt, CC0).
_INFERNO_ANCHORS = """
000004 040313 0c0826 170b3b 240c4f 330a5e 420a68 500d6c 5d126e 6b176e 781c6d
86216b 932667 a12b62 ae305c bb3755 c73e4c d24743 dd513a e65c30 ed6925 f3771a
f8850f fb9506 fca50a fcb519 fac62d f6d644 f2e661 f2f484 fcffa4
"""
# Ours: blue and orange of equal OKLab lightness (0.40 to 0.87) on either side of a near-white neutral.
# Blue against orange survives every colour-vision deficiency; lightness alone still tells how much.
_DIVERGING_ANCHORS = """
004590 0066ca 2b8cf4 79b4ff b8d7ff f5f3f0 fec7a2 ff9138 d36c00 a05000 713500
"""


@dataclass(frozen=True, eq=False)
class Colormap:
    """A table of N colours, (N, 3) uint8; `centred` maps have an odd N and show zero as the middle one."""

    name: str
    table: UInt8[np.ndarray, "N 3"]
    centred: bool

    def strength(self) -> Float[np.ndarray, " N"]:
        """How much evidence each table entry stands for, in [0, 1]: (N,), zero where the value is zero."""
        position = np.linspace(-1.0 if self.centred else 0.0, 1.0, len(self.table))
        return np.abs(position)


def _interpolated(anchors: str, size: int) -> UInt8[np.ndarray, "N 3"]:
    """Spread evenly spaced hexadecimal anchors over a table of the given size."""
    colours = np.array([list(bytes.fromhex(anchor)) for anchor in anchors.split()], dtype=np.float64)
    positions = np.linspace(0, len(colours) - 1, size)
    channels = [np.interp(positions, np.arange(len(colours)), channel) for channel in colours.T]
    table = np.stack(channels, axis=1).round().astype(np.uint8)
    table.setflags(write=False)
    return table


INFERNO = Colormap("inferno", _interpolated(_INFERNO_ANCHORS, 256), centred=False)
# 255 entries: an odd table has a middle, so that exactly zero is exactly neutral.
DIVERGING = Colormap("blue-orange", _interpolated(_DIVERGING_ANCHORS, 255), centred=True)


def table_index(
    values: Float[np.ndarray, "H W"], *, limits: tuple[float, float], colormap: Colormap
) -> UInt8[np.ndarray, "H W"]:
    """Where each value lies in the colour map's table.

    Args:
        values: (H, W), finite; what lies outside the limits gets the colour of the nearer limit.
        limits: (low, high). A centred map uses the larger absolute limit for both signs, so that equal
            strength looks equally strong whatever the sign. With low == high every value counts as zero.
        colormap: the map whose table is indexed.

    Returns:
        (H, W) uint8.

    Raises:
        InputError: values or limits are not finite, or low > high.
    """
    low, high = limits
    if not (np.isfinite(limits).all() and low <= high):
        raise InputError(f"limits must be finite and in order (low, high), got {limits}")
    if not np.isfinite(values).all():
        raise InputError("values hold NaN or infinity; a map without evidence is zero")
    last = len(colormap.table) - 1
    span = 2 * max(abs(low), abs(high)) if colormap.centred else high - low
    origin = last / 2 if colormap.centred else 0.0
    if span == 0:
        return np.full(values.shape, int(origin), dtype=np.uint8)
    # In float64: the span of two float32 numbers may not fit a float32.
    position = values.astype(np.float64)
    if not colormap.centred:
        position -= low
    position /= span
    position *= last
    position += origin + 0.5
    return np.clip(position, 0, last, out=position).astype(np.uint8)


def colorize(
    values: Float[np.ndarray, "H W"], *, limits: tuple[float, float], colormap: Colormap
) -> UInt8[np.ndarray, "H W 3"]:
    """Colour a map: (H, W) values to (H, W, 3) uint8; arguments and errors are those of `table_index`.

    >>> colorize(np.zeros((1, 1)), limits=(-1.0, 1.0), colormap=DIVERGING).tolist()
    [[[245, 243, 240]]]
    """
    colours: UInt8[np.ndarray, "H W 3"] = colormap.table[
        table_index(values, limits=limits, colormap=colormap)
    ]
    return colours
