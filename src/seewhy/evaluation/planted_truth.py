"""Do maps lie where the evidence is known to be? Measured on pictures with masks of objects, parts and shortcuts."""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import islice
from typing import Any, Protocol, runtime_checkable

import numpy as np
import torch
from jaxtyping import Float
from PIL import Image
from torch import Tensor, nn

from seewhy.errors import InputError
from seewhy.evaluation.controls import ConstantMap, controls
from seewhy.evaluation.result import finite_or_none
from seewhy.explainers.base import Explainer, explain_all
from seewhy.network.network import Network
from seewhy.render.markdown import markdown_table
from seewhy.truth import Mask, Truth

MEASURES = {
    "pointing": "the map's highest pixel lies on the object",
    "object": "share of positive evidence on the object",
    "parts": "share of positive evidence on the class's distinguishing parts",
    "shortcut": "share of positive evidence on the shortcut's mark",
}
_BATCH = 32


@runtime_checkable  # whoever checks types while running needs it
class Known(Protocol):
    """A picture with its truth, such as a `seewhy.scenes.Scene`."""

    @property
    def image(self) -> Image.Image: ...
    @property
    def truth(self) -> Truth: ...


@dataclass(frozen=True, eq=False)
class Scores:
    """One method's, or one control's, measures.

    Attributes:
        name: of the method or control.
        control: whether it is a map that knows nothing of the network.
        values: per measure one number per picture (N,); NaN where the picture has no such mask or the map no
            positive evidence (a miss, for pointing).
    """

    name: str
    control: bool
    values: Mapping[str, Float[np.ndarray, " N"]]

    def mean(self, measure: str) -> float:
        """Mean over the pictures where the measure is defined; NaN where it never is."""
        values = self._defined(measure)
        return float(values.mean()) if len(values) else math.nan

    def median(self, measure: str) -> float:
        """Median over the pictures where the measure is defined; NaN where it never is."""
        values = self._defined(measure)
        return float(np.median(values)) if len(values) else math.nan

    def error(self, measure: str) -> float:
        """Standard error of the mean; NaN below two pictures."""
        values = self._defined(measure)
        return float(values.std(ddof=1) / math.sqrt(len(values))) if len(values) > 1 else math.nan

    def _defined(self, measure: str) -> Float[np.ndarray, " M"]:
        if measure not in self.values:
            raise InputError(f"no measure {measure!r}; there are {', '.join(MEASURES)}")
        values = self.values[measure]
        defined: Float[np.ndarray, " M"] = values[~np.isnan(values)]
        return defined


@dataclass(frozen=True, eq=False)
class PlantedTruth(Mapping[str, Scores]):
    """Scores by name: the methods in the order asked for, then the controls.

    Attributes:
        network: its name.
        pictures: how many.
        accuracy: share of them whose main object the network names.
    """

    network: str
    pictures: int
    accuracy: float
    scores: Mapping[str, Scores]

    def __getitem__(self, name: str) -> Scores:
        return self.scores[name]

    def __iter__(self) -> Iterator[str]:
        return iter(self.scores)

    def __len__(self) -> int:
        return len(self.scores)

    def advantage(self, method: str, other: str, measure: str) -> tuple[float, float]:
        """Mean difference of two methods on the same pictures, and its standard error.

        Only pictures where both are defined are compared.

        Raises:
            InputError: no such method, control or measure.
        """
        for name in (method, other):
            if name not in self.scores:
                raise InputError(f"nothing called {name!r} was measured; there are {', '.join(self.scores)}")
            self[name].mean(measure)  # refuses an unknown measure
        difference = self[method].values[measure] - self[other].values[measure]
        paired = Scores(f"{method} - {other}", False, {measure: difference})
        return paired.mean(measure), paired.error(measure)

    def to_json(self) -> dict[str, Any]:
        """Means, standard errors and counts, as JSON values; null where undefined."""
        return {
            "network": self.network,
            "pictures": self.pictures,
            "accuracy": self.accuracy,
            "scores": {
                name: {
                    "control": scores.control,
                    **{
                        measure: {
                            "mean": finite_or_none(scores.mean(measure), 6),
                            "median": finite_or_none(scores.median(measure), 6),
                            "error": finite_or_none(scores.error(measure), 6),
                            "defined": int(np.isfinite(scores.values[measure]).sum()),
                        }
                        for measure in MEASURES
                    },
                }
                for name, scores in self.items()
            },
        }

    def __str__(self) -> str:
        """A Markdown table: mean ± standard error per measure."""
        shown = [each for each in MEASURES if any(not math.isnan(s.mean(each)) for s in self.values())]
        rows = [
            [
                f"*{name}*" if scores.control else name,
                *(f"{scores.mean(each):.3f} ± {scores.error(each):.3f}" for each in shown),
            ]
            for name, scores in self.items()
        ]
        return markdown_table(["method", *shown], rows)


