"""Region proposals: boxes round the parts of a crisp mask, and windows of several sizes within them."""

from __future__ import annotations

import numpy as np
import torch
from jaxtyping import Bool, Float, Int
from pydantic import BaseModel, ConfigDict, Field

from seewhy.explainers.baseline import blurred
from seewhy.explainers.perturbation.regions import connected
from seewhy.truth import tight_box

Boxes = Int[np.ndarray, "_ 4"]
"""x0, y0, x1, y1 in pixels, the far edges not included."""

_SIDES = (1 / 8, 1 / 6, 1 / 4, 3 / 8, 1 / 2)  # of windows, as shares of the picture's shorter side
_ASPECTS = (0.67, 1.0, 1.5)  # width by height
_STEP = 1 / 3  # from window to window, as a share of their sides


class Proposals(BaseModel):
    """Which boxes of a picture may become part of a summary.

    The paper proposes by Selective Search and then keeps boxes that the mask fills; the parts of the mask itself, and
    windows within them, need no second opinion on what an object is.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    kind: str = Field(
        default="components",
        pattern="^(components|windows)$",
        description="Boxes round the connected parts of the mask (`components`), or these and `windows` of several "
        "sizes that the mask fills.",
    )
    threshold: float = Field(
        default=128 / 255, gt=0, lt=1, description="Of the mask, above which a pixel counts."
    )
    smallest: float = Field(
        default=0.01, ge=0, lt=1, description="Share of the picture under which a part is left out."
    )
    smooth: float = Field(
        default=0.01,
        ge=0,
        lt=0.2,
        description="Sigma of a blur of the mask before it is cut, as a share of the picture's shorter side: speckles "
        "of one part become one part.",
    )
    filled: float = Field(default=0.75, gt=0, le=1, description="Share of a window that the mask must cover.")
    most: int = Field(
        default=60, ge=1, description="Boxes per picture, parts first, then the windows filled best."
    )


def proposed(mask: Float[np.ndarray, "H W"], settings: Proposals) -> tuple[Boxes, Bool[np.ndarray, "R H W"]]:
    """The boxes of one picture, and the pixels of the mask that belong to each.

    Args:
        mask: 1 where the evidence is.
        settings: which boxes.
    """
    if settings.smooth:
        soft = blurred(torch.from_numpy(mask.copy())[None, None], settings.smooth * min(mask.shape))
        mask = soft[0, 0].numpy()
    parts = connected(mask, settings.threshold, settings.smallest)
    boxes = [tight_box(part) for part in parts]
    found = [(each.x0, each.y0, each.x1, each.y1) for each in boxes][: settings.most]
    belongs = list(parts[: settings.most])
    if settings.kind == "windows" and parts:
        above = mask > settings.threshold
        for box in _windows(above, settings)[: settings.most - len(found)]:
            inside = np.zeros_like(above)
            inside[box[1] : box[3], box[0] : box[2]] = above[box[1] : box[3], box[0] : box[2]]
            found.append(box)
            belongs.append(inside)
    if not found:
        return np.zeros((0, 4), np.int64), np.zeros((0, *mask.shape), bool)
    return np.array(found, np.int64), np.stack(belongs)


def _windows(above: Bool[np.ndarray, "H W"], settings: Proposals) -> list[tuple[int, int, int, int]]:
    """Windows that the mask fills, the best filled first and of these the largest."""
    height, width = above.shape
    sums = np.zeros((height + 1, width + 1), np.int64)
    sums[1:, 1:] = above.cumsum(0).cumsum(1)
    found = []
    for share in _SIDES:
        for aspect in _ASPECTS:
            side = share * min(height, width)
            tall, wide = max(4, round(side / aspect**0.5)), max(4, round(side * aspect**0.5))
            if tall > height or wide > width:
                continue
            top = np.unique(
                np.linspace(0, height - tall, max(2, int((height - tall) / (tall * _STEP)) + 1)).round()
            )
            left = np.unique(
                np.linspace(0, width - wide, max(2, int((width - wide) / (wide * _STEP)) + 1)).round()
            )
            y, x = (each.ravel().astype(int) for each in np.meshgrid(top, left, indexing="ij"))
            inside = sums[y + tall, x + wide] - sums[y, x + wide] - sums[y + tall, x] + sums[y, x]
            full = inside / (tall * wide)
            found += [
                (
                    -round(float(full[n]), 2),
                    -tall * wide,
                    int(x[n]),
                    int(y[n]),
                    int(x[n]) + wide,
                    int(y[n]) + tall,
                )
                for n in np.flatnonzero(full > settings.filled)
            ]
    return [each[2:] for each in sorted(found)]
