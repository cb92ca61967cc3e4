"""Saliency of relevance: what stands out in a map, alone or weighed by how relevant it is."""

from __future__ import annotations

from collections.abc import Callable
from typing import Literal

import torch
from jaxtyping import Float
from torch import Tensor

from seewhy.explainers.baseline import blurred
from seewhy.saliency import Saliency

Combine = Literal["saliency", "multiply", "blurred"]


def salient(
    relevance: Float[Tensor, "B C H W"], method: Callable[[Tensor], Saliency], combine: Combine, sigma: float
) -> Saliency:
    """Context-aware saliency of relevance maps (after Li et al., 2017), alone or multiplied with smoothed relevance.

    Saliency is blind to the inside of even areas, where it is zero, and a product with zero would be, too. So the
    smoothed magnitude is multiplied with (1 + saliency) / 2: where nothing stands out, half of it remains. The smoothed
    magnitude by itself is what either must be better than.

    Args:
        relevance: signed, with any channels.
        method: how saliency is computed: a `ContextAwareSaliency` whose mode is `relevance` or `quantised`.
        combine: the saliency itself, the smoothed magnitude of the relevance weighed by it, or that magnitude alone.
        sigma: of the Gaussian that smooths, in pixels.

    Returns:
        (B, H, W) in [0, 1], scaled to a maximum of 1 where it is not the saliency itself.
    """
    if combine == "saliency":
        return method(relevance)
    weighed = blurred(relevance.sum(1, keepdim=True).abs().float(), sigma)[:, 0]
    notes: tuple[tuple[str, ...], ...] = ((),) * len(relevance)
    if combine == "multiply":
        found = method(relevance)
        weighed, notes = weighed * (1 + found.values) / 2, found.notes
    most = weighed.amax((1, 2), keepdim=True)
    return Saliency(torch.where(most > 0, weighed / most, 0), notes)
