"""Where everything is drawn: a map of surface numbers at four times the picture's resolution.

What lies in front overwrites what lies behind, so occlusion and visible masks need no bookkeeping. A pixel's colour
is the mean of its surfaces' colours, weighted by how many of its 16 samples each covers.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np
from jaxtyping import Float32
from PIL import Image, ImageDraw

from seewhy.scenes.chance import Chance
from seewhy.scenes.colors import RGB, Texture

SAMPLES = 4
_MOST_SURFACES = 256
_THIN = 0.09

Point = tuple[float, float]
Coverage = Float32[np.ndarray, "h w"]


@dataclass
class Surface:
    """Something of one colour: its number in the map is its place in the canvas's list.

    Attributes:
        color: red, green, blue.
        owner: number of the object it belongs to; -1 for clutter.
        part: name of the part, empty for clutter.
        distinguishing: whether the part tells the class.
        texture: what is painted over the colour, in the frame of `pose`.
        pose: where the object is.
        bounds: x0, y0, x1, y1 of everything drawn, in samples.
    """

    color: RGB
    owner: int = -1
    part: str = ""
    distinguishing: bool = False
    texture: Texture | None = None
    pose: Pose | None = None
    bounds: list[int] = field(default_factory=lambda: [1 << 30, 1 << 30, -1, -1])


@dataclass(frozen=True)
class Pose:
    """Where an object's own frame lies: x to the right, y down, everything within [-1, 1].

    Attributes:
        x, y: its centre in pixels.
        radius: half its side in pixels.
        turn: radians, clockwise.
        stretch: width over height; negative if mirrored.
        light: direction that the light comes from, in pixels.
    """

    x: float
    y: float
    radius: float
    turn: float
    stretch: float
    light: Point

    def matrix(self) -> tuple[float, float, float, float]:
        """From own frame to pixels, without the centre: a, b, c, d of x' = a x + b y, y' = c x + d y."""
        cosine, sine = math.cos(self.turn) * self.radius, math.sin(self.turn) * self.radius
        return cosine * self.stretch, -sine, sine * self.stretch, cosine


class Canvas:
    """The map of surfaces, and the list of what they are."""

    def __init__(self, size: int) -> None:
        self.size = size
        self.surfaces: list[Surface] = [Surface((0, 0, 0))]
        self._map = Image.new("L", (size * SAMPLES,) * 2, 0)
        self._draw = ImageDraw.Draw(self._map)

    def add(self, surface: Surface) -> int:
        """The number of a new surface."""
        if len(self.surfaces) == _MOST_SURFACES:
            raise RuntimeError(f"a scene has at most {_MOST_SURFACES} surfaces")
        self.surfaces.append(surface)
        return len(self.surfaces) - 1

    def polygon(self, number: int, points: Sequence[Point], outline: int | None = None) -> None:
        """Fill a polygon, given in pixels; the outline is one pixel wide."""
        # Whole samples: the last bit of a cosine, which may differ between machines, practically never moves an edge.
        corners = [(round(x * SAMPLES), round(y * SAMPLES)) for x, y in points]
        self._draw.polygon(corners, fill=number)
        self._grow(number, corners, 0)
        if outline is not None:
            self._draw.line([*corners, corners[0]], fill=outline, width=SAMPLES)
            self._grow(outline, corners, SAMPLES)

    def _grow(self, number: int, corners: Sequence[tuple[int, int]], margin: int) -> None:
        bounds = self.surfaces[number].bounds
        xs, ys = [x for x, _ in corners], [y for _, y in corners]
        bounds[:] = (
            min(bounds[0], min(xs) - margin),
            min(bounds[1], min(ys) - margin),
            max(bounds[2], max(xs) + 1 + margin),
            max(bounds[3], max(ys) + 1 + margin),
        )

    def window(self, number: int) -> tuple[slice, slice] | None:
        """Rows and columns of the picture that a surface can touch; None if it lies outside."""
        x0, y0, x1, y1 = self.surfaces[number].bounds
        left, top = max(x0 // SAMPLES, 0), max(y0 // SAMPLES, 0)
        right, bottom = (min(-(-edge // SAMPLES), self.size) for edge in (x1, y1))
        return (slice(top, bottom), slice(left, right)) if left < right and top < bottom else None

    def samples(self) -> list[int]:
        """How many samples each surface covers now."""
        return self._map.histogram()

    def coverage(self, number: int, window: tuple[slice, slice]) -> Coverage:
        """Share of each pixel of a window that a surface covers, in [0, 1]."""
        rows, columns = window
        edges = [edge * SAMPLES for edge in (columns.start, rows.start, columns.stop, rows.stop)]
        lookup = bytearray(256)
        lookup[number] = 255
        own = self._map.crop((edges[0], edges[1], edges[2], edges[3])).point(list(lookup)).reduce(SAMPLES)
        return np.asarray(own, np.float32) * np.float32(1 / 255)

    def snapshot(self) -> Image.Image:
        """The map as it is, to return to by `restore`."""
        return self._map.copy()

    def restore(self, snapshot: Image.Image) -> None:
        """Undo everything drawn since the snapshot."""
        self._map.paste(snapshot)


class Pen:
    """Draws one object's parts in the object's own frame."""

    def __init__(
        self,
        canvas: Canvas,
        owner: int,
        pose: Pose,
        paints: dict[str, RGB],
        texture: Texture | None,
        chance: Chance,
    ) -> None:
        self._canvas, self._owner, self._pose, self._paints = canvas, owner, pose, paints
        self._texture = texture
        self._matrix = pose.matrix()
        self.chance = chance

    def part(self, name: str, paint: str = "main", distinguishing: bool = False) -> Brush:
        """A brush for one part; the paints are main, second, dark, light."""
        return Brush(self, name, paint, distinguishing)

    def surface(self, part: str, paint: str, distinguishing: bool) -> tuple[int, int]:
        """Numbers of a new surface and of its outline."""
        color = self._paints[paint]
        texture = self._texture if paint == "main" else None
        edge = (color[0] // 3, color[1] // 3, color[2] // 3)
        facts = (self._owner, part, distinguishing)
        number = self._canvas.add(Surface(color, *facts, texture, self._pose))
        return number, self._canvas.add(Surface(edge, *facts, None, self._pose))

    def polygon(self, number: int, outline: int | None, points: Sequence[Point]) -> None:
        """Fill a polygon given in the object's frame."""
        a, b, c, d = self._matrix
        left, top = self._pose.x, self._pose.y
        moved = [(left + a * x + b * y, top + c * x + d * y) for x, y in points]
        self._canvas.polygon(number, moved, outline)


