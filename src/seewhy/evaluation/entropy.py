"""Entropy: over how many pixels the evidence is spread."""

from __future__ import annotations

import math
from typing import ClassVar, Literal

import torch
from jaxtyping import Float
from torch import Tensor

from seewhy.evaluation.sparseness import SpreadMetric
from seewhy.evaluation.table import Table
from seewhy.network.precision import exact_type


class Entropy(SpreadMetric):
    """Entropy of a map's shares (Bhatt et al., IJCAI 2020): -sum P ln P, P = E / sum E; ln n if even, 0 for one pixel.

    The details hold `effective`, e to the entropy: how many equal pixels would have it. It describes and does not rank;
    compare maps of one layer only.
    """

    title: ClassVar[str] = "Entropy"
    paper: ClassVar[str] = "Bhatt et al., IJCAI 2020"

    name: Literal["entropy"] = "entropy"

    def spread(self, maps: Float[Tensor, "B T H W"]) -> Float[Tensor, "B T"]:
        return entropy(maps)

    def details(self, table: Table) -> dict[str, Tensor]:
        """`effective`: pixels of each row (N,)."""
        return {"effective": self.per_row(table.exact).exp()}


def entropy(maps: Float[Tensor, "B T H W"]) -> Float[Tensor, "B T"]:
    """-sum P ln P over the pixels; NaN for a map of zeros."""
    values = maps.flatten(2).to(exact_type(maps.device))
    total = values.sum(2, keepdim=True)
    shares = torch.where(total > 0, values / total, math.nan)
    found: Tensor = torch.special.entr(shares).sum(2)
    return found
