"""Energy-based pointing game: how much of the evidence lies on the object."""

from __future__ import annotations

import math
from typing import ClassVar, Literal

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from seewhy.evaluation.metric import Batch, Measured
from seewhy.evaluation.regions import RegionMetric, located
from seewhy.evaluation.table import Table, weighted_mean
from seewhy.network.precision import exact_type


class EnergyMetric(RegionMetric):
    """Base of the metrics that ask how much of the evidence lies in a region: rows of that share and its area's."""

    def measure(self, batch: Batch) -> Measured:
        labels = batch.explanation.labels
        data = batch.pixels.new_full((len(labels), len(labels[0]), 2), math.nan, dtype=torch.float32)
        remarks: dict[tuple[int, int], str] = {}
        for part in located(batch, self.match, self.region):
            area = part.inside.to(data).mean((-2, -1))
            found = torch.stack([energy(part.maps, part.inside).to(data), area], dim=2)
            found[torch.isnan(found[..., 0])] = math.nan
            data[part.rows] = found
            for place, column in torch.isnan(found[..., 0]).nonzero().tolist():
                remarks[part.rows[place], column] = "the map has no positive evidence"
            for row, column in part.missing:
                data[row, column] = math.nan
            remarks |= part.missing
        return Measured(data, remarks)

    def details(self, table: Table) -> dict[str, Tensor]:
        """Means of `area` and `gain`, and `gains` of each row."""
        share, area = table.exact.unbind(1)
        gains = (share - area) / torch.where(area < 1, 1 - area, math.nan)
        once = torch.ones_like(table.exact[:, :1]).T
        return {"area": weighted_mean(area, once)[0], "gain": weighted_mean(gains, once)[0], "gains": gains}


class EnergyPointingGame(EnergyMetric):
    """Energy-based pointing game (Wang et al., Score-CAM, CVPR workshop 2020): sum of E inside over sum of E.

    A constant map scores the object's share of the area, which is why the details hold that `area`, and the `gain`
    over it: (energy - area) / (1 - area).
    """

    title: ClassVar[str] = "Energy-based pointing game"
    paper: ClassVar[str] = "Wang et al., CVPR workshop 2020"

    name: Literal["energy-pointing-game"] = "energy-pointing-game"


class GridPointing(EnergyMetric):
    """Grid pointing (Boehle et al., CVPR 2021): share of a class's evidence in its own quarter of a mosaic of four.

    Chance is 0.25, which a map that ignores the class scores exactly, on average over the four. It takes no boxes, but
    pictures that are mosaics: `evaluation.subjects.draw_mosaics` makes them.
    """

    title: ClassVar[str] = "Grid pointing"
    paper: ClassVar[str] = "Boehle et al., CVPR 2021"

    name: Literal["grid-pointing"] = "grid-pointing"


def energy(maps: Float[Tensor, "n T H W"], inside: Bool[Tensor, "n T H W"]) -> Float[Tensor, "n T"]:
    """Share of the evidence inside; NaN where there is none at all."""
    exact = maps.to(exact_type(maps.device))
    return (exact * inside).sum((-2, -1)) / exact.sum((-2, -1))
