"""Scenes: pictures drawn from a seed, with everything that is true of them."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import overload

import numpy as np
from jaxtyping import UInt8
from PIL import Image

from seewhy.errors import InputError
from seewhy.scenes.backgrounds import background
from seewhy.scenes.canvas import Canvas, Pen, Pose, Surface
from seewhy.scenes.chance import Chance
from seewhy.scenes.colors import COLORS, RGB, TEXTURES, Texture, far_from
from seewhy.scenes.objects import KINDS
from seewhy.scenes.watermark import Watermark
from seewhy.truth import Mask, Object, Part, Truth, tight_box

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


@dataclass(frozen=True)
class Scenes(Sequence[Scene]):
    """Pictures with known truth; the same settings give the same pixels, in any order, process or machine.

    The main object is large, in the picture but for a corner, and not hidden much. The watermark is drawn last, from
    chances of its own: with or without it, a scene is otherwise the same.

    Args:
        count: how many.
        seed: another seed, other scenes.
        size: height and width in pixels, at least 48.
        classes: those that main and second objects are of.
        second: how often a smaller object of another class stands behind the main one.
        occluded: how often something covers a little of it.
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
        asked = (*self.classes, *((mark.label,) if mark else ()))
        unknown = [each for each in asked if each not in KINDS]
        if unknown or not self.classes:
            raise InputError(f"no class {', '.join(map(repr, unknown))}; there are {', '.join(CLASSES)}")
        if self.count < 0 or self.size < _SMALLEST:
            raise InputError(f"{self.count} scenes of {self.size} pixels; count >= 0 and size >= {_SMALLEST}")
        shares = [self.second, self.occluded, *((mark.probability, mark.elsewhere) if mark else ())]
        if not all(0 <= share <= 1 for share in shares):
            raise InputError(f"shares are numbers from 0 to 1, got {', '.join(map(str, shares))}")

    def __len__(self) -> int:
        return self.count

    @overload
    def __getitem__(self, index: int) -> Scene: ...
    @overload
    def __getitem__(self, index: slice) -> list[Scene]: ...
    def __getitem__(self, index: int | slice) -> Scene | list[Scene]:
        if isinstance(index, slice):
            return [self._draw(each) for each in range(self.count)[index]]
        return self._draw(range(self.count)[index])

    def __iter__(self) -> Iterator[Scene]:
        return (self._draw(index) for index in range(self.count))

    def _draw(self, index: int) -> Scene:
        chance = Chance("scene", self.seed, index)
        where, behind, pixels = background(self.size, Chance("background", self.seed, index))
        canvas = Canvas(self.size)
        _clutter(canvas, chance, 3 + chance.integer(6))
        label = chance.pick(self.classes)
        cast: list[_Cast] = []
        others = [each for each in self.classes if each != label]
        main = _pose(label, self.size, chance, 0.25, 0.37)
        if others and chance.happens(self.second):
            second = chance.pick(others)
            cast.append(_cast(second, _aside(second, main, self.size, chance), behind, chance))
            cast[0].draw(canvas, 1)
        cast.insert(0, _cast(label, main, behind, chance))
        cast[0].draw(canvas, 0)
        if chance.happens(self.occluded):
            _occlude(canvas, chance, main)

        masks = _composed(canvas, pixels)
        pixels += chance.noise(self.size, self.size)[..., None] * np.float32(1 / 16) - np.float32(8)
        objects = tuple(
            found for owner, each in enumerate(cast) if (found := each.truth(masks, canvas, owner, self.size))
        )
        mark = None
        if self.watermark is not None:
            mark = self.watermark.drawn(pixels, label, Chance("watermark", self.seed, index))
        caption = _caption(objects, where)
        levels = np.rint(pixels).clip(0, 255).astype(np.uint8)
        return Scene(levels, Truth((self.size, self.size), objects, caption, mark))


@dataclass(frozen=True)
class _Cast:
    """One object before it is drawn."""

    label: str
    pose: Pose
    color: str
    paints: dict[str, RGB]
    texture: Texture | None
    chance: Chance

    def draw(self, canvas: Canvas, owner: int) -> None:
        pen = Pen(canvas, owner, self.pose, self.paints, self.texture, self.chance)
        KINDS[self.label].draw(pen)

    def truth(self, masks: dict[int, np.ndarray], canvas: Canvas, owner: int, size: int) -> Object | None:
        """What can be seen of it; None if nothing."""
        total = np.zeros((size, size), np.float32)
        parts: dict[str, np.ndarray] = {}
        telling = {}
        for number, covered in masks.items():
            surface = canvas.surfaces[number]
            if surface.owner == owner:
                telling[surface.part] = surface.distinguishing
                parts[surface.part] = parts.get(surface.part, 0) + covered
                total += covered
        mask = total >= 0.5
        if not mask.any():
            return None
        box = tight_box(mask)
        found = [(name, covered >= 0.5) for name, covered in parts.items()]
        attributes = {
            "color": self.color,
            "texture": self.texture.name if self.texture else "plain",
            "place": _place((box.x0 + box.x1) / 2 / size, (box.y0 + box.y1) / 2 / size),
            "size": "small" if self.pose.radius < 0.22 * size else "large" if self.pose.radius > 0.31 * size else "medium",
        }
        seen = tuple(Part(name, part, telling[name]) for name, part in found if part.any())
        return Object(self.label, box, mask, seen, attributes)


