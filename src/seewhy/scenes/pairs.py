"""Pairs: the same individual in new pose, light and background, among others of its class."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import lru_cache

from seewhy.errors import InputError
from seewhy.scenes.backgrounds import background
from seewhy.scenes.canvas import Brush, Canvas, Coverage, Pen, Point, Pose
from seewhy.scenes.cast import Actor, costumed
from seewhy.scenes.chance import Chance
from seewhy.scenes.colors import COLORS, distance
from seewhy.scenes.objects import KINDS
from seewhy.scenes.scene import CLASSES, Drawn, Scene, check, clutter, finished, played
from seewhy.truth import Mask, Object

MARKING = "marking"
_RADIUS = 0.32  # in half sides of the object: 16 to 27 pixels across in a picture of 128
_APART = 120  # how far the marking's two colours are from each other, and its ground from the coat

# Where the marking sits in an object's own frame: on what the two classes of a pair share.
_PLACES: dict[str, Point] = dict(
    zip(
        KINDS,
        [
            each
            for place in (
                (0.0, 0.44), (-0.1, 0.12), (0.06, -0.02), (0.0, 0.26), (0.0, 0.54), (0.0, 0.42),
                (0.0, 0.1), (0.0, 0.36), (0.0, 0.3), (0.0, 0.3), (0.0, 0.12), (0.0, -0.36),
            )
            for each in (place, place)
        ],
        strict=True,
    )
)  # fmt: skip


@dataclass(frozen=True)
class Pairs(Drawn):
    """Scenes of individuals that come again: the same markings, colours and proportions, everything else anew.

    Individuals come in groups of look-alikes, which have class, colours, texture and proportions in common: only
    their markings tell them apart. A marking is a round badge in two colours with a figure on it, at the same place of
    the object's own frame in every view; it is the one distinguishing part of the main object's truth, whose
    attributes name the individual. Scene number `n` is view `n % views` of individual `n // views`. The same settings
    give the same pixels, in any order, process or machine; another seed gives other individuals.

    Args:
        individuals: how many.
        views: pictures of each.
        seed: another seed, other individuals and other views.
        size: height and width in pixels, at least 48.
        classes: those that individuals and second objects are of; groups take them in turn.
        alike: individuals that only their markings tell apart, 1 to 100.
        second: how often a smaller object of another class stands behind.
        occluded: how often something is put before the individual, unless it would hide the marking.

    Raises:
        InputError: a negative count, too small a size, an unknown class, a share outside [0, 1].

    Example:
        >>> pairs = Pairs(individuals=3, views=2)
        >>> [scene.truth.objects[0].attributes["individual"] for scene in pairs]
        ['cat 0', 'cat 0', 'cat 1', 'cat 1', 'cat 2', 'cat 2']
    """

    individuals: int
    views: int = 2
    seed: int = 0
    size: int = 128
    classes: tuple[str, ...] = CLASSES
    alike: int = 4
    second: float = 0.35
    occluded: float = 0.35

    def __post_init__(self) -> None:
        check(self.individuals, self.size, self.classes, [self.second, self.occluded])
        if self.views < 1 or not 1 <= self.alike <= 100:
            raise InputError(f"{self.views} views, {self.alike} alike; at least one view, and 1 to 100 alike")

    def __len__(self) -> int:
        return self.individuals * self.views

    def label(self, individual: int) -> str:
        """The class of an individual."""
        return self.classes[individual // self.alike % len(self.classes)]

    def name(self, individual: int) -> str:
        """What the truth calls an individual."""
        return f"{self.label(individual)} {individual}"

    def _draw(self, index: int) -> Scene:
        individual, view = divmod(index, self.views)
        chance = Chance("view", self.seed, individual, view)
        where, behind, pixels = background(self.size, Chance("view before", self.seed, individual, view))
        canvas = Canvas(self.size)
        clutter(canvas, chance, 3 + chance.integer(6))
        label = self.label(individual)
        others = [each for each in self.classes if each != label]
        shares = self.second, self.occluded
        cast = played(
            canvas, label, others, behind, chance, shares, lambda pose: self.dressed(individual, pose)
        )
        return finished(canvas, cast, where, pixels, chance, light=chance.uniform(0.75, 1.15))

    def dressed(self, individual: int, pose: Pose) -> Actor:
        """An individual in a pose, with its coat and its marking."""
        label, group = self.label(individual), individual // self.alike
        coat = Chance("coat", self.seed, group)
        behind = COLORS[coat.pick(tuple(COLORS))]
        dressed = costumed(label, pose, behind, coat)
        marking = _markings(self.seed, group, dressed.color)[individual % self.alike]
        shape = Chance("shape", self.seed, group)
        return _Individual(
            label, pose, dressed.color, dressed.paints, dressed.texture, shape, self.name(individual), marking
        )


@dataclass(frozen=True)
class Marking:
    """What tells an individual: two colours by name, and a figure."""

    ground: str
    color: str
    figure: str


@dataclass(frozen=True)
class _Individual(Actor):
    """An object with a marking, which alone distinguishes it."""

    name: str
    marking: Marking

    def draw(self, canvas: Canvas, owner: int) -> None:
        super().draw(canvas, owner)
        for surface in canvas.surfaces:
            surface.distinguishing = surface.distinguishing and surface.owner != owner
        paints = {"main": COLORS[self.marking.ground], "second": COLORS[self.marking.color]}
        pen = Pen(canvas, owner, self.pose, paints, None, self.chance)
        x, y = _PLACES[self.label]
        pen.part(MARKING, "main", distinguishing=True).disc(x, y, _RADIUS)
        FIGURES[self.marking.figure](pen.part(MARKING, "second", distinguishing=True), x, y, _RADIUS)

    def truth(self, coverages: dict[int, Coverage], canvas: Canvas, owner: int, free: Mask) -> Object | None:
        found = super().truth(coverages, canvas, owner, free)
        facts = {
            "individual": self.name,
            "marking": f"{self.marking.color} {self.marking.figure} on {self.marking.ground}",
        }
        return found and replace(found, attributes={**found.attributes, **facts})


@lru_cache(maxsize=256)
def _markings(seed: int, group: int, coat: str) -> list[Marking]:
    """All markings that can be seen on a coat, in a group's own order: no two of its members have the same."""
    chance = Chance("marking", seed, group)
    possible = [
        Marking(ground, color, figure)
        for ground in COLORS
        if distance(COLORS[ground], COLORS[coat]) > _APART
        for color in COLORS
        if distance(COLORS[ground], COLORS[color]) > _APART
        for figure in FIGURES
    ]
    return [possible[each] for _, each in sorted((chance.uniform(0, 1), n) for n in range(len(possible)))]


