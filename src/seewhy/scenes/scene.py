"""Scenes: pictures drawn from a seed, with everything that is true of them."""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import overload

import numpy as np
from jaxtyping import UInt8
from PIL import Image

from seewhy.errors import InputError
from seewhy.scenes.backgrounds import background
from seewhy.scenes.canvas import Canvas, Pose, Surface
from seewhy.scenes.cast import Actor, aside, costumed, placed
from seewhy.scenes.chance import Chance
from seewhy.scenes.colors import COLORS, RGB
from seewhy.scenes.objects import KINDS
from seewhy.scenes.painting import painted
from seewhy.scenes.watermark import Watermark
from seewhy.truth import Mask, Object, Truth

CLASSES = tuple(KINDS)
_SMALLEST = 48
_NEEDED = 0.6  # of the distinguishing parts that something in front may not hide


@dataclass(frozen=True, eq=False)
class Scene:
    """A picture and its truth.

    Attributes:
        pixels: red, green, blue (H, W, 3).
        truth: what it shows.
    """

    pixels: UInt8[np.ndarray, "H W 3"]
    truth: Truth

    @property
    def image(self) -> Image.Image:
        """As a Pillow picture."""
        return Image.fromarray(self.pixels)


class Drawn(ABC):
    """Scenes by number, each drawn when it is asked for."""

    @abstractmethod
    def __len__(self) -> int: ...

    @abstractmethod
    def _draw(self, index: int) -> Scene: ...

    @overload
    def __getitem__(self, index: int) -> Scene: ...
    @overload
    def __getitem__(self, index: slice) -> list[Scene]: ...
    def __getitem__(self, index: int | slice) -> Scene | list[Scene]:
        if isinstance(index, slice):
            return [self._draw(each) for each in range(len(self))[index]]
        return self._draw(range(len(self))[index])

    def __iter__(self) -> Iterator[Scene]:
        return (self._draw(index) for index in range(len(self)))


@dataclass(frozen=True)
class Scenes(Drawn):
    """Pictures with known truth; the same settings give the same pixels, in any order, process or machine.

    The main object is large, in the picture but for a corner, and not hidden much by what stands before it. The
    watermark is drawn last, over everything, from chances of its own: with or without it, a scene is otherwise the
    same.

    Args:
        count: how many.
        seed: another seed, other scenes.
        size: height and width in pixels, at least 48.
        classes: those that main and second objects are of.
        second: how often a smaller object of another class stands behind the main one.
        occluded: how often something is put before it, unless it would hide what tells the class.
        watermark: a mark that goes with one class; none by default.

    Raises:
        InputError: a negative count, too small a size, an unknown class, a share outside [0, 1].

    Example:
        >>> scene = Scenes(1, seed=4)[0]
        >>> scene.pixels.shape
        (128, 128, 3)
    """

    count: int
    seed: int = 0
    size: int = 128
    classes: tuple[str, ...] = CLASSES
    second: float = 0.35
    occluded: float = 0.35
    watermark: Watermark | None = None

    def __post_init__(self) -> None:
        mark = self.watermark
        check(
            self.count,
            self.size,
            (*self.classes, *((mark.label,) if mark else ())) if self.classes else (),
            [self.second, self.occluded, *((mark.probability, mark.elsewhere) if mark else ())],
        )

    def __len__(self) -> int:
        return self.count

    def _draw(self, index: int) -> Scene:
        chance = Chance("scene", self.seed, index)
        where, behind, pixels = background(self.size, Chance("background", self.seed, index))
        canvas = Canvas(self.size)
        clutter(canvas, chance, 3 + chance.integer(6))
        label = chance.pick(self.classes)
        others = [each for each in self.classes if each != label]
        cast = played(
            canvas,
            label,
            others,
            behind,
            chance,
            (self.second, self.occluded),
            lambda pose: costumed(label, pose, behind, chance),
        )

        def marked(pixels: np.ndarray) -> Mask | None:
            chance = Chance("watermark", self.seed, index)
            return None if self.watermark is None else self.watermark.drawn(pixels, label, chance)

        return finished(canvas, cast, where, pixels, chance, marked)


def check(count: int, size: int, classes: Sequence[str], shares: Sequence[float]) -> None:
    """Refuse what no scenes can be drawn of.

    Raises:
        InputError: a negative count, too small a size, no or an unknown class, a share outside [0, 1].
    """
    unknown = [each for each in classes if each not in KINDS]
    if unknown or not classes:
        raise InputError(f"no class {', '.join(map(repr, unknown))}; there are {', '.join(CLASSES)}")
    if count < 0 or size < _SMALLEST:
        raise InputError(f"{count} scenes of {size} pixels; count >= 0 and size >= {_SMALLEST}")
    if not all(0 <= share <= 1 for share in shares):
        raise InputError(f"shares are numbers from 0 to 1, got {', '.join(map(str, shares))}")


