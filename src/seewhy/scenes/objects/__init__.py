"""Everything a scene can show: twelve pairs of classes that share all parts but the distinguishing ones."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from seewhy.scenes.canvas import Pen
from seewhy.scenes.objects import animals, buildings, plants, tools, vehicles


@dataclass(frozen=True)
class Kind:
    """A class of objects.

    Attributes:
        name: what it is called.
        draw: draws one, differently each time.
        turn: largest angle from upright in degrees.
    """

    name: str
    draw: Callable[[Pen], None]
    turn: float


KINDS = {
    kind.name: kind
    for kind in (
        Kind("cat", animals.cat, 20),
        Kind("rabbit", animals.rabbit, 20),
        Kind("deer", animals.deer, 15),
        Kind("elephant", animals.elephant, 15),
        Kind("fish", animals.fish, 40),
        Kind("whale", animals.whale, 25),
        Kind("car", vehicles.car, 15),
        Kind("truck", vehicles.truck, 15),
        Kind("sailing boat", vehicles.sailing_boat, 15),
        Kind("steamer", vehicles.steamer, 15),
        Kind("aeroplane", vehicles.aeroplane, 180),
        Kind("rocket", vehicles.rocket, 180),
        Kind("house", buildings.house, 10),
        Kind("castle", buildings.castle, 10),
        Kind("windmill", buildings.windmill, 10),
        Kind("lighthouse", buildings.lighthouse, 10),
        Kind("tree", plants.tree, 15),
        Kind("palm", plants.palm, 20),
        Kind("daisy", plants.daisy, 30),
        Kind("tulip", plants.tulip, 30),
        Kind("hammer", tools.hammer, 180),
        Kind("axe", tools.axe, 180),
        Kind("umbrella", tools.umbrella, 60),
        Kind("broom", tools.broom, 60),
    )
}
