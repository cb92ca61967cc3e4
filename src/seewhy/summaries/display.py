"""Summaries as the paper shows them: members side by side, what is outside greyed, hull in red, parts in cyan."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
from jaxtyping import Bool
from PIL import Image, ImageDraw

from seewhy.explainers.perturbation.regions import connected, convex_hull
from seewhy.render.runs import components, runs
from seewhy.render.sheet import sheet
from seewhy.summaries.result import Member, Subject, Summary

TILE, GREY = 128, 64
SHOWN = 10
"""Members shown of a summary, each of another picture."""
_RED, _CYAN = (230, 30, 30), (0, 210, 220)
_MARGIN = 0.35  # around a region's box, as a share of its longer side


def one_per_picture(members: Sequence[Member], most: int = SHOWN) -> list[Member]:
    """The first member of each picture."""
    first: dict[int, Member] = {}
    for each in members:
        first.setdefault(each.subject, each)
    return list(first.values())[:most]


def grid(subjects: Sequence[Subject], summary: Summary) -> Image.Image:
    """A square grid of members."""
    shown = one_per_picture(summary.members)
    return side_by_side(subjects, shown, math.ceil(math.sqrt(len(shown))))


def side_by_side(subjects: Sequence[Subject], shown: Sequence[Member], across: int) -> Image.Image:
    """Regions in rows of so many."""
    tiles = [member(subjects[each.subject], each) for each in shown]
    rows = [tiles[start : start + across] for start in range(0, len(tiles), across)]
    return sheet(rows, TILE, background=(GREY,) * 3)


def member(subject: Subject, region: Member) -> Image.Image:
    """One region in its picture, enlarged."""
    hull = Image.new("1", (subject.picture.shape[1], subject.picture.shape[0]))
    corners = convex_hull(region.mask)
    ImageDraw.Draw(hull).polygon([(x - 0.5, y - 0.5) for x, y in corners], fill=1)
    x0, y0, x1, y1 = region.box
    parts = [each for each in connected(subject.mask) if each[y0:y1, x0:x1].any()]
    visible = np.asarray(hull) | np.logical_or.reduce([region.mask, *parts])
    shown = np.where(visible[..., None], subject.picture, np.uint8(GREY)).astype(np.uint8)
    left, top, right, bottom = _window(region, subject.picture.shape[:2])
    scale = TILE / (right - left)
    tile = Image.new("RGB", (right - left, bottom - top), (GREY,) * 3)
    tile.paste(Image.fromarray(shown), (-left, -top))
    tile = tile.resize((TILE, TILE), Image.Resampling.BICUBIC)
    pen = ImageDraw.Draw(tile)
    for part in parts:
        outline = _outline(part)[max(top, 0) : bottom, max(left, 0) : right]
        for y, x in np.argwhere(outline):
            at = (x + max(left, 0) - left) * scale, (y + max(top, 0) - top) * scale
            pen.rectangle((*at, at[0] + max(1, scale / 2), at[1] + max(1, scale / 2)), fill=_CYAN)
    line = [((x - left) * scale, (y - top) * scale) for x, y in corners]
    pen.line([*line, line[0]], fill=_RED, width=3)
    return tile


def _window(region: Member, size: tuple[int, int]) -> tuple[int, int, int, int]:
    """A square round the region's box, with a margin."""
    x0, y0, x1, y1 = region.box
    half = max(x1 - x0, y1 - y0) * (0.5 + _MARGIN)
    x, y = (x0 + x1) / 2, (y0 + y1) / 2
    left, top = round(x - half), round(y - half)
    side = max(2, round(2 * half))
    return left, top, left + side, top + side


def _outline(part: Bool[np.ndarray, "H W"]) -> Bool[np.ndarray, "H W"]:
    """The pixels of a part, holes filled, that have a neighbour outside."""
    whole = np.pad(part, 1)
    around = runs(~whole)
    numbers = components(around, corners=False)
    for run in np.flatnonzero(numbers != numbers[0]):
        whole[around.row[run], around.start[run] : around.end[run]] = True
    part, inner = whole[1:-1, 1:-1], whole
    inside = inner[:-2, 1:-1] & inner[2:, 1:-1] & inner[1:-1, :-2] & inner[1:-1, 2:]
    outline: Bool[np.ndarray, "H W"] = part & ~inside
    return outline
