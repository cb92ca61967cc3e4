"""Attention areas: the connected parts of a map that are salient, as boxes and as masks."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from jaxtyping import Bool, Float

from seewhy.render.boxes import Box, boxes
from seewhy.render.runs import components, runs

_ANY = 1e-12  # of a maximum: what is left of a map outside a part is zero


@dataclass(frozen=True, eq=False)
class Area:
    """A connected part of a map.

    Attributes:
        box: around it, with its pixel count and the sum of the map there.
        mask: its pixels (H, W).
    """

    box: Box
    mask: Bool[np.ndarray, "H W"]


def attention_areas(values: Float[np.ndarray, "H W"], threshold: float = 0.5) -> list[Area]:
    """The connected parts of a map that reach a share of its maximum, those with the largest sum first.

    Args:
        values: (H, W), finite.
        threshold: share of the maximum that a pixel must reach, in (0, 1].

    Returns:
        Parts with the boxes that `render.boxes` draws; none for a constant or nowhere positive map.

    Raises:
        InputError: a threshold outside (0, 1], or values that are not finite.
    """
    if not boxes(values, threshold):
        return []
    found = []
    for mask in _parts((values >= threshold * values.max()) & (values > 0)):
        (box,) = boxes(np.where(mask, values, 0), _ANY)
        found.append(Area(box, mask))
    return sorted(found, key=lambda area: (-area.box.mass, area.box.y0, area.box.x0))


def _parts(mask: Bool[np.ndarray, "H W"]) -> Bool[np.ndarray, "N H W"]:
    """One mask per connected part, in reading order; corners connect."""
    stretches = runs(mask)
    number = components(stretches)
    steps = np.zeros((number.max() + 1, mask.shape[0], mask.shape[1] + 1), np.int8)
    steps[number, stretches.row, stretches.start] = 1
    steps[number, stretches.row, stretches.end] = -1
    return steps.cumsum(2)[:, :, :-1].astype(bool)
