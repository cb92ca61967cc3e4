"""Share of the highest pixels that lie on the object."""

from __future__ import annotations

import math
from typing import ClassVar, Literal

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from seewhy.evaluation.metric import Batch, Measured
from seewhy.evaluation.ranking import AT_RANDOM, constant, ranks
from seewhy.evaluation.regions import RegionMetric, located


class BboxShare(RegionMetric):
    """Share of the k highest pixels inside, k the number of pixels inside: "relevance rank accuracy".

    Arras et al., CLEVR-XAI, Information Fusion 2022. A random map scores the object's share of the area in expectation.
    """

    title: ClassVar[str] = "Bounding box share"
    paper: ClassVar[str] = "Arras et al., Information Fusion 2022"

    name: Literal["bbox-share"] = "bbox-share"

    def measure(self, batch: Batch) -> Measured:
        labels = batch.explanation.labels
        data = batch.pixels.new_full((len(labels), len(labels[0]), 1), math.nan, dtype=torch.float32)
        remarks: dict[tuple[int, int], str] = {}
        for part in located(batch, self.match, self.region):
            order = ranks(part.maps, [batch.keys[row] for row in part.rows], self.seed)
            data[part.rows] = share(order, part.inside)[..., None].to(data)
            for place, column in constant(part.maps):
                remarks[part.rows[place], column] = AT_RANDOM
            remarks |= part.missing
        return Measured(data, remarks)


def share(order: Int[Tensor, "n T H W"], inside: Bool[Tensor, "n T H W"]) -> Float[Tensor, "n T"]:
    """Share of the highest-ranked pixels inside, as many as are inside; NaN where nothing is."""
    count = inside.sum((-2, -1))
    return ((order < count[..., None, None]) & inside).sum((-2, -1)) / count
