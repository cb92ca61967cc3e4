"""Boxes from maps, as Grad-CAM localises: threshold, connected components, tight boxes."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import numpy as np
from jaxtyping import Bool, Float, Int

from seewhy import truth
from seewhy.errors import InputError


@dataclass(frozen=True)
class Box(truth.Box):
    """A box with what it holds: `area` counts the component's pixels, not the box's; `mass` sums the map there."""

    area: int
    mass: float


@dataclass(frozen=True, eq=False)
class _Runs:
    """Maximal horizontal stretches of set pixels, in reading order: row, first column, one past the last."""

    row: Int[np.ndarray, " N"]
    start: Int[np.ndarray, " N"]
    end: Int[np.ndarray, " N"]


def boxes(
    values: Float[np.ndarray, "H W"],
    threshold: float = 0.2,
    *,
    by: Literal["area", "mass"] = "area",
    largest_only: bool = False,
) -> list[Box]:
    """Tight boxes around the connected parts of a map that reach a share of its maximum.

    Selvaraju et al. 2017, section 4.1 (threshold 0.15 there, largest component only). Pixels that touch at a
    corner are connected. Only positive evidence counts; a constant or nowhere positive map has no box.

    Args:
        values: (H, W), finite, in the frame the boxes shall have.
        threshold: share of the maximum a pixel must reach, in (0, 1].
        by: largest first by the component's pixel count or by its summed evidence; equals from the top left.
        largest_only: at most the first box.

    Returns:
        The boxes, largest first; an empty list where there is none.

    Raises:
        InputError: a threshold outside (0, 1], or values that are not finite.

    >>> boxes(np.eye(3)[:, :2])
    [Box(x0=0, y0=0, x1=2, y1=2, area=2, mass=2.0)]
    """
    if not 0 < threshold <= 1:
        raise InputError(f"threshold is a share of the maximum in (0, 1], got {threshold}")
    if not np.isfinite(values).all():
        raise InputError("values hold NaN or infinity; a map without evidence is zero")
    if values.size == 0 or values.max() <= 0 or values.min() == values.max():
        return []
    # Positive as well: the product underflows to zero where the maximum is the smallest of numbers.
    runs = _runs((values >= threshold * values.max()) & (values > 0))
    found = _component_boxes(values, runs, _components(runs))
    found.sort(key=lambda box: (-getattr(box, by), box.y0, box.x0))
    return found[:1] if largest_only else found


def _runs(mask: Bool[np.ndarray, "H W"]) -> _Runs:
    """The runs of a mask: where a row's padded difference rises and falls."""
    edges = np.diff(mask.astype(np.int8), axis=1, prepend=0, append=0)
    row, start = np.nonzero(edges == 1)
    _, end = np.nonzero(edges == -1)
    return _Runs(row, start, end)


def _components(runs: _Runs) -> Int[np.ndarray, " N"]:
    """One component number per run, 0 to the number of components - 1."""
    upper, lower = _touching(runs)
    label = np.arange(len(runs.row))
    while (label[upper] != label[lower]).any():
        smaller = np.minimum(label[upper], label[lower])
        # Hooking the labels' own labels, not only the runs', joins whole trees: few rounds even for spirals.
        np.minimum.at(label, label[upper], smaller)
        np.minimum.at(label, label[lower], smaller)
        while (label != label[label]).any():
            label = label[label]
    return np.unique(label, return_inverse=True)[1]


def _touching(runs: _Runs) -> tuple[Int[np.ndarray, " E"], Int[np.ndarray, " E"]]:
    """Pairs of runs of consecutive rows that share a column or meet at a corner."""
    stride = int(runs.end.max()) + 2
    starts, ends = runs.row * stride + runs.start, runs.row * stride + runs.end
    # The runs below that touch a run are consecutive: from the first not ended, to the last begun.
    first = np.searchsorted(ends, starts + stride, side="left")
    beyond = np.searchsorted(starts, ends + stride, side="right")
    count = np.maximum(beyond - first, 0)
    upper = np.repeat(np.arange(len(count)), count)
    offset = np.arange(count.sum()) - np.repeat(count.cumsum() - count, count)
    return upper, first[upper] + offset


def _component_boxes(
    values: Float[np.ndarray, "H W"], runs: _Runs, component: Int[np.ndarray, " N"]
) -> list[Box]:
    """Gather each component's runs into its box, pixel count and summed evidence."""
    order = np.argsort(component, kind="stable")
    first = np.flatnonzero(np.diff(component[order], prepend=-1))
    width = values.shape[1]
    total = np.concatenate([[0.0], values.ravel().cumsum(dtype=np.float64)])
    mass = total[runs.row * width + runs.end] - total[runs.row * width + runs.start]
    columns = (
        np.minimum.reduceat(runs.start[order], first),
        np.minimum.reduceat(runs.row[order], first),
        np.maximum.reduceat(runs.end[order], first),
        np.maximum.reduceat(runs.row[order], first) + 1,
        np.add.reduceat((runs.end - runs.start)[order], first),
        np.add.reduceat(mass[order], first),
    )
    return [Box(*numbers) for numbers in zip(*(column.tolist() for column in columns), strict=True)]
