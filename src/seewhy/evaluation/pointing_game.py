"""Pointing game: does the map's highest pixel lie on the object?"""

from __future__ import annotations

import math
from typing import ClassVar, Literal

import torch
from jaxtyping import Bool, Float, Int
from pydantic import Field
from torch import Tensor

from seewhy.evaluation.metric import Batch, Measured
from seewhy.evaluation.regions import RegionMetric, flagged, located, objects, same_class, union
from seewhy.evaluation.table import Table
from seewhy.network.network import Network
from seewhy.truth import Truth

_SMALL = 0.25  # of the picture's area: below it an object is small enough for the difficult subset


class PointingGame(RegionMetric):
    """Pointing game (Zhang et al., IJCV 2018): hits over hits and misses, per class, then the mean over classes.

    A hit is a highest pixel less than `tolerance` pixels from a pixel of the object, in the picture's own pixels;
    exactly `tolerance` away is a miss. Presets `voc07` and `coco14` follow the public TorchRay benchmark: filled boxes
    or segments, and no pictures of a class whose objects are all flagged `difficult`.
    """

    title: ClassVar[str] = "Pointing game"
    paper: ClassVar[str] = "Zhang et al., IJCV 2018"
    presets: ClassVar = {
        "voc07": {"region": "box", "skip_difficult": True},
        "coco14": {"region": "mask"},
        "voc07-difficult": {"region": "box", "skip_difficult": True, "subset": "difficult"},
        "coco14-difficult": {"region": "mask", "subset": "difficult"},
    }

    name: Literal["pointing-game"] = "pointing-game"
    tolerance: float = Field(
        default=15.0, ge=0, description="Pixels; a hit is strictly nearer. 0: on the object."
    )
    strict: bool = Field(default=True, description="A constant map is a miss; otherwise it is undefined.")
    average: Literal["class", "picture"] = Field(
        default="class", description="Mean of the classes' accuracies, or of all hits and misses."
    )
    skip_difficult: bool = Field(
        default=False,
        description='Leave out a class all of whose objects are `attributes["difficult"]`, as VOC does.',
    )
    subset: Literal["all", "difficult"] = Field(
        default="all",
        description="`difficult`: only small objects beside another class, by the rule or by "
        '`attributes["difficult-subset"]`.',
    )

    def measure(self, batch: Batch) -> Measured:
        labels = batch.explanation.labels
        data = batch.pixels.new_full((len(labels), len(labels[0]), 1), math.nan)
        remarks: dict[tuple[int, int], str] = {}
        for part in located(batch, self.match, self.region):
            found = hits(part.maps, part.inside, self.tolerance).float()
            flat = part.maps.amax((-2, -1)) == part.maps.amin((-2, -1))
            found = torch.where(flat, 0.0 if self.strict else math.nan, found)
            data[part.rows] = found[..., None].to(data)
            for place, column in flat.nonzero().tolist():
                remarks[part.rows[place], column] = "the map is constant: it points nowhere"
            remarks |= part.missing
            for row in part.rows:
                for column, label in enumerate(labels[row]):
                    skipped = self._skipped(batch.truths[row], label, batch.network)
                    if skipped and (row, column) not in part.missing:
                        remarks[row, column] = skipped
                        data[row, column] = math.nan
            for row, column in part.missing:
                data[row, column] = math.nan
        return Measured(data, remarks)

    def aggregate(self, table: Table, weights: Float[Tensor, "R N"]) -> Float[Tensor, " R"]:
        if self.average == "picture":
            return super().aggregate(table, weights)
        accuracy = self._accuracies(table, weights)
        known = torch.isfinite(accuracy)
        return torch.where(known, accuracy, 0).sum(1) / known.sum(1)

    def details(self, table: Table) -> dict[str, Tensor]:
        """`classes`: each class's accuracy, in the sorted order of their names."""
        return {"classes": self._accuracies(table, torch.ones_like(table.exact[:, :1]).T)[0]}

    def _accuracies(self, table: Table, weights: Float[Tensor, "R N"]) -> Float[Tensor, "R K"]:
        """Hits over hits and misses of each class; NaN where a resample has none of it."""
        found = self.per_row(table.exact)
        names = sorted({label for _, label in table.keys})
        place = torch.tensor([names.index(label) for _, label in table.keys], device=found.device)
        belongs = torch.nn.functional.one_hot(place, len(names)).to(found)
        defined = torch.isfinite(found)
        hit = weights @ (belongs * torch.where(defined, found, 0)[:, None])
        return hit / (weights @ (belongs * defined[:, None]))

    def _skipped(self, truth: Truth, label: str, network: Network) -> str | None:
        """Why a picture of a class is left out, if it is."""
        found = objects(truth, label, network, self.match)
        if self.skip_difficult and found and all(flagged(each, "difficult") for each in found):
            return f"every {label!r} in it is flagged difficult"
        if self.subset == "difficult":
            known = [each for each in found if "difficult-subset" in each.attributes]
            chosen = (
                any(flagged(each, "difficult-subset") for each in known)
                if known
                else _difficult(truth, label, network, self.match == "main")
            )
            return None if chosen else "not in the difficult subset"
        return None


def _difficult(truth: Truth, label: str, network: Network, main: bool) -> bool:
    """Whether the objects' boxes cover less than a quarter of the picture, and another class is in it."""
    own = objects(truth, label, network, "main" if main else "explained")
    covered = union(own, truth.size, "box").mean()
    mine = {each.label for each in own}
    return bool(covered < _SMALL) and any(
        each.label not in mine and not same_class(each.label, label, network) for each in truth.objects
    )


def hits(
    maps: Float[Tensor, "n T H W"], inside: Bool[Tensor, "n T H W"], tolerance: float = 15.0
) -> Bool[Tensor, "n T"]:
    """Whether some pixel inside is the highest one, or less than `tolerance` pixels from it."""
    point = highest(maps)
    y = torch.arange(maps.shape[-2], device=maps.device)[:, None]
    x = torch.arange(maps.shape[-1], device=maps.device)
    away = (y - point[..., :1, None]) ** 2 + (x - point[..., 1:, None]) ** 2
    return (inside & ((away < tolerance**2) | (away == 0))).flatten(2).any(2)


def highest(maps: Float[Tensor, "n T H W"]) -> Int[Tensor, "n T 2"]:
    """Row and column of the maximum; of several the one nearest to their mean, the first of equally near ones."""
    height, width = maps.shape[-2:]
    tied = maps == maps.amax((-2, -1), keepdim=True)
    y = torch.arange(height, device=maps.device)[:, None]
    x = torch.arange(width, device=maps.device)
    count = tied.sum((-2, -1), keepdim=True)
    # Whole numbers, times the count: no rounding decides between equally near pixels.
    away = (count * y - (tied * y).sum((-2, -1), keepdim=True)).double() ** 2
    away = away + (count * x - (tied * x).sum((-2, -1), keepdim=True)).double() ** 2
    away = torch.where(tied, away, math.inf).flatten(2)
    places = torch.arange(height * width, device=maps.device)
    first = torch.where(away == away.amin(2, keepdim=True), places, height * width).amin(2)
    return torch.stack([first // width, first % width], dim=2)
