"""Sparseness: how unevenly the evidence is spread."""

from __future__ import annotations

import math
from abc import abstractmethod
from typing import ClassVar, Literal

import torch
from jaxtyping import Float
from pydantic import Field
from torch import Tensor

from seewhy.evaluation.metric import Batch, Better, Measured, Metric
from seewhy.evaluation.ranking import places
from seewhy.network.precision import exact_type

Reads = Literal["evidence", "magnitude"]
READS = "The evidence, whose zeros make it sparser, or the magnitude of the signed values."
NOTHING = "the map is zero"


class SpreadMetric(Metric):
    """Base of the metrics that describe how a map's values are spread; they do not rank, and need no truth."""

    better: ClassVar[Better] = "neither"
    needs_truth: ClassVar[bool] = False

    reads: Reads = Field(default="evidence", description=READS)

    @abstractmethod
    def spread(self, maps: Float[Tensor, "B T H W"]) -> Float[Tensor, "B T"]:
        """One number per map; NaN for a map of zeros."""

    def measure(self, batch: Batch) -> Measured:
        found = self.spread(batch.evidence if self.reads == "evidence" else batch.magnitude)
        return Measured(found[..., None], dict.fromkeys(places(torch.isnan(found)), NOTHING))


class Sparseness(SpreadMetric):
    """Gini index of a map (Chalasani et al., ICML 2020): 0 where all pixels are equal, (n - 1) / n for a single one.

    It describes and does not rank: a map may be sparse and wrong. It depends on the resolution of the layer; compare
    maps of one layer only.
    """

    title: ClassVar[str] = "Sparseness"
    paper: ClassVar[str] = "Chalasani et al., ICML 2020"

    name: Literal["sparseness"] = "sparseness"

    def spread(self, maps: Float[Tensor, "B T H W"]) -> Float[Tensor, "B T"]:
        return gini(maps)


def gini(maps: Float[Tensor, "B T H W"]) -> Float[Tensor, "B T"]:
    """sum_i (2i - n - 1) v_i / (n sum v), v sorted upwards and i from 1; NaN for a map of zeros."""
    values = maps.flatten(2).to(exact_type(maps.device)).sort(2).values
    count = values.shape[2]
    weights = 2 * torch.arange(1, count + 1, device=maps.device, dtype=values.dtype) - count - 1
    total = values.sum(2)
    return torch.where(total > 0, (values * weights).sum(2) / (count * total), math.nan)
