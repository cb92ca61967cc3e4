"""Average drop: how much of its probability a class loses when only what the map shows is left."""

from __future__ import annotations

import math
from typing import ClassVar, Literal

import torch
from jaxtyping import Float
from pydantic import Field
from torch import Tensor

from seewhy.evaluation.metric import Batch, Better, Measured, Metric
from seewhy.evaluation.perturbed import PRECISION, scores, untouched
from seewhy.evaluation.ranking import AT_RANDOM, constant, ranks
from seewhy.evaluation.table import Table, weighted_mean
from seewhy.explanation import Cost
from seewhy.network.precision import Precision

_LEAST = 1e-6  # probability that can be said to drop
_TOP = 0.15  # of the pixels


class ShownMetric(Metric):
    """Base of the metrics that ask for a picture seen through its map: rows of p, p seen through it, and its mean."""

    needs_truth: ClassVar[bool] = False
    presets: ClassVar = {"plain": {}, "top-15": {"mask": "top-15"}}

    mask: Literal["plain", "top-15"] = Field(
        default="plain",
        description="The picture times the map stretched to [0, 1], or only the 15 % of the pixels that rank highest.",
    )
    baseline: Literal["zero", "blur"] = Field(
        default="zero", description="What stands where the map is 0: zero in the network's input, or a blur."
    )
    precision: Precision = Field(default="float32", description=PRECISION)

    def measure(self, batch: Batch) -> Measured:
        maps = batch.evidence
        flat = constant(maps)
        if self.mask == "top-15":
            most = round(_TOP * maps.shape[-2] * maps.shape[-1])
            shown = (ranks(maps, batch.keys, self.seed) < most).float()
            remarks = dict.fromkeys(flat, AT_RANDOM)
        else:
            shown = stretched(maps)
            remarks = dict.fromkeys(flat, "the map is constant: the whole picture is covered")

        def keep(rows: Tensor, columns: Tensor, steps: Tensor) -> Tensor:
            return shown[rows, columns]

        key = ("shown", self.mask, self.baseline, self.precision, self.seed)
        found = batch.once(key, lambda: scores(batch, 1, keep, self.baseline, "probability", self.precision))
        clean = untouched(batch, "probability", self.precision)[..., None]
        data = torch.cat([clean, found, shown.mean((-2, -1))[..., None].to(found)], dim=2)
        for row, column in (clean[..., 0] < _LEAST).nonzero().tolist():
            remarks[row, column] = f"the class's probability is below {_LEAST} before anything is covered"
        return Measured(torch.where(clean < _LEAST, math.nan, data), remarks)

    def plan(self, size: tuple[int, int], explaining: Cost) -> Cost:
        return Cost(forwards=2)

    def details(self, table: Table) -> dict[str, Tensor]:
        """`area`: how much of a picture is shown on average; a map of ones drops nothing."""
        once = torch.ones_like(table.exact[:, :1]).T
        return {"area": weighted_mean(table.exact[:, 2], once)[0]}


class AverageDrop(ShownMetric):
    """Average drop, in per cent (Chattopadhyay et al., Grad-CAM++, WACV 2018): 100 mean max(0, p - O) / p.

    p is the class's probability, O the same for the picture times the map. It favours large maps: mind `area`.
    """

    title: ClassVar[str] = "Average drop"
    paper: ClassVar[str] = "Chattopadhyay et al., WACV 2018"
    better: ClassVar[Better] = "lower"

    name: Literal["average-drop"] = "average-drop"

    def per_row(self, data: Float[Tensor, "N V"]) -> Float[Tensor, " N"]:
        clean, shown = data[:, 0], data[:, 1]
        return 100 * (clean - shown).clamp_min(0) / clean


def stretched(maps: Float[Tensor, "B T H W"]) -> Float[Tensor, "B T H W"]:
    """Each map in [0, 1]; a constant one becomes 0."""
    low, high = maps.amin((-2, -1), keepdim=True), maps.amax((-2, -1), keepdim=True)
    return (maps - low) / torch.where(high > low, high - low, 1)
