"""Car and truck roll alike, sailing boat and steamer float alike, aeroplane and rocket fly alike."""

from __future__ import annotations

from seewhy.scenes.canvas import Pen


def car(pen: Pen) -> None:
    """A low rounded cabin in the middle."""
    back = pen.chance.uniform(0.42, 0.5)
    cabin = pen.part("cabin", "main", distinguishing=True)
    cabin.polygon((-0.62, 0.14), (-back, -0.32), (-0.28, -0.42), (0.2, -0.42), (0.36, -0.32), (0.6, 0.14))
    windows = pen.part("windows", "light", distinguishing=True)
    windows.polygon((-0.46, 0.06), (-0.36, -0.27), (-0.04, -0.3), (-0.04, 0.06))
    windows.polygon((0.06, 0.06), (0.06, -0.3), (0.26, -0.27), (0.44, 0.06))
    _rolling(pen)


def truck(pen: Pen) -> None:
    """A tall box behind, a cab in front."""
    top = pen.chance.uniform(-0.72, -0.58)
    cargo = pen.part("cargo box", "second", distinguishing=True)
    cargo.box(-0.95, top, 0.28, 0.16)
    stripe = pen.part("cargo box", "light", distinguishing=True)
    stripe.box(-0.95, top + 0.3, 0.28, top + 0.42)
    cab = pen.part("cab", "main", distinguishing=True)
    cab.polygon((0.36, 0.16), (0.36, -0.4), (0.7, -0.4), (0.92, -0.04), (0.92, 0.16))
    cab_window = pen.part("cab", "light", distinguishing=True)
    cab_window.polygon((0.48, -0.04), (0.48, -0.3), (0.66, -0.3), (0.8, -0.04))
    _rolling(pen)


def _rolling(pen: Pen) -> None:
    """Chassis, wheels and a lamp."""
    pen.part("chassis").polygon((-0.96, 0.1), (0.88, 0.1), (0.98, 0.22), (0.98, 0.42), (-0.96, 0.42))
    radius = pen.chance.uniform(0.19, 0.23)
    tyres, hubs = pen.part("wheels", "dark"), pen.part("wheels", "light")
    for x in (-0.56, 0.56):
        tyres.disc(x, 0.44, radius)
        hubs.disc(x, 0.44, radius * 0.45)
    pen.part("lamp", "light").ellipse(0.9, 0.24, 0.06, 0.07)


def sailing_boat(pen: Pen) -> None:
    """A mast with two sails."""
    mast = pen.part("mast", "dark", distinguishing=True)
    mast.box(-0.04, -0.98, 0.04, 0.36)
    reach = pen.chance.uniform(0.66, 0.82)
    sails = pen.part("sails", "light", distinguishing=True)
    sails.polygon((0.08, -0.92), (0.08, 0.2), (reach, 0.2))
    small = pen.part("sails", "second", distinguishing=True)
    small.polygon((-0.08, -0.76), (-0.08, 0.2), (-0.6, 0.2))
    _floating(pen)


def steamer(pen: Pen) -> None:
    """A deckhouse and funnels that smoke."""
    smoke = pen.part("smoke", "light", distinguishing=True)
    count = 1 + pen.chance.integer(2)
    for funnel in range(count):
        x = -0.2 + 0.4 * funnel
        for puff in range(3):
            smoke.disc(x - 0.16 * puff, -0.56 - 0.13 * puff, 0.09 + 0.03 * puff)
    funnels = pen.part("funnels", "second", distinguishing=True)
    rims = pen.part("funnels", "dark", distinguishing=True)
    for funnel in range(count):
        x = -0.2 + 0.4 * funnel
        funnels.polygon((x - 0.11, 0.0), (x - 0.09, -0.48), (x + 0.11, -0.48), (x + 0.13, 0.0))
        rims.box(x - 0.1, -0.48, x + 0.12, -0.38)
    deckhouse = pen.part("deckhouse", "light", distinguishing=True)
    deckhouse.box(-0.52, -0.06, 0.5, 0.36)
    portholes = pen.part("deckhouse", "dark", distinguishing=True)
    for x in (-0.34, 0.0, 0.32):
        portholes.disc(x, 0.14, 0.07)
    _floating(pen)


def _floating(pen: Pen) -> None:
    """Hull with a stripe, and waves."""
    bow = pen.chance.uniform(0.9, 0.98)
    pen.part("hull").polygon((-0.92, 0.32), (bow, 0.32), (0.66, 0.78), (-0.66, 0.78))
    pen.part("hull", "second").polygon((-0.82, 0.46), (0.86, 0.46), (0.8, 0.56), (-0.78, 0.56))
    waves = pen.part("waves", "light")
    waves.stroke(
        (-0.95, 0.86),
        (-0.6, 0.78),
        (-0.3, 0.86),
        (0.0, 0.78),
        (0.3, 0.86),
        (0.6, 0.78),
        (0.95, 0.86),
        width=0.1,
    )


def aeroplane(pen: Pen) -> None:
    """Long wings and a tailplane."""
    sweep = pen.chance.uniform(0.1, 0.3)
    wings = pen.part("wings", "second", distinguishing=True)
    tailplane = pen.part("tailplane", "second", distinguishing=True)
    for side in (-1, 1):
        wings.polygon(
            (side * 0.1, -0.28), (side * 0.96, sweep - 0.04), (side * 0.96, sweep + 0.12), (side * 0.1, 0.2)
        )
        tailplane.polygon((side * 0.08, 0.6), (side * 0.4, 0.76), (side * 0.4, 0.88), (side * 0.08, 0.84))
    _flying(pen)
    engines = pen.part("engines", "dark", distinguishing=True)
    for side in (-1, 1):
        engines.ellipse(side * 0.48, sweep * 0.5 - 0.14, 0.07, 0.15)


def rocket(pen: Pen) -> None:
    """Fins at the foot and a flame under them."""
    length = pen.chance.uniform(0.9, 1.0)
    flame = pen.part("flame", "light", distinguishing=True)
    flame.polygon(
        (-0.17, 0.72), (-0.2, 0.84), (-0.08, 0.82), (0.0, length), (0.08, 0.82), (0.2, 0.84), (0.17, 0.72)
    )
    fins = pen.part("fins", "second", distinguishing=True)
    for side in (-1, 1):
        fins.polygon((side * 0.14, 0.28), (side * 0.5, 0.62), (side * 0.5, 0.88), (side * 0.14, 0.7))
    _flying(pen)
    nose = pen.part("nose cone", "second", distinguishing=True)
    nose.polygon((-0.19, -0.6), (0, -0.98), (0.19, -0.6))


def _flying(pen: Pen) -> None:
    """A long fuselage with windows."""
    pen.part("fuselage").ellipse(0, 0, pen.chance.vary(0.21, 0.1), 0.92)
    windows = pen.part("windows", "light")
    for y in (-0.48, -0.18, 0.12):
        windows.disc(0, y, 0.085)
