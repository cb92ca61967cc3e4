"""Boxes from maps, as Grad-CAM localises: threshold, connected components, tight boxes."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import numpy as np
from jaxtyping import Float, Int

from seewhy import truth
from seewhy.errors import InputError
from seewhy.render.runs import Runs, components, runs


@dataclass(frozen=True)
class Box(truth.Box):
    """A box with what it holds: `area` counts the component's pixels, not the box's; `mass` sums the map there."""

    area: int
    mass: float


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
    stretches = runs((values >= threshold * values.max()) & (values > 0))
    found = _component_boxes(values, stretches, components(stretches))
    found.sort(key=lambda box: (-getattr(box, by), box.y0, box.x0))
    return found[:1] if largest_only else found


def _component_boxes(
    values: Float[np.ndarray, "H W"], runs: Runs, component: Int[np.ndarray, " N"]
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
