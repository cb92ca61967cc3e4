"""Increase in confidence: how often a class gains when only what the map shows is left."""

from __future__ import annotations

from typing import ClassVar, Literal

import torch
from jaxtyping import Float
from torch import Tensor

from seewhy.evaluation.average_drop import ShownMetric


class IncreaseInConfidence(ShownMetric):
    """Increase in confidence, in per cent (Chattopadhyay et al., Grad-CAM++, WACV 2018): 100 mean [O > p].

    p is the class's probability, O the same for the picture times the map; equal is no increase.
    """

    title: ClassVar[str] = "Increase in confidence"
    paper: ClassVar[str] = "Chattopadhyay et al., WACV 2018"

    name: Literal["increase-in-confidence"] = "increase-in-confidence"

    def per_row(self, data: Float[Tensor, "N V"]) -> Float[Tensor, " N"]:
        clean, shown = data[:, 0], data[:, 1]
        return torch.where(torch.isfinite(clean), 100 * (shown > clean).to(data), clean)
