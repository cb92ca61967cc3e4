"""What rules change of weights."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from seewhy.relevance.rules import Weights


def changed(weight: Any, change: Weights) -> Any:
    """The weights W, or a number that stands for weights above 0, after a change."""
    if change.power == 0:
        weight = torch.ones_like(weight) if isinstance(weight, Tensor) else 1.0
    elif change.power == 2:
        weight = weight**2
    if change.positive == change.negative:
        return weight if change.positive == 1 else weight * change.positive
    if not isinstance(weight, Tensor):
        return weight * (change.positive if weight > 0 else change.negative)
    return change.positive * weight.clamp_min(0) + change.negative * weight.clamp_max(0)