def _bar(brush: Brush, x: float, y: float, radius: float) -> None:
    brush.box(x - 0.24 * radius, y - 0.8 * radius, x + 0.24 * radius, y + 0.8 * radius)


def _cross(brush: Brush, x: float, y: float, radius: float) -> None:
    _bar(brush, x, y, radius)
    brush.box(x - 0.8 * radius, y - 0.24 * radius, x + 0.8 * radius, y + 0.24 * radius)


def _disc(brush: Brush, x: float, y: float, radius: float) -> None:
    brush.disc(x, y, 0.55 * radius)


def _eyes(brush: Brush, x: float, y: float, radius: float) -> None:
    for side in (-1, 1):
        brush.disc(x + side * 0.45 * radius, y, 0.32 * radius)


def _star(brush: Brush, x: float, y: float, radius: float) -> None:
    reaches = [radius * (0.35 if corner % 2 else 0.85) for corner in range(10)]
    angles = [math.tau * (corner / 10 - 0.25) for corner in range(10)]
    brush.polygon(*((x + r * math.cos(a), y + r * math.sin(a)) for r, a in zip(reaches, angles, strict=True)))


def _half(brush: Brush, x: float, y: float, radius: float) -> None:
    angles = [math.pi * step / 10 for step in range(11)]
    brush.polygon(*((x + 0.9 * radius * math.cos(a), y + 0.9 * radius * math.sin(a)) for a in angles))


# Each is its own mirror image: a mirrored view shows the same marking.
FIGURES: dict[str, Callable[[Brush, float, float, float], None]] = {
    "bar": _bar,
    "cross": _cross,
    "disc": _disc,
    "eyes": _eyes,
    "star": _star,
    "half": _half,
}
