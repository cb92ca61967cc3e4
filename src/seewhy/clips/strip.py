"""Clips with their maps for people: a strip of frames with each one's weight, and an animation."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np
from PIL import Image, ImageDraw

from seewhy.clips.reading import Footage
from seewhy.clips.result import ClipExplanation
from seewhy.errors import InputError
from seewhy.files import written_whole
from seewhy.render.overlay import Panel, built_in_font, fitted, overlay

_PAPER, _INK, _MUTED, _BAR, _TRUE = "#ffffff", "#1d1c1a", "#67625b", "#b04a2f", "#2f7d4f"
_GAP = 6
_BARS = 56  # pixels that the longest bar takes
FORMATS = {".webp": "WEBP", ".gif": "GIF"}


def strip(
    footage: Footage,
    found: ClipExplanation,
    row: int = 0,
    side: int = 144,
    deciding: Sequence[bool] | None = None,
) -> Image.Image:
    """The frames of a clip, their maps, and below each a bar: how much it counts.

    Maps of a joint budget have one scale for all frames. Frames that the answer does not depend on are grey and
    hatched, and say so.

    Args:
        footage: the clip.
        found: what was found of it.
        row: which clip of `found` it is.
        side: longest side of a frame, in pixels.
        deciding: which frames decide, where that is known; they get a green line.

    Raises:
        InputError: the clip has another number of frames.
    """
    drawn = list(_drawn(footage, found, row, side))
    width, height = drawn[0][0].size
    line, small = built_in_font(13), built_in_font(11)
    top = 18
    bars = top + 2 * height + 2 * _GAP + 4
    whole = Image.new("RGB", (len(drawn) * (width + _GAP) + _GAP, bars + _BARS + 22), _PAPER)
    pen = ImageDraw.Draw(whole)
    shares = found.over_time[row].tolist()
    for number, (picture, shown) in enumerate(drawn):
        left = _GAP + number * (width + _GAP)
        pen.text((left, 2), _short(footage.names[number], width), _MUTED, small)
        whole.paste(picture, (left, top))
        whole.paste(shown, (left, top + height + _GAP))
        if deciding is not None and deciding[number]:
            pen.rectangle((left, bars - _GAP, left + width - 1, bars - _GAP + 3), _TRUE)
        length = round(_BARS * shares[number] / (max(shares) or 1))
        base = bars + _BARS
        pen.rectangle((left, base - length, left + width - 1, base), _BAR)
        undefined = bool(found.undefined[row, number])
        text = "undefined" if undefined else f"{shares[number]:.1%}"
        pen.text((left, base + 4), text, _MUTED if undefined else _INK, line)
    return whole


def save_animation(
    footage: Footage,
    found: ClipExplanation,
    path: str | Path,
    row: int = 0,
    side: int = 256,
    milliseconds: int = 250,
) -> Path:
    """Write the clip beside its maps as an animation, each frame with a bar of how much it counts.

    Args:
        footage: the clip.
        found: what was found of it.
        path: `.webp` or `.gif`.
        row: which clip of `found` it is.
        side: longest side of a frame, in pixels.
        milliseconds: that each frame is shown.

    Raises:
        InputError: another suffix, or a clip of another number of frames.
    """
    path = Path(path)
    if path.suffix.lower() not in FORMATS:
        raise InputError(f"{path}: an animation is written as {' or '.join(FORMATS)}")
    shares = found.over_time[row].tolist()
    pages = []
    for share, (picture, shown) in zip(shares, _drawn(footage, found, row, side), strict=True):
        width, height = picture.size
        page = Image.new("RGB", (2 * width + _GAP, height + 2 * _GAP), _PAPER)
        page.paste(picture, (0, 0))
        page.paste(shown, (width + _GAP, 0))
        length = round((page.width - 1) * share / (max(shares) or 1))
        ImageDraw.Draw(page).rectangle((0, height + _GAP // 2, length, page.height - 1), _BAR)
        pages.append(page)
    with written_whole(path) as file:
        pages[0].save(
            file,
            FORMATS[path.suffix.lower()],
            save_all=True,
            append_images=pages[1:],
            duration=milliseconds,
            loop=0,
        )
    return path


def _drawn(
    footage: Footage, found: ClipExplanation, row: int, side: int
) -> Iterator[tuple[Image.Image, Image.Image]]:
    """Per frame the picture, and its map on it."""
    if len(footage) != found.values.shape[1]:
        raise InputError(f"{footage.name}: {len(footage)} frames, but maps of {found.values.shape[1]}")
    maps = [
        place.to_original(values.cpu()).numpy()
        for place, values in zip(footage.places, found.values[row], strict=True)
    ]
    most = [float(np.abs(each).max()) for each in maps]
    for number, (picture, place, values) in enumerate(
        zip(footage.pictures, footage.places, maps, strict=True)
    ):
        extent = max(most) if found.joint else most[number]
        undefined = bool(found.undefined[row, number])
        seen = place.visible().numpy() & (not undefined)
        panel = Panel(
            method="clip-attention",
            values=np.ascontiguousarray(values if found.signed else values.clip(0), dtype=np.float32),
            signed=found.signed,
            limits=(-extent if found.signed else 0.0, extent),
            visible=None if seen.all() else seen,
            target=footage.names[number],
            score=float(found.over_time[row, number]),
            layer=found.layer,
            cost=str(found.cost),
        )
        small, (panel,) = fitted(picture, [panel], side)
        yield small, overlay(small, panel)


def _short(text: str, width: int) -> str:
    """As much of the end of a name as fits."""
    most = max(width // 6, 4)
    return text if len(text) <= most else text[-most:]