class Brush:
    """Draws the shapes of one part, all in one paint."""

    def __init__(self, pen: Pen, part: str, paint: str, distinguishing: bool) -> None:
        self._pen = pen
        self._surface, self._outline = pen.surface(part, paint, distinguishing)

    def polygon(self, *points: Point) -> None:
        """A closed shape."""
        self._pen.polygon(self._surface, self._outline, points)

    def box(self, x0: float, y0: float, x1: float, y1: float) -> None:
        """A rectangle."""
        self.polygon((x0, y0), (x1, y0), (x1, y1), (x0, y1))

    def ellipse(self, x: float, y: float, width: float, height: float, turn: float = 0.0) -> None:
        """An ellipse by its centre and half axes; turn in degrees, clockwise."""
        cosine, sine = math.cos(math.radians(turn)), math.sin(math.radians(turn))
        self.polygon(
            *(
                (x + u * width * cosine - v * height * sine, y + u * width * sine + v * height * cosine)
                for u, v in _CIRCLE
            )
        )

    def disc(self, x: float, y: float, radius: float) -> None:
        """A circle."""
        self.ellipse(x, y, radius, radius)

    def stroke(self, *points: Point, width: float, end: float | None = None) -> None:
        """A line through points, of a width that may run to another at its end; outlined unless it is thin."""
        last = len(points) - 1
        left, right = [], []
        for place, (x, y) in enumerate(points):
            before, after = points[max(place - 1, 0)], points[min(place + 1, last)]
            dx, dy = after[0] - before[0], after[1] - before[1]
            here = width if end is None else width + (end - width) * place / last
            reach = here / 2 / math.sqrt(dx * dx + dy * dy)
            left.append((x - dy * reach, y + dx * reach))
            right.append((x + dy * reach, y - dx * reach))
        outline = self._outline if width >= _THIN else None
        self._pen.polygon(self._surface, outline, [*left, *reversed(right)])


_CIRCLE = [(math.cos(math.tau * step / 20), math.sin(math.tau * step / 20)) for step in range(20)]
