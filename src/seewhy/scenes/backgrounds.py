"""Ten families of textured backgrounds, each in two random colours."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from jaxtyping import Float32
from PIL import Image

from seewhy.scenes.chance import Chance
from seewhy.scenes.colors import COLORS, RGB

# How much of the second colour each pixel has, from 0 to 1.
Blend = Float32[np.ndarray, "H W"]
Pixels = Float32[np.ndarray, "H W 3"]


def background(size: int, chance: Chance) -> tuple[str, RGB, Pixels]:
    """Name of the family, mean colour, and pixels from 0 to 255."""
    name = chance.pick(tuple(FAMILIES))
    one, other = (_muted(chance) for _ in range(2))
    blend = FAMILIES[name](size, chance)[..., None]
    low, high = np.array(one, np.float32), np.array(other, np.float32)
    pixels = low + (high - low) * blend
    pixels *= np.float32(0.8) + np.float32(0.4) * _field(size, chance, 3)[..., None]
    mean = float(blend.mean(dtype=np.float64))
    red, green, blue = (round(a + (b - a) * mean) for a, b in zip(one, other, strict=True))
    return name, (red, green, blue), pixels


def _muted(chance: Chance) -> RGB:
    """A colour half way to a random grey."""
    grey = chance.uniform(70, 210)
    red, green, blue = (round((each + grey) / 2) for each in chance.pick(list(COLORS.values())))
    return red, green, blue


def _field(size: int, chance: Chance, down: int, across: int | None = None) -> Blend:
    """Smooth noise from 0 to 1 with so many cells."""
    cells = Image.fromarray(chance.noise(down, down if across is None else across))
    smooth: Blend = np.asarray(cells.resize((size, size), Image.Resampling.BICUBIC), np.float32)
    return smooth * np.float32(1 / 255)


def _axes(size: int, chance: Chance, most: float) -> tuple[Blend, Blend]:
    """Two turned axes in shares of the picture's side; `most` is the largest slope against the picture's own."""
    slope = chance.uniform(-most, most)
    length = (1 + slope * slope) ** 0.5
    along = np.arange(size, dtype=np.float32) / np.float32(size)
    a, b = np.float32(1 / length), np.float32(slope / length)
    return along[None] * a + along[:, None] * b, along[:, None] * a - along[None] * b


def _fraction(values: Blend) -> Blend:
    fraction: Blend = values - np.floor(values)
    return fraction


def _ridges(values: Blend) -> Blend:
    """One at whole numbers, zero half way between them."""
    ridges: Blend = np.abs(_fraction(values) * 2 - 1)
    return ridges


def _sky(size: int, chance: Chance) -> Blend:
    """A gradient with a little cloud."""
    along = np.arange(size, dtype=np.float32) / np.float32(size)
    return along[:, None] * np.float32(0.7) + np.float32(0.3) * _field(size, chance, 5)


def _clouds(size: int, chance: Chance) -> Blend:
    blend = np.zeros((size, size), np.float32)
    for share, cells in ((0.55, 5), (0.3, 11), (0.15, 23)):
        blend += np.float32(share) * _field(size, chance, cells)
    return blend


def _stripes(size: int, chance: Chance) -> Blend:
    u, _ = _axes(size, chance, 1.5)
    return (_fraction(u * np.float32(chance.uniform(4, 12))) < chance.uniform(0.3, 0.7)).astype(np.float32)


def _checks(size: int, chance: Chance) -> Blend:
    u, v = _axes(size, chance, 0.8)
    count = np.float32(chance.uniform(3, 9))
    light: Blend = ((_fraction(u * count) < 0.5) == (_fraction(v * count) < 0.5)).astype(np.float32)
    return light


def _bricks(size: int, chance: Chance) -> Blend:
    u, v = _axes(size, chance, 0.15)
    rows = v * np.float32(chance.uniform(7, 13))
    columns = u * np.float32(chance.uniform(3, 6)) + np.float32(0.5) * (np.floor(rows) % 2)
    joint = (_fraction(rows) < 0.14) | (_fraction(columns) < 0.08)
    return np.where(joint, np.float32(0), np.float32(0.6) + np.float32(0.4) * _field(size, chance, 20))


def _grass(size: int, chance: Chance) -> Blend:
    blades = _field(size, chance, 7, size // 2)
    return np.float32(0.7) * blades + np.float32(0.3) * _field(size, chance, 4)


def _wood(size: int, chance: Chance) -> Blend:
    u, _ = _axes(size, chance, 0.4)
    rings = u * np.float32(chance.uniform(3, 6)) + np.float32(1.6) * _field(size, chance, 3, 5)
    return np.float32(0.8) * _ridges(rings) + np.float32(0.2) * _field(size, chance, 4, size // 3)


def _water(size: int, chance: Chance) -> Blend:
    _, v = _axes(size, chance, 0.1)
    waves = v * np.float32(chance.uniform(6, 12)) + np.float32(1.1) * _field(size, chance, 4, 9)
    return _ridges(waves)


def _dots(size: int, chance: Chance) -> Blend:
    u, v = _axes(size, chance, 1.0)
    count = np.float32(chance.uniform(5, 11))
    x, y = _fraction(u * count) - np.float32(0.5), _fraction(v * count) - np.float32(0.5)
    return (x * x + y * y < chance.uniform(0.04, 0.12)).astype(np.float32)


def _mosaic(size: int, chance: Chance) -> Blend:
    cells = 5 + chance.integer(9)
    tiles = Image.fromarray(chance.noise(cells, cells)).resize((size, size), Image.Resampling.NEAREST)
    return np.asarray(tiles, np.float32) * np.float32(1 / 255)


FAMILIES: dict[str, Callable[[int, Chance], Blend]] = {
    "sky": _sky,
    "clouds": _clouds,
    "stripes": _stripes,
    "checks": _checks,
    "bricks": _bricks,
    "grass": _grass,
    "wood": _wood,
    "water": _water,
    "dots": _dots,
    "mosaic": _mosaic,
}
