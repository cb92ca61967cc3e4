"""PxAP: pixels of all pictures in one precision-recall curve."""

from __future__ import annotations

import math
from typing import ClassVar, Literal

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from seewhy.evaluation.metric import Batch, Measured
from seewhy.evaluation.regions import RegionMetric, ignored, located, union
from seewhy.evaluation.table import Table

BINS = 1001  # a thousandth each, and one for the highest value


class PxAP(RegionMetric):
    """Pixel average precision (Choe et al., CVPR 2020): sum over falling thresholds of precision times gain in recall.

    Maps are stretched to [0, 1] each, then the pixels of all pictures are pooled, in bins of a thousandth. Regions of
    objects with `attributes["ignore"]` count on neither side, unless the object lies there.
    """

    title: ClassVar[str] = "PxAP"
    paper: ClassVar[str] = "Choe et al., CVPR 2020"

    name: Literal["px-ap"] = "px-ap"

    def measure(self, batch: Batch) -> Measured:
        labels = batch.explanation.labels
        data = batch.pixels.new_full((len(labels), len(labels[0]), 2 * BINS), math.nan, dtype=torch.float32)
        remarks: dict[tuple[int, int], str] = {}
        for part in located(batch, self.match, self.region):
            left_out = torch.zeros_like(part.inside)
            for place, truth in enumerate(part.truths):
                regions = [each for each in truth.objects if ignored(each)]
                if regions:
                    left_out[place] = torch.from_numpy(union(regions, truth.size, self.region)).to(left_out)
            data[part.rows] = histograms(part.maps, part.inside, left_out & ~part.inside).to(data)
            flat = part.maps.amax((-2, -1)) == part.maps.amin((-2, -1))
            for place, column in flat.nonzero().tolist():
                remarks[part.rows[place], column] = "the map is constant: all its pixels count as lowest"
            for row, column in part.missing:
                data[row, column] = math.nan
            remarks |= part.missing
        return Measured(data, remarks)

    def per_row(self, data: Float[Tensor, "N V"]) -> Float[Tensor, " N"]:
        """The average precision of each picture alone."""
        return average_precision(data)

    def aggregate(self, table: Table, weights: Float[Tensor, "R N"]) -> Float[Tensor, " R"]:
        return average_precision(weights @ torch.nan_to_num(table.exact, 0))

    def details(self, table: Table) -> dict[str, Tensor]:
        """`precision` and `recall` at falling thresholds, the highest first."""
        pooled = torch.nan_to_num(table.exact, 0).sum(0, keepdim=True)
        precision, recall = _curve(pooled)
        return {"precision": precision[0], "recall": recall[0]}


def histograms(
    maps: Float[Tensor, "n T H W"], inside: Bool[Tensor, "n T H W"], left_out: Bool[Tensor, "n T H W"]
) -> Float[Tensor, "n T V"]:
    """Pixels inside by bin, then those outside, each from the lowest bin up."""
    exact = maps.double() if maps.device.type != "mps" else maps
    low, high = exact.amin((-2, -1), keepdim=True), exact.amax((-2, -1), keepdim=True)
    stretched = (exact - low) / torch.where(high > low, high - low, 1)
    place = (stretched * (BINS - 1)).long() + torch.where(inside, 0, BINS)
    counts = torch.zeros((*maps.shape[:2], 2 * BINS), device=maps.device)
    return counts.scatter_add_(2, place.flatten(2), (~left_out).flatten(2).to(counts))


def average_precision(counts: Float[Tensor, "N V"]) -> Float[Tensor, " N"]:
    """Area under each precision-recall curve; NaN without a pixel inside."""
    precision, recall = _curve(counts)
    gained = torch.diff(recall, dim=1, prepend=torch.zeros_like(recall[:, :1]))
    return (precision * gained).sum(1)


def _curve(counts: Float[Tensor, "N V"]) -> tuple[Float[Tensor, "N L"], Float[Tensor, "N L"]]:
    right, wrong = (each.flip(1).cumsum(1) for each in (counts[:, :BINS], counts[:, BINS:]))
    return right / (right + wrong).clamp_min(1), right / right[:, -1:]
