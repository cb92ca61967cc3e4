"""Tree and palm share a trunk, daisy and tulip a stem with leaves."""

from __future__ import annotations

import math

from seewhy.scenes.canvas import Pen


def tree(pen: Pen) -> None:
    """A round crown with fruit."""
    _trunk(pen)
    crown = pen.part("crown", "main", distinguishing=True)
    count = 6 + pen.chance.integer(2)
    for puff in range(count):
        angle = math.tau * puff / count
        crown.disc(0.4 * math.cos(angle), -0.38 + 0.3 * math.sin(angle), pen.chance.uniform(0.26, 0.32))
    crown.disc(0, -0.38, 0.34)
    fruit = pen.part("fruit", "second", distinguishing=True)
    for x, y in ((-0.3, -0.5), (0.02, -0.2), (0.32, -0.44), (0.02, -0.66)):
        fruit.disc(x, y, 0.09)


def palm(pen: Pen) -> None:
    """Fronds that hang from the top, and coconuts."""
    _trunk(pen)
    fronds = pen.part("fronds", "main", distinguishing=True)
    for degrees in (-165, -125, -90, -55, -15, 20, 160):
        angle = math.radians(degrees + pen.chance.uniform(-8, 8))
        x, y = math.cos(angle), math.sin(angle)
        fronds.stroke(
            (0, -0.4), (x * 0.42, -0.46 + y * 0.42), (x * 0.82, -0.28 + y * 0.5), width=0.24, end=0.05
        )
    nuts = pen.part("coconuts", "second", distinguishing=True)
    for x, y in ((-0.12, -0.28), (0.12, -0.28), (0.0, -0.16)):
        nuts.disc(x, y, 0.11)


def _trunk(pen: Pen) -> None:
    """A trunk, and the ground that it stands on."""
    lean = pen.chance.uniform(-0.08, 0.08)
    pen.part("ground", "dark").ellipse(0, 0.9, 0.5, 0.09)
    pen.part("trunk", "second").polygon((lean - 0.09, -0.4), (lean + 0.09, -0.4), (0.17, 0.92), (-0.17, 0.92))


def daisy(pen: Pen) -> None:
    """Many petals around a disc."""
    _stem(pen)
    petals = pen.part("petals", "main", distinguishing=True)
    count = 8 + pen.chance.integer(4)
    turn = pen.chance.uniform(0, 360)
    for petal in range(count):
        degrees = turn + 360 * petal / count
        angle = math.radians(degrees)
        petals.ellipse(0.36 * math.cos(angle), -0.42 + 0.36 * math.sin(angle), 0.22, 0.11, degrees)
    pen.part("disc", "second", distinguishing=True).disc(0, -0.42, 0.19)


def tulip(pen: Pen) -> None:
    """A cup with three points."""
    _stem(pen)
    wide = pen.chance.uniform(0.34, 0.42)
    cup = pen.part("cup", "main", distinguishing=True)
    cup.polygon(
        (-wide, -0.88), (-wide / 2, -0.6), (0, -0.96), (wide / 2, -0.6), (wide, -0.88),
        (wide, -0.4), (wide * 0.6, -0.12), (0, -0.02), (-wide * 0.6, -0.12), (-wide, -0.4),
    )  # fmt: skip
    fold = pen.part("cup", "second", distinguishing=True)
    fold.polygon((-wide / 2, -0.6), (0, -0.96), (wide / 2, -0.6), (0, -0.14))


def _stem(pen: Pen) -> None:
    """A stem with two leaves."""
    bend = pen.chance.uniform(-0.1, 0.1)
    pen.part("stem", "dark").stroke((0, -0.3), (bend, 0.3), (0, 0.96), width=0.12)
    leaves = pen.part("leaves", "second")
    for side in (-1, 1):
        leaves.ellipse(side * 0.36, 0.46, 0.4, 0.14, side * -32)
