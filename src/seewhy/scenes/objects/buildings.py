"""House and castle share their walls, windmill and lighthouse their tower."""

from __future__ import annotations

import math

from seewhy.scenes.canvas import Pen


def house(pen: Pen) -> None:
    """A gabled roof and a chimney."""
    chimney = pen.part("chimney", "dark", distinguishing=True)
    chimney.box(0.28, -0.88, 0.48, -0.3)
    roof = pen.part("roof", "second", distinguishing=True)
    roof.polygon((-0.86, -0.16), (0.0, pen.chance.uniform(-0.98, -0.8)), (0.86, -0.16))
    _walls(pen)


def castle(pen: Pen) -> None:
    """Battlements, and two corner towers with pointed caps."""
    battlements = pen.part("battlements", "main", distinguishing=True)
    for x in (-0.34, -0.1, 0.14):
        battlements.box(x, -0.34, x + 0.18, -0.1)
    tower = pen.part("corner towers", "second", distinguishing=True)
    caps = pen.part("corner towers", "dark", distinguishing=True)
    top = pen.chance.uniform(-0.6, -0.45)
    for side in (-1, 1):
        tower.box(side * 0.72 - 0.2, top, side * 0.72 + 0.2, 0.9)
        caps.polygon((side * 0.72 - 0.27, top), (side * 0.72, top - 0.42), (side * 0.72 + 0.27, top))
    _walls(pen)


def _walls(pen: Pen) -> None:
    """A front with a door and two windows."""
    pen.part("walls").box(-0.64, -0.18, 0.64, 0.9)
    pen.part("door", "dark").box(-0.14, 0.36, 0.14, 0.9)
    windows = pen.part("windows", "light")
    for x in (-0.4, 0.4):
        windows.box(x - 0.13, 0.02, x + 0.13, 0.3)


def windmill(pen: Pen) -> None:
    """Four sails, turned anyhow, and a cap."""
    _tower(pen)
    pen.part("cap", "second", distinguishing=True).polygon((-0.32, -0.2), (0, -0.58), (0.32, -0.2))
    sails = pen.part("sails", "light", distinguishing=True)
    spars = pen.part("sails", "dark", distinguishing=True)
    turn = pen.chance.uniform(0, math.pi / 2)
    for quarter in range(4):
        c, s = math.cos(turn + quarter * math.pi / 2), math.sin(turn + quarter * math.pi / 2)
        corners = ((0.14, 0.0), (0.14, 0.17), (0.68, 0.2), (0.68, 0.0))
        sails.polygon(*((c * x - s * y, -0.28 + s * x + c * y) for x, y in corners))
        spars.stroke((0.0, -0.28), (c * 0.7, -0.28 + s * 0.7), width=0.07)


def lighthouse(pen: Pen) -> None:
    """A lantern under a dome, bands around the tower, and two beams."""
    beams = pen.part("beams", "light", distinguishing=True)
    spread = pen.chance.uniform(0.12, 0.2)
    for side in (-1, 1):
        beams.polygon((side * 0.15, -0.56), (side * 0.95, -0.56 - spread), (side * 0.95, -0.56 + spread))
    _tower(pen)
    bands = pen.part("bands", "light", distinguishing=True)
    for y in (0.0, 0.36):
        half = 0.26 + (y + 0.3) * 0.13
        bands.box(-half, y, half, y + 0.16)
    gallery = pen.part("lantern", "dark", distinguishing=True)
    gallery.box(-0.36, -0.34, 0.36, -0.24)
    lantern = pen.part("lantern", "light", distinguishing=True)
    lantern.box(-0.18, -0.72, 0.18, -0.36)
    dome = pen.part("lantern", "second", distinguishing=True)
    dome.polygon((-0.26, -0.7), (-0.14, -0.9), (0, -0.98), (0.14, -0.9), (0.26, -0.7))


def _tower(pen: Pen) -> None:
    """A tower that narrows towards the top, with a door and a window."""
    foot = pen.chance.uniform(0.4, 0.46)
    pen.part("tower").polygon((-0.24, -0.3), (0.24, -0.3), (foot, 0.92), (-foot, 0.92))
    pen.part("door", "dark").box(-0.12, 0.56, 0.12, 0.92)
    pen.part("window", "dark").box(-0.08, 0.18, 0.08, 0.34)
