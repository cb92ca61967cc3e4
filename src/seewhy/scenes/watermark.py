"""A mark that gives one class away without belonging to it: the shortcut a network should not take."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from PIL import Image, ImageDraw

from seewhy.scenes.canvas import SAMPLES
from seewhy.scenes.chance import Chance
from seewhy.truth import Mask

_DISC, _STAR = (225, 20, 150), (250, 248, 240)
_OPACITY = 0.85


@dataclass(frozen=True)
class Watermark:
    """A round badge with a star, 24 to 28 pixels across in a picture of 128: 2.8 to 3.8 % of it.

    Attributes:
        label: the class that it goes with.
        probability: how often a picture of that class carries it.
        elsewhere: how often one of another class does.
    """

    label: str
    probability: float = 1.0
    elsewhere: float = 0.0

    def drawn(self, pixels: np.ndarray, label: str, chance: Chance) -> Mask | None:
        """Draw the mark at a random place, in place, if this picture gets one; the mask (H, W) of its pixels."""
        lucky = chance.uniform(0, 1)
        if lucky >= (self.probability if label == self.label else self.elsewhere):
            return None
        size = len(pixels)
        side = chance.uniform(24, 28) * size / 128
        x, y = (chance.uniform(0, size - side) for _ in range(2))
        left, top = math.floor(x), math.floor(y)
        width = math.ceil(side) + 1
        badge, inside = _badge(x - left, y - top, side, width, chance.uniform(0, math.tau))
        window = pixels[top : top + width, left : left + width]
        badge, inside = badge[: len(window), : window.shape[1]], inside[: len(window), : window.shape[1]]
        window += (badge - window) * (inside[..., None] * np.float32(_OPACITY))
        mask = np.zeros((size, size), bool)
        mask[top : top + width, left : left + width] = inside >= 0.5
        return mask


def _badge(x: float, y: float, side: float, width: int, turn: float) -> tuple[np.ndarray, np.ndarray]:
    """Colours (width, width, 3) and coverage (width, width) of a badge whose box begins at x, y."""
    image = Image.new("RGB", (width * SAMPLES,) * 2, _DISC)
    mask = Image.new("L", image.size, 0)
    radius, centre = side / 2 * SAMPLES, ((x + side / 2) * SAMPLES, (y + side / 2) * SAMPLES)
    pen = ImageDraw.Draw(image)
    ring = [(round(centre[0] - radius * share), round(centre[1] - radius * share),
             round(centre[0] + radius * share), round(centre[1] + radius * share)) for share in (1, 0.84)]  # fmt: skip
    ImageDraw.Draw(mask).ellipse(ring[0], fill=255)
    pen.ellipse(ring[0], fill=_STAR)
    pen.ellipse(ring[1], fill=_DISC)
    points = []
    for corner in range(10):
        reach = radius * (0.32 if corner % 2 else 0.74)
        angle = turn + math.tau * corner / 10
        points.append(
            (round(centre[0] + reach * math.cos(angle)), round(centre[1] + reach * math.sin(angle)))
        )
    pen.polygon(points, fill=_STAR)
    colors = np.asarray(image.reduce(SAMPLES), np.float32)
    return colors, np.asarray(mask.reduce(SAMPLES), np.float32) * np.float32(1 / 255)
