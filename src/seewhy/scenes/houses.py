"""Houses: scenes whose price is a known sum over what can be seen of a house."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass, replace
from types import MappingProxyType

import numpy as np

from seewhy.errors import InputError
from seewhy.scenes.backgrounds import background
from seewhy.scenes.canvas import Canvas, Coverage, Pen, Pose
from seewhy.scenes.cast import Actor, placed
from seewhy.scenes.chance import Chance
from seewhy.scenes.colors import COLORS, RGB, far_from
from seewhy.scenes.scene import Drawn, Scene, check, clutter, finished
from seewhy.truth import Mask, Object

BASE = 200
"""The price of the plain house, in thousands."""
WORTH: Mapping[str, int] = MappingProxyType(
    {"pool": 60, "second floor": 90, "garage": 40, "damaged roof": -80}
)
"""What each part adds to the price, in thousands; the damage takes away."""


@dataclass(frozen=True)
class Houses(Drawn):
    """Scenes of a house with a price: `BASE` and the `WORTH` of every part that it has, each in half of them.

    Parts are the distinguishing ones of the main object's truth, whose attributes hold the `price` in thousands. Walls
    and roof, colours, place, size and background say nothing of it. The same settings give the same pixels, in any
    order, process or machine.

    Args:
        count: how many.
        seed: another seed, other houses.
        size: height and width in pixels, at least 48.

    Raises:
        InputError: a negative count, or too small a size.

    Example:
        >>> [scene.truth.objects[0].attributes["price"] for scene in Houses(4)]
        ['200', '160', '180', '390']
    """

    count: int
    seed: int = 0
    size: int = 128

    def __post_init__(self) -> None:
        check(self.count, self.size, ("house",), ())

    def __len__(self) -> int:
        return self.count

    def _draw(self, index: int) -> Scene:
        chance = Chance("house for sale", self.seed, index)
        where, behind, pixels = background(self.size, Chance("house before", self.seed, index))
        canvas = Canvas(self.size)
        clutter(canvas, chance, 3 + chance.integer(6))
        house = _built(tuple(part for part in WORTH if chance.happens(0.5)), behind, self.size, chance)
        house.draw(canvas, 0)
        return finished(canvas, [house], where, pixels, chance)


def price(parts: Collection[str]) -> int:
    """Of a house with these parts, in thousands.

    Raises:
        InputError: a part that houses do not have.
    """
    if unknown := [each for each in parts if each not in WORTH]:
        raise InputError(f"no part {unknown[0]!r}; there are {', '.join(WORTH)}")
    return BASE + sum(WORTH[each] for each in parts)


@dataclass(frozen=True)
class _House(Actor):
    """A house with some parts."""

    has: tuple[str, ...] = ()

    def draw(self, canvas: Canvas, owner: int) -> None:
        pen = Pen(canvas, owner, self.pose, self.paints, self.texture, self.chance)
        lift = 0.42 if "second floor" in self.has else 0.0
        if "garage" in self.has:
            garage = pen.part("garage", "second", distinguishing=True)
            garage.box(0.45, 0.05, 0.95, 0.6)
            door = pen.part("garage", "light", distinguishing=True)
            for row in range(4):
                door.box(0.53, 0.18 + 0.1 * row, 0.87, 0.26 + 0.1 * row)
        pen.part("walls").box(-0.55, 0.0, 0.45, 0.6)
        pen.part("door", "dark").box(-0.15, 0.22, 0.05, 0.6)
        windows = pen.part("windows", "light")
        windows.box(-0.45, 0.12, -0.25, 0.36)
        windows.box(0.15, 0.12, 0.35, 0.36)
        if lift:
            pen.part("second floor", "main", distinguishing=True).box(-0.55, -lift, 0.45, 0.0)
            upper = pen.part("second floor", "light", distinguishing=True)
            for left in (-0.47, -0.15, 0.17):
                upper.box(left, -lift + 0.1, left + 0.2, -0.1)
        pen.part("roof", "second").polygon((-0.68, -lift), (-0.05, -lift - 0.48), (0.58, -lift))
        if "damaged roof" in self.has:
            hole = pen.part("damaged roof", "dark", distinguishing=True)
            points = [
                (-0.28, -0.06),
                (-0.2, -0.22),
                (-0.08, -0.16),
                (0.0, -0.3),
                (0.12, -0.12),
                (0.24, -0.05),
            ]
            hole.polygon(*((x, y - lift) for x, y in points))
        if "pool" in self.has:
            pen.part("pool", "light", distinguishing=True).ellipse(-0.25, 0.8, 0.62, 0.17)
            pen.part("pool", "water", distinguishing=True).ellipse(-0.25, 0.8, 0.54, 0.12)

    def truth(self, coverages: dict[int, Coverage], canvas: Canvas, owner: int, free: Mask) -> Object | None:
        found = super().truth(coverages, canvas, owner, free)
        return found and replace(
            found, attributes={**found.attributes, "price": f"{price(self.has)}", "has": ", ".join(self.has)}
        )


def _built(has: tuple[str, ...], behind: RGB, size: int, chance: Chance) -> _House:
    """A house anywhere in the picture, in colours that can be told from what is behind it."""
    pose = placed("house", size, chance, 0.34, 0.46)
    upright = Pose(pose.x, pose.y, pose.radius, 0.0, pose.stretch, pose.light)
    name = far_from(behind, chance)
    paints = {
        "main": COLORS[name],
        "second": COLORS[far_from(COLORS[name], chance)],
        "dark": (56, 50, 52),
        "light": (240, 238, 228),
        "water": (70, 170, 225),
    }
    return _House("house", upright, name, paints, None, chance, has)


def part_mask(house: Object, name: str, shape: tuple[int, int]) -> Mask:
    """The visible pixels of a part of a house; none where it does not have it."""
    masks = [part.mask for part in house.parts if part.name == name]
    return np.logical_or.reduce(masks) if masks else np.zeros(shape, bool)
