"""Cat and rabbit sit alike, deer and elephant stand alike, fish and whale swim alike."""

from __future__ import annotations

import math

from seewhy.scenes.canvas import Pen


def cat(pen: Pen) -> None:
    """Pointed ears and a long tail."""
    sway = pen.chance.uniform(-0.1, 0.1)
    tail = pen.part("tail", "second", distinguishing=True)
    tail.stroke((0.3, 0.75), (0.72, 0.7), (0.88, 0.35 + sway), (0.74, -0.02 + sway), width=0.17, end=0.1)
    reach = pen.chance.uniform(0.9, 1.0)
    ears = pen.part("ears", "second", distinguishing=True)
    for side in (-1, 1):
        ears.polygon((side * 0.06, -0.58), (side * 0.36, -reach), (side * 0.42, -0.36))
    _sitting(pen)
    whiskers = pen.part("whiskers", "light", distinguishing=True)
    for side in (-1, 1):
        for lift in (-0.04, 0.06):
            whiskers.stroke((side * 0.1, -0.2), (side * 0.5, -0.2 + lift), width=0.035)


def rabbit(pen: Pen) -> None:
    """Long ears and a round tail."""
    pen.part("tail", "light", distinguishing=True).disc(0.52, 0.66, pen.chance.uniform(0.16, 0.2))
    spread = pen.chance.uniform(8, 24)
    ears, inside = (
        pen.part("ears", "main", distinguishing=True),
        pen.part("ears", "light", distinguishing=True),
    )
    for side in (-1, 1):
        x = side * (0.15 + math.sin(math.radians(spread)) * 0.25)
        ears.ellipse(x, -0.72, 0.11, 0.31, side * spread)
        inside.ellipse(x, -0.7, 0.045, 0.2, side * spread)
    _sitting(pen)


def _sitting(pen: Pen) -> None:
    """Body, paws, head and face of an animal that sits and looks at us."""
    broad = pen.chance.vary(0.42, 0.1)
    pen.part("body").ellipse(0, 0.42, broad, 0.5)
    belly = pen.part("body", "light")
    belly.ellipse(0, 0.52, broad * 0.5, 0.3)
    paws = pen.part("paws", "second")
    for side in (-1, 1):
        paws.ellipse(side * 0.24, 0.88, 0.17, 0.1)
    pen.part("head").ellipse(0, -0.28, 0.38, 0.33)
    eyes = pen.part("eyes", "dark")
    for side in (-1, 1):
        eyes.ellipse(side * 0.15, -0.36, 0.05, 0.07)
    pen.part("nose", "dark").polygon((-0.06, -0.24), (0.06, -0.24), (0, -0.16))


def deer(pen: Pen) -> None:
    """Antlers, and a short tail."""
    antlers = pen.part("antlers", "light", distinguishing=True)
    lean = pen.chance.uniform(-0.06, 0.06)
    for side in (0.0, 0.22):
        antlers.stroke((0.5 + side, -0.5), (0.4 + side + lean, -0.76), (0.56 + side + lean, -1.0), width=0.11)
        antlers.stroke((0.42 + side, -0.7), (0.22 + side, -0.92), width=0.1)
        antlers.stroke((0.46 + side, -0.82), (0.66 + side, -0.8), width=0.09)
    tail = pen.part("tail", "light", distinguishing=True)
    tail.ellipse(-0.68, -0.02, 0.09, 0.15, 35)
    _standing(pen)


def elephant(pen: Pen) -> None:
    """A trunk, a tusk and a large ear."""
    curl = pen.chance.uniform(-0.12, 0.12)
    trunk = pen.part("trunk", distinguishing=True)
    trunk.stroke((0.7, -0.34), (0.9, -0.1), (0.88, 0.35), (0.98 + curl, 0.62), width=0.22, end=0.1)
    _standing(pen)
    pen.part("tusk", "light", distinguishing=True).stroke(
        (0.72, -0.14), (0.8, 0.1), (0.95, 0.18), width=0.09, end=0.03
    )
    ear = pen.part("ear", "second", distinguishing=True)
    ear.ellipse(0.36, -0.24, pen.chance.uniform(0.2, 0.25), 0.32, -12)


def _standing(pen: Pen) -> None:
    """Body, legs, neck and head of an animal seen from the side."""
    long = pen.chance.vary(0.58, 0.08)
    legs = pen.part("legs", "second")
    for x in (-0.48, -0.26, 0.18, 0.38):
        legs.polygon((x - 0.09, 0.2), (x + 0.09, 0.2), (x + 0.07, 0.92), (x - 0.07, 0.92))
    pen.part("body").ellipse(-0.08, 0.14, long, 0.34)
    pen.part("neck").polygon((0.2, -0.1), (0.5, 0.2), (0.75, -0.3), (0.48, -0.44))
    pen.part("head").ellipse(0.62, -0.36, 0.24, 0.18, 18)
    pen.part("eyes", "dark").disc(0.62, -0.41, 0.05)


def fish(pen: Pen) -> None:
    """A tail fin that stands upright, and a comb on the back."""
    tail = pen.part("tail fin", "second", distinguishing=True)
    spread = pen.chance.uniform(0.36, 0.48)
    tail.polygon((-0.5, 0), (-0.98, -spread), (-0.8, 0), (-0.98, spread))
    comb = pen.part("back fin", "second", distinguishing=True)
    comb.polygon((-0.35, -0.25), (-0.25, -0.6), (-0.05, -0.48), (0.08, -0.6), (0.25, -0.46), (0.4, -0.2))
    _swimming(pen)
    gill = pen.part("gill", "second", distinguishing=True)
    gill.stroke((0.34, -0.24), (0.26, 0.0), (0.34, 0.24), width=0.07)


def whale(pen: Pen) -> None:
    """Flukes raised behind, and a spout of water."""
    flukes = pen.part("flukes", distinguishing=True)
    lift = pen.chance.uniform(-0.08, 0.08)
    flukes.stroke((-0.4, 0.0), (-0.72, -0.12), (-0.84, -0.42 + lift), width=0.3, end=0.12)
    for side in (-1, 1):
        flukes.ellipse(-0.84 + side * 0.15, -0.5 + lift, 0.2, 0.1, side * -28)
    spout = pen.part("spout", "light", distinguishing=True)
    for side in (-1, 1):
        spout.stroke((0.3, -0.3), (0.3 + side * 0.05, -0.66), (0.3 + side * 0.28, -0.84), width=0.09)
        spout.disc(0.3 + side * 0.33, -0.74, 0.07)
    _swimming(pen)


def _swimming(pen: Pen) -> None:
    """A long body with an eye and a side fin."""
    pen.part("body").ellipse(0.1, 0, 0.72, pen.chance.vary(0.34, 0.1))
    pen.part("side fin", "second").polygon((0.16, 0.08), (-0.12, 0.42), (0.3, 0.24))
    pen.part("eye", "light").disc(0.54, -0.08, 0.1)
    pen.part("eye", "dark").disc(0.56, -0.08, 0.05)
