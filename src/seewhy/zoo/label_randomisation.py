"""Do maps depend on what there was to learn? The same network, trained on labels dealt at random, is explained too."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor

from seewhy.errors import InputError, SeewhyError
from seewhy.evaluation.likeness import (
    MEASURES,
    Estimate,
    Reading,
    likeness,
    looked_up,
    mean,
    noise_floor,
)
from seewhy.evaluation.randomisation import DIES
from seewhy.explainers.base import Explainer, explain_all
from seewhy.network.load import load
from seewhy.network.network import Network
from seewhy.render.markdown import markdown_table
from seewhy.scenes import CLASSES, Scenes
from seewhy.zoo.demo import TRAINING_SEED
from seewhy.zoo.train import Recipe, block, fit, predicted

MEMORISED = Recipe(scenes=128, epochs=50, batch=16, mirror=False)
"""How the network on permuted labels is trained: few scenes, seen often, until it knows them by heart."""


@dataclass(frozen=True, eq=False)
class LabelRandomisation:
    """How alike a network's maps are to those of one that was trained on permuted labels.

    Attributes:
        network: the network trained on true labels.
        recipe: how the other one was trained.
        accuracy: share of its training scenes for which the other one gives the label it was trained on.
        kept: share of the scenes whose label the permutation left as it was.
        labels: per picture what was explained, of both networks.
        similarities: per method and measure (1, B, T); NaN where undefined.
        floors: per method and measure (P, B, T): maps of different pictures, by the network on true labels.
    """

    network: str
    recipe: Recipe
    accuracy: float
    kept: float
    labels: tuple[tuple[str, ...], ...]
    similarities: Mapping[str, Mapping[str, Float[Tensor, "1 B T"]]]
    floors: Mapping[str, Mapping[str, Float[Tensor, "P B T"]]]

    @property
    def methods(self) -> tuple[str, ...]:
        """Their names, in the order asked for."""
        return tuple(self.similarities)

    def estimate(self, method: str, measure: str = "spearman") -> Estimate:
        """The mean over pictures."""
        return Estimate.of(looked_up(self.similarities, method, measure))

    def floor(self, method: str, measure: str = "spearman") -> Estimate:
        """The mean over pairs of different pictures of the network on true labels."""
        return Estimate.of(looked_up(self.floors, method, measure))

    def dies(self, method: str) -> bool | None:
        """Whether the mean rank correlation is at most 0.2, in magnitude; None where no map has a value."""
        value = mean(looked_up(self.similarities, method, "spearman"))
        return None if math.isnan(value) else abs(value) <= DIES

    def to_json(self) -> dict[str, Any]:
        """As JSON values; null where undefined."""
        return {
            "network": self.network,
            "recipe": asdict(self.recipe),
            "accuracy": self.accuracy,
            "kept": self.kept,
            "pictures": len(self.labels),
            "rule": {"dies": DIES},
            "methods": {
                method: {
                    **{name: self.estimate(method, name).to_json() for name in MEASURES},
                    "floor": {name: self.floor(method, name).to_json() for name in MEASURES},
                    "dies": self.dies(method),
                }
                for method in self.methods
            },
        }

    def __str__(self) -> str:
        """Markdown: the training, then a table of means."""
        answers = {True: "yes", False: "no", None: "undefined"}
        rows = []
        for method in self.methods:
            cells = [f"{mean(self.similarities[method][name]):.2f}" for name in MEASURES]
            rows.append([method, *cells, answers[self.dies(method)]])
            floors = [f"{mean(self.floors[method][name]):.2f}" for name in MEASURES]
            rows.append([f"{method}, *different pictures*", *floors, ""])
        said = (
            f"{self.network} beside the same network trained on {self.recipe.scenes} scenes with permuted labels "
            f"({self.accuracy:.1%} right on them):"
        )
        return f"{said}\n\n{markdown_table(['method', *MEASURES, 'map dies'], rows)}"

    def __repr__(self) -> str:
        return f"LabelRandomisation({self.network}: {', '.join(self.methods)})"


def label_randomisation(
    explainers: Sequence[str | Explainer],
    *,
    pictures: int = 40,
    recipe: Recipe = MEMORISED,
    least: float = 0.9,
    seed: int = 0,
    batch: int = 32,
    say: Callable[[str], None] | None = None,
) -> LabelRandomisation:
    """Compare maps of the bundled network `demo` to those of its like, trained on permuted labels.

    The check of Adebayo et al. (NeurIPS 2018): what the second network knows of its pictures it knows by heart, so a
    map that is the same for both does not show how labels go with pictures. It needs a training: two or three minutes.

    Args:
        explainers: registry names or explainers; they share their passes.
        pictures: how many of the second network's training scenes are explained, for the class that `demo` predicts.
        recipe: of the training; its scenes are drawn from the seed that `demo` was trained with.
        least: the share of right answers on its own training scenes that the second network must reach.
        seed: of the permutation.
        batch: pictures per pass.
        say: what is told of the training, line by line; nothing by default.

    Returns:
        Four measures per method and picture, with the noise floor and the accuracy reached.

    Raises:
        InputError: settings that mean nothing.
        SeewhyError: the second network did not learn its labels, so that its maps would say nothing.
    """
    if isinstance(explainers, str) or batch < 1 or not 1 <= pictures <= recipe.scenes:
        raise InputError(
            f"explainers is a list of methods, batch at least 1, and pictures from 1 to the recipe's {recipe.scenes} "
            "scenes"
        )
    if recipe.scenes < recipe.batch or recipe.epochs < 1:
        raise InputError(f"a recipe needs at least one epoch, and {recipe.batch} scenes for a step")
    drawn, found = block(Scenes(recipe.scenes, TRAINING_SEED), slice(0, recipe.scenes))
    pixels, labels = torch.from_numpy(drawn), torch.tensor(found)
    order = torch.randperm(len(labels), generator=torch.Generator().manual_seed(seed))
    permuted = labels[order]
    with torch.random.fork_rng(devices=[]):
        module = fit(pixels, permuted, recipe, say or _silent)
        demo = load("demo", offline=True)
    accuracy = float((predicted(module, pixels) == permuted).float().mean())
    if accuracy < least:
        raise SeewhyError(
            f"the network on permuted labels is right on {accuracy:.1%} of its {recipe.scenes} training scenes, and "
            f"{least:.0%} are wanted; train for more than {recipe.epochs} epochs, or on fewer scenes"
        )
    other = Network(
        module, preprocess=demo.preprocess, classes=CLASSES, name="permuted labels", head="softmax"
    )
    scenes = Scenes(pictures, TRAINING_SEED)
    readings: list[tuple[dict[str, Reading], dict[str, Reading]]] = []
    names: list[tuple[str, ...]] = []
    for start in range(0, pictures, batch):
        images = demo.read([scene.image for scene in scenes[start : start + batch]])
        target = demo(images).argmax(1)
        first, second = (explain_all(each, images, explainers, target=target) for each in (demo, other))
        readings.append((Reading.all_of(first), Reading.all_of(second)))
        names += next(iter(first.values())).labels
    methods = readings[0][0].keys()
    if methods != readings[0][1].keys():
        raise InputError("methods draw their maps elsewhere in the second network; give them layers by name")
    pairs = {
        method: [Reading.joined([pair[side][method] for pair in readings]) for side in (0, 1)]
        for method in methods
    }
    return LabelRandomisation(
        network=demo.name,
        recipe=recipe,
        accuracy=accuracy,
        kept=float((permuted == labels).float().mean()),
        labels=tuple(names),
        similarities={
            method: {name: values[None] for name, values in likeness(*pair).items()}
            for method, pair in pairs.items()
        },
        floors={method: noise_floor(pair[0]) for method, pair in pairs.items()},
    )


def _silent(line: str) -> None:
    """Nobody listens."""
