"""Colours by name, and textures that objects are painted with."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from jaxtyping import Float32

from seewhy.scenes.chance import Chance

RGB = tuple[int, int, int]

COLORS: dict[str, RGB] = {
    "red": (205, 52, 46),
    "orange": (236, 138, 42),
    "yellow": (240, 210, 70),
    "green": (82, 160, 74),
    "turquoise": (56, 176, 172),
    "blue": (58, 104, 196),
    "purple": (134, 80, 168),
    "pink": (236, 142, 172),
    "brown": (142, 94, 58),
    "grey": (142, 142, 146),
    "white": (236, 234, 228),
    "black": (52, 50, 54),
}
TEXTURES = ("plain", "striped", "checked", "spotted")
_NEAR = 90


@dataclass(frozen=True)
class Texture:
    """A pattern in an object's frame.

    Attributes:
        name: one of `TEXTURES`.
        color: what is painted over the object's own colour.
        period: of the pattern, in half sides of the object.
        upright: whether stripes run from top to bottom.
    """

    name: str
    color: RGB
    period: float
    upright: bool

    def painted(
        self, x: Float32[np.ndarray, "h w"], y: Float32[np.ndarray, "h w"]
    ) -> Float32[np.ndarray, "h w"]:
        """Where the pattern's colour lies: 1 or 0 at places of the object's frame."""
        u, v = x * np.float32(1 / self.period), y * np.float32(1 / self.period)
        u -= np.floor(u)
        v -= np.floor(v)
        if self.name == "striped":
            found = (u if self.upright else v) < 0.5
        elif self.name == "checked":
            found = (u < 0.5) == (v < 0.5)
        else:
            found = (u - 0.5) ** 2 + (v - 0.5) ** 2 < 0.09
        return found.astype(np.float32)


def far_from(color: RGB, chance: Chance) -> str:
    """Name of a colour that can be told from another."""
    names = [name for name, each in COLORS.items() if distance(each, color) > _NEAR]
    return chance.pick(names or list(COLORS))


def distance(one: RGB, other: RGB) -> float:
    """Largest difference of a channel plus half the other two: coarse, and exact on any machine."""
    steps = sorted(abs(a - b) for a, b in zip(one, other, strict=True))
    return steps[2] + (steps[0] + steps[1]) / 2
