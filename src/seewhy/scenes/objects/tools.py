"""Hammer and axe share a handle, umbrella and broom a stick."""

from __future__ import annotations

from seewhy.scenes.canvas import Pen


def hammer(pen: Pen) -> None:
    """A heavy head with a claw."""
    _handle(pen)
    face = pen.chance.uniform(0.44, 0.54)
    head = pen.part("head", "dark", distinguishing=True)
    head.polygon((-0.2, -0.84), (face, -0.84), (face, -0.5), (-0.2, -0.5))
    claw = pen.part("claw", "light", distinguishing=True)
    claw.polygon((-0.2, -0.84), (-0.66, -0.62), (-0.72, -0.4), (-0.44, -0.54), (-0.2, -0.52))


def axe(pen: Pen) -> None:
    """A broad blade on one side."""
    _handle(pen)
    reach = pen.chance.uniform(0.56, 0.68)
    blade = pen.part("blade", "light", distinguishing=True)
    blade.polygon(
        (-0.14, -0.8),
        (0.2, -0.8),
        (reach, -0.98),
        (reach + 0.12, -0.6),
        (reach, -0.2),
        (0.2, -0.44),
        (-0.14, -0.44),
    )
    edge = pen.part("blade", "dark", distinguishing=True)
    edge.box(-0.16, -0.8, 0.16, -0.44)


def _handle(pen: Pen) -> None:
    """A wooden handle with a grip."""
    wide = pen.chance.uniform(0.09, 0.12)
    pen.part("handle").polygon((-wide * 0.8, -0.92), (wide * 0.8, -0.92), (wide, 0.96), (-wide, 0.96))
    pen.part("grip", "second").box(-wide * 1.35, 0.42, wide * 1.35, 0.98)


def umbrella(pen: Pen) -> None:
    """A canopy in two colours, and a hooked end."""
    _stick(pen)
    hook = pen.part("hook", "dark", distinguishing=True)
    hook.stroke((0.0, 0.8), (0.03, 0.94), (0.15, 0.98), (0.26, 0.9), (0.27, 0.74), width=0.1)
    wide = pen.chance.uniform(0.82, 0.95)
    canopy = pen.part("canopy", "main", distinguishing=True)
    low = -0.12
    dome = ((-1, low), (-0.85, -0.5), (-0.45, -0.82), (0, -0.94), (0.45, -0.82), (0.85, -0.5), (1, low))
    scallops = ((0.66, low - 0.13), (0.33, low), (0, low - 0.13), (-0.33, low), (-0.66, low - 0.13))
    canopy.polygon(*((x * wide, y) for x, y in (*dome, *scallops)))
    panel = pen.part("canopy", "second", distinguishing=True)
    panel.polygon(
        (-wide * 0.33, low),
        (-wide * 0.22, -0.6),
        (0, -0.94),
        (wide * 0.22, -0.6),
        (wide * 0.33, low),
        (0, low - 0.13),
    )


def broom(pen: Pen) -> None:
    """Bristles held by a band."""
    _stick(pen)
    wide = pen.chance.uniform(0.5, 0.62)
    bristles = pen.part("bristles", "main", distinguishing=True)
    bristles.polygon(
        (-0.2, 0.26), (0.2, 0.26), (wide, 0.98), (wide * 0.6, 0.9), (wide * 0.3, 0.99),
        (0, 0.9), (-wide * 0.3, 0.99), (-wide * 0.6, 0.9), (-wide, 0.98),
    )  # fmt: skip
    pen.part("band", "second", distinguishing=True).box(-0.24, 0.14, 0.24, 0.32)


def _stick(pen: Pen) -> None:
    """A long thin stick."""
    pen.part("stick", "dark").box(-0.055, -0.98, 0.055, 0.86)