def played(
    canvas: Canvas,
    label: str,
    others: Sequence[str],
    behind: RGB,
    chance: Chance,
    shares: tuple[float, float],
    dressed: Callable[[Pose], Actor],
) -> list[Actor]:
    """Draw the objects of a scene, and give them, the main one first.

    Args:
        canvas: where to.
        label: class of the main object.
        others: classes that a second, smaller object behind it may be of.
        behind: colour of the background.
        chance: of poses and of the second object.
        shares: how often there is a second object, and something before the main one.
        dressed: the main object in its pose.
    """
    cast: list[Actor] = []
    main = placed(label, canvas.size, chance, 0.2, 0.33)
    if others and chance.happens(shares[0]):
        second = chance.pick(others)
        cast.append(costumed(second, aside(second, main, canvas.size, chance), behind, chance))
        cast[0].draw(canvas, 1)
    cast.insert(0, dressed(main))
    cast[0].draw(canvas, 0)
    if chance.happens(shares[1]):
        _occlude(canvas, chance, main)
    return cast


def finished(
    canvas: Canvas,
    cast: Sequence[Actor],
    where: str,
    pixels: np.ndarray,
    chance: Chance,
    marked: Callable[[np.ndarray], Mask | None] = lambda _: None,
    light: float = 1.0,
) -> Scene:
    """The scene of what was drawn.

    Args:
        canvas: everything but the background.
        cast: its objects, the main one first.
        where: what the background is called.
        pixels: the background, which is painted over.
        chance: of the noise.
        marked: draws a watermark, in place, and gives its mask.
        light: how bright it is, against the usual.
    """
    coverages = painted(canvas, pixels)
    pixels *= np.float32(light)
    pixels += chance.noise(canvas.size, canvas.size)[..., None] * np.float32(1 / 16) - np.float32(8)
    mark = marked(pixels)
    free = np.ones((canvas.size, canvas.size), bool) if mark is None else ~mark
    objects = tuple(
        found for owner, each in enumerate(cast) if (found := each.truth(coverages, canvas, owner, free))
    )
    levels = np.rint(pixels).clip(0, 255).astype(np.uint8)
    return Scene(levels, Truth((canvas.size, canvas.size), objects, _caption(objects, where), mark))


def clutter(canvas: Canvas, chance: Chance, count: int) -> None:
    """Small things of no class behind everything."""
    for _ in range(count):
        radius = chance.uniform(0.02, 0.09) * canvas.size
        _scrap(canvas, chance, chance.uniform(0, canvas.size), chance.uniform(0, canvas.size), radius)


def _scrap(canvas: Canvas, chance: Chance, x: float, y: float, radius: float) -> None:
    """A polygon or a bar of any colour."""
    number = canvas.add(Surface(chance.pick(list(COLORS.values()))))
    corners = 3 + chance.integer(5)
    turn, flat = chance.uniform(0, math.tau), chance.uniform(0.25, 1)
    points = []
    for corner in range(corners):
        angle = math.tau * corner / corners
        u, v = math.cos(angle) * radius, math.sin(angle) * radius * flat
        points.append(
            (x + u * math.cos(turn) - v * math.sin(turn), y + u * math.sin(turn) + v * math.cos(turn))
        )
    canvas.polygon(number, points)


def _occlude(canvas: Canvas, chance: Chance, main: Pose) -> None:
    """Something before the main object, unless it would hide what tells the class."""
    before, seen = canvas.snapshot(), _telling(canvas)
    angle, away = chance.uniform(0, math.tau), chance.uniform(0.3, 0.9) * main.radius
    _scrap(
        canvas,
        chance,
        main.x + away * math.cos(angle),
        main.y + away * math.sin(angle),
        main.radius * chance.uniform(0.2, 0.45),
    )
    if _telling(canvas) < _NEEDED * seen:
        canvas.restore(before)


def _telling(canvas: Canvas) -> int:
    """Visible samples of the main object's distinguishing parts."""
    return sum(
        count
        for surface, count in zip(canvas.surfaces, canvas.samples(), strict=False)
        if surface.owner == 0 and surface.distinguishing
    )


def _caption(objects: Sequence[Object], where: str) -> str:
    """One sentence."""
    main, *others = [_said(each) for each in objects] or ["nothing"]
    second = f" and {others[0]}" if others else ""
    return f"{main[0].upper()}{main[1:]}{second}, before {where}."


def _said(thing: Object) -> str:
    facts = thing.attributes
    texture = "" if facts["texture"] == "plain" else f"{facts['texture']} "
    words = f"{facts['size']} {texture}{facts['color']} {thing.label}"
    place = "in the centre" if facts["place"] == "centre" else f"at the {facts['place']}"
    return f"a {words} {place}"
