"""Whether maps of a price are right: sign and place, on houses whose price is known part by part."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from jaxtyping import Float

from seewhy.embedding.embedding_grad_cam import EmbeddingGradCAM
from seewhy.explainers.base import explain_all
from seewhy.network.network import Network
from seewhy.scenes.houses import WORTH, part_mask
from seewhy.scenes.scene import Scene
from seewhy.targets import Regression
from seewhy.truth import Mask

SLACK = 4  # pixels that the top of a map may lie beside a part
MAPS: Mapping[str, EmbeddingGradCAM] = {
    "for": EmbeddingGradCAM(),
    "against": EmbeddingGradCAM(sign=-1),
    "signed": EmbeddingGradCAM(top_k=None, select="signed"),
}
_BATCH = 50


@dataclass(frozen=True)
class Appraised:
    """What the maps of one house's price say.

    Attributes:
        number: of the scene.
        said: the price that the network sees.
        price: the true one.
        signs: of each part that can be seen, whether the mean of the signed map over its pixels has the sign of what it
            is worth.
        places: whether the top of the map `for` lies within `SLACK` pixels of a part that raises the price, and that of
            the map `against` of one that lowers it; each where there is such a part.
    """

    number: int
    said: float
    price: float
    signs: Mapping[str, bool]
    places: Mapping[str, bool]

    @property
    def right(self) -> bool:
        """Whether all signs and places are."""
        return not self.faults

    @property
    def faults(self) -> tuple[str, ...]:
        """What is wrong, in words."""
        signs = [f"sign of the {name}" for name, right in self.signs.items() if not right]
        return (*signs, *(f"top of the map {name}" for name, right in self.places.items() if not right))


def appraised(network: Network, scenes: Sequence[Scene]) -> Iterator[Appraised]:
    """Explain the price of each house of which a part can be seen, and compare the maps with the truth.

    Args:
        network: gives a dict with a "price" (B, 1), in thousands.
        scenes: `Houses`, or some of them.

    Yields:
        One for each such house, in order, by number; plain houses have nothing to be right about.
    """
    for start in range(0, len(scenes), _BATCH):
        batch = scenes[start : start + _BATCH]
        images = network.read([scene.image for scene in batch])
        found = explain_all(network, images, list(MAPS.values()), target=Regression(output="price"))
        explanations = dict(zip(MAPS, found.values(), strict=True))
        said = explanations["signed"].scores[:, 0].tolist()
        for row, scene in enumerate(batch):
            maps = {
                name: each.original(row, signed=name == "signed")[0][0].cpu().numpy()
                for name, each in explanations.items()
            }
            house = scene.truth.objects[0]
            masks = {name: part_mask(house, name, scene.pixels.shape[:2]) for name in WORTH}
            masks = {name: mask for name, mask in masks.items() if mask.any()}
            if masks:
                price = float(house.attributes["price"])
                yield Appraised(
                    start + row, said[row], price, _signs(maps["signed"], masks), _places(maps, masks)
                )


def _signs(signed: Float[np.ndarray, "H W"], masks: Mapping[str, Mask]) -> dict[str, bool]:
    return {name: bool(np.sign(signed[mask].mean()) == np.sign(WORTH[name])) for name, mask in masks.items()}


def _places(maps: Mapping[str, Float[np.ndarray, "H W"]], masks: Mapping[str, Mask]) -> dict[str, bool]:
    found = {}
    for name, sign in (("for", 1), ("against", -1)):
        own = [mask for part, mask in masks.items() if sign * WORTH[part] > 0]
        if own:
            found[name] = _near(maps[name], np.logical_or.reduce(own))
    return found


def _near(heatmap: Float[np.ndarray, "H W"], mask: Mask) -> bool:
    """Whether the highest pixel is in the mask or not farther than `SLACK` from it; not where nothing is positive."""
    top = np.unravel_index(heatmap.argmax(), heatmap.shape)
    distance = np.linalg.norm(np.argwhere(mask) - np.array(top), axis=1).min()
    return bool(heatmap[top] > 0 and distance <= SLACK)
