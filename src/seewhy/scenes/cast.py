"""The objects of a scene: where they stand, what they wear, and what can be seen of them at the end."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np

from seewhy.scenes.canvas import Canvas, Coverage, Pen, Pose
from seewhy.scenes.chance import Chance
from seewhy.scenes.colors import COLORS, RGB, TEXTURES, Texture, far_from
from seewhy.scenes.objects import KINDS
from seewhy.truth import Mask, Object, Part, tight_box

_HALF = 0.51  # eight of a pixel's sixteen samples, rounded to a byte, are a little more than 0.5


@dataclass(frozen=True)
class Actor:
    """One object of a scene: what it is, where, in which paints; the chance that draws the rest of it."""

    label: str
    pose: Pose
    color: str
    paints: dict[str, RGB]
    texture: Texture | None
    chance: Chance

    def draw(self, canvas: Canvas, owner: int) -> None:
        """Draw its parts in front of what is there."""
        pen = Pen(canvas, owner, self.pose, self.paints, self.texture, self.chance)
        KINDS[self.label].draw(pen)

    def truth(self, coverages: dict[int, Coverage], canvas: Canvas, owner: int, free: Mask) -> Object | None:
        """What can be seen of it where the picture is free of a watermark; None if nothing."""
        size = len(free)
        total = np.zeros((size, size), np.float32)
        parts: dict[str, Coverage] = {}
        telling = {}
        for number, covered in coverages.items():
            surface = canvas.surfaces[number]
            if surface.owner == owner:
                telling[surface.part] = surface.distinguishing
                parts[surface.part] = parts.get(surface.part, 0) + covered
                total += covered
        whole = total > _HALF
        mask = whole & free
        if not mask.any():
            return None
        lies = tight_box(whole)  # a watermark does not move what it covers
        found = [(name, (covered > _HALF) & free) for name, covered in parts.items()]
        attributes = {
            "color": self.color,
            "texture": self.texture.name if self.texture else "plain",
            "place": _place((lies.x0 + lies.x1) / 2 / size, (lies.y0 + lies.y1) / 2 / size),
            "size": _size(self.pose.radius / size),
        }
        seen = tuple(Part(name, part, telling[name]) for name, part in found if part.any())
        return Object(self.label, tight_box(mask), mask, seen, attributes)


def placed(label: str, size: int, chance: Chance, least: float, most: float) -> Pose:
    """Anywhere in the picture, inside it but for a corner."""
    radius = chance.uniform(least, most) * size
    turn = math.radians(chance.uniform(-1, 1) * KINDS[label].turn)
    stretch = chance.uniform(0.85, 1.1) * (1 if chance.happens(0.5) else -1)
    light = math.tau * chance.uniform(0, 1)
    x, y = (chance.uniform(radius, size - radius) for _ in range(2))
    return Pose(x, y, radius, turn, stretch, (math.cos(light), math.sin(light)))


def aside(label: str, main: Pose, size: int, chance: Chance) -> Pose:
    """A small object where the main one covers it least, of three places tried."""
    tried = [placed(label, size, chance, 0.11, 0.15) for _ in range(3)]
    return max(tried, key=lambda each: abs(each.x - main.x) + abs(each.y - main.y))


def costumed(label: str, pose: Pose, behind: RGB, chance: Chance) -> Actor:
    """An object in colours and a texture that can be told from what is behind it."""
    name = far_from(behind, chance)
    color = COLORS[name]
    second = COLORS[far_from(color, chance)]
    texture = None
    kind = chance.pick(TEXTURES)
    if kind != "plain":
        painted = COLORS[far_from(color, chance)]
        texture = Texture(kind, painted, chance.uniform(0.22, 0.4), chance.happens(0.5))
    paints = {"main": color, "second": second, "dark": (56, 50, 52), "light": (240, 238, 228)}
    return Actor(label, pose, name, paints, texture, chance)


def _place(x: float, y: float) -> str:
    """A picture's place in words, from shares of its width and height."""
    row = ("upper", "", "lower")[min(int(y * 3), 2)]
    column = ("left", "", "right")[min(int(x * 3), 2)]
    if row and column:
        return f"{row} {column}"
    return {"upper": "top", "lower": "bottom"}.get(row, column or "centre")


def _size(radius: float) -> str:
    """A size in words, from half a side in shares of the picture's."""
    return "small" if radius < 0.18 else "medium" if radius <= 0.265 else "large"