def planted_truth(
    explainers: Sequence[str | Explainer],
    network: Network | nn.Module,
    scenes: Iterable[Known],
    *,
    batch: int = _BATCH,
    seed: int = 0,
) -> PlantedTruth:
    """Measure methods against pictures whose truth is known, beside maps that know nothing.

    Each picture is explained for its main object's true class, and its map read in the picture's own pixels as
    `evidence`: rectified, upsampled, not scaled. Pointing follows Zhang et al. (IJCV 2018) with a mask and no
    tolerance, energy Wang et al. (Score-CAM, CVPRW 2020). The controls are those of `evaluation.controls` and a
    constant map, whose energy is the mask's share of area.

    Args:
        explainers: registry names or explainers.
        network: with preprocessing, and class names that include the pictures' labels.
        scenes: pictures with their truth, read once, a batch at a time.
        batch: pictures per pass.
        seed: of the noise.

    Returns:
        Scores per method and control.

    Raises:
        InputError: no pictures, a network without preprocessing, or a main object without mask.
        TargetError: the network has no class of a picture's label.

    Example:
        >>> network = seewhy.load("demo")
        >>> table = planted_truth(["grad-cam"], network, seewhy.Scenes(20, seed=5))
        >>> table["grad-cam"].mean("object") > table["constant"].mean("object")
        True
    """
    if isinstance(explainers, str) or batch < 1:
        raise InputError("explainers is a list of methods, and batch at least 1")
    network = Network.of(network)
    beside = (*controls(seed), ConstantMap())
    found: dict[str, list[list[float]]] = {}
    right = total = 0
    pictures = iter(scenes)
    while group := list(islice(pictures, batch)):
        truths = [scene.truth for scene in group]
        images = network.read([scene.image for scene in group]).to(network.device)
        targets = [network.class_index(truth.label) for truth in truths]
        explanations = explain_all(network, images, [*explainers, *beside], target=targets)
        first = next(iter(explanations.values()))
        right += sum(best[0].index == target for best, target in zip(first.predictions, targets, strict=True))
        total += len(group)
        for row, truth in enumerate(truths):
            for name, each in explanations.items():
                found.setdefault(name, []).append(measured(each.original(row)[0][0].cpu(), truth))
    if not total:
        raise InputError("no pictures to measure on")
    known = {each.name for each in beside}
    scores = {
        name: Scores(name, name in known, dict(zip(MEASURES, np.array(found[name]).T, strict=True)))
        for name in found
    }
    return PlantedTruth(network.name, total, right / total, scores)


def measured(values: Float[Tensor, "H W"], truth: Truth) -> list[float]:
    """The measures of one map, in the order of `MEASURES`.

    Raises:
        InputError: the main object has no mask, or the map is not in the picture's pixels.
    """
    if not bool(torch.isfinite(values).all()):
        raise InputError("a map holds NaN or infinity")
    main = truth.objects[0] if truth.objects else None
    if main is None or main.mask is None:
        raise InputError("planted truth needs a mask of the picture's main object")
    if tuple(values.shape) != tuple(truth.size):
        raise InputError(f"a map of {tuple(values.shape)} for a picture of {tuple(truth.size)}")
    evidence = values.double().numpy().clip(0)
    row, column = highest(evidence)
    return [
        float(evidence.max() > 0 and main.mask[row, column]),
        energy(evidence, main.mask),
        energy(evidence, main.distinguishing()),
        energy(evidence, truth.shortcut),
    ]


def energy(evidence: Float[np.ndarray, "H W"], mask: Mask | None) -> float:
    """Share of the evidence inside a mask; NaN without evidence or mask."""
    total = evidence.sum()
    return float(evidence[mask].sum() / total) if mask is not None and total > 0 else math.nan


def highest(evidence: Float[np.ndarray, "H W"]) -> tuple[int, int]:
    """Row and column of the maximum; of several, the one nearest to their mean."""
    places = np.argwhere(evidence == evidence.max())
    nearest = np.square(places - places.mean(0)).sum(1).argmin()
    row, column = places[nearest].tolist()
    return row, column
