"""Several pictures as one."""

from __future__ import annotations

from collections.abc import Sequence

from PIL import Image


def sheet(
    rows: Sequence[Sequence[Image.Image]],
    side: int,
    margin: int = 0,
    background: str | tuple[int, int, int] = "white",
) -> Image.Image:
    """Pictures in rows, each brought to fit its cell.

    Args:
        rows: from the top; later ones may be shorter than the first.
        side: of a cell, in pixels.
        margin: how much smaller than a cell pictures are at least.
        background: what shows beside them.
    """
    found = Image.new("RGB", (side * len(rows[0]), side * len(rows)), background)
    for down, row in enumerate(rows):
        for across, each in enumerate(row):
            small = each.copy()
            small.thumbnail((side - margin, side - margin))
            found.paste(small, (across * side, down * side))
    return found