def _pose(label: str, size: int, chance: Chance, least: float, most: float) -> Pose:
    """Anywhere in the picture, inside it but for a corner."""
    radius = chance.uniform(least, most) * size
    turn = math.radians(chance.uniform(-1, 1) * KINDS[label].turn)
    stretch = chance.uniform(0.85, 1.1) * (1 if chance.happens(0.5) else -1)
    light = math.tau * chance.uniform(0, 1)
    x, y = (chance.uniform(radius, size - radius) for _ in range(2))
    return Pose(x, y, radius, turn, stretch, (math.cos(light), math.sin(light)))


def _aside(label: str, main: Pose, size: int, chance: Chance) -> Pose:
    """A small object where the main one covers it least, of three places tried."""
    tried = [_pose(label, size, chance, 0.12, 0.16) for _ in range(3)]
    return max(tried, key=lambda each: abs(each.x - main.x) + abs(each.y - main.y))


def _cast(label: str, pose: Pose, behind: RGB, chance: Chance) -> _Cast:
    name = far_from(behind, chance)
    color = COLORS[name]
    second = COLORS[far_from(color, chance)]
    texture = None
    kind = chance.pick(TEXTURES)
    if kind != "plain":
        painted = COLORS[far_from(color, chance)]
        texture = Texture(kind, painted, chance.uniform(0.22, 0.4), chance.happens(0.5))
    paints = {"main": color, "second": second, "dark": (56, 50, 52), "light": (240, 238, 228)}
    return _Cast(label, pose, name, paints, texture, chance)


def _clutter(canvas: Canvas, chance: Chance, count: int) -> None:
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
        points.append((x + u * math.cos(turn) - v * math.sin(turn), y + u * math.sin(turn) + v * math.cos(turn)))
    canvas.polygon(number, points)


def _occlude(canvas: Canvas, chance: Chance, main: Pose) -> None:
    """Something before the main object, unless it would hide what tells the class."""
    before, seen = canvas.snapshot(), _telling(canvas)
    angle, away = chance.uniform(0, math.tau), chance.uniform(0.3, 0.9) * main.radius
    _scrap(canvas, chance, main.x + away * math.cos(angle), main.y + away * math.sin(angle), main.radius * chance.uniform(0.2, 0.45))
    if _telling(canvas) < _NEEDED * seen:
        canvas.restore(before)


def _telling(canvas: Canvas) -> int:
    """Visible samples of the main object's distinguishing parts."""
    return sum(
        count
        for surface, count in zip(canvas.surfaces, canvas.samples(), strict=False)
        if surface.owner == 0 and surface.distinguishing
    )


def _composed(canvas: Canvas, pixels: np.ndarray) -> dict[int, Mask]:
    """Paint all surfaces over the background, in place; how much of each pixel each surface covers."""
    visible = canvas.samples()
    found, painted = {}, []
    free = np.ones((canvas.size, canvas.size), np.float32)
    for number in range(1, len(canvas.surfaces)):
        window = canvas.window(number) if visible[number] else None
        if window is None:
            continue
        covered = canvas.coverage(number, window)
        free[window] -= covered
        painted.append((window, covered, canvas.surfaces[number]))
        if canvas.surfaces[number].owner >= 0:
            found[number] = np.zeros_like(free)
            found[number][window] = covered
    pixels *= free.clip(0, 1)[..., None]
    for window, covered, surface in painted:
        pixels[window] += covered[..., None] * _colored(surface, window)
    return found


def _colored(surface: Surface, window: tuple[slice, slice]) -> np.ndarray:
    """Colours of a surface in a window: (3,) if it is even, (h, w, 3) otherwise."""
    color = np.array(surface.color, np.float32)
    pose = surface.pose
    if pose is None:
        return color
    rows, columns = window
    right = (np.arange(columns.start, columns.stop, dtype=np.float32) + np.float32(0.5 - pose.x))[None]
    down = (np.arange(rows.start, rows.stop, dtype=np.float32) + np.float32(0.5 - pose.y))[:, None]
    if surface.texture is not None:
        a, b, c, d = pose.matrix()
        scale = 1 / (a * d - b * c)
        x = right * np.float32(d * scale) - down * np.float32(b * scale)
        y = down * np.float32(a * scale) - right * np.float32(c * scale)
        blend = surface.texture.painted(x, y)[..., None]
        color = color + (np.array(surface.texture.color, np.float32) - color) * blend
    strength = 0.22 / pose.radius
    light = right * np.float32(pose.light[0] * strength) + down * np.float32(pose.light[1] * strength)
    return color * (light + np.float32(1))[..., None]


def _place(x: float, y: float) -> str:
    """A picture's place in words, from shares of its width and height."""
    row = ("upper", "", "lower")[min(int(y * 3), 2)]
    column = ("left", "", "right")[min(int(x * 3), 2)]
    if row and column:
        return f"{row} {column}"
    return {"upper": "top", "lower": "bottom"}.get(row, column or "centre")


def _caption(objects: Sequence[Object], where: str) -> str:
    """One sentence."""
    main, *others = [_said(each) for each in objects]
    second = f" and {others[0]}" if others else ""
    return f"{main[0].upper()}{main[1:]}{second}, before {where}."


def _said(thing: Object) -> str:
    facts = thing.attributes
    texture = "" if facts["texture"] == "plain" else f"{facts['texture']} "
    words = f"{facts['size']} {texture}{facts['color']} {thing.label}"
    place = "in the centre" if facts["place"] == "centre" else f"at the {facts['place']}"
    return f"a {words} {place}"
