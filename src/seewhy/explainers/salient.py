"""Saliency of relevance: what stands out in a map, alone or weighed by how relevant it is."""

from __future__ import annotations

from typing import Literal

import torch
from jaxtyping import Float
from torch import Tensor

from seewhy.explainers.baseline import blurred
from seewhy.saliency import ContextAwareSaliency, Saliency

Combine = Literal["saliency", "multiply"]


def salient(
    relevance: Float[Tensor, "B C H W"], method: ContextAwareSaliency, combine: Combine, sigma: float
) -> Saliency:
    """Context-aware saliency of relevance maps (after Li et al., 2017), or its product with smoothed relevance.

    Saliency alone is blind to the sign of a map and to the inside of even areas; the product is not zero where relevance
    is spread evenly, as long as a larger scale sees it, and is zero where there is none.

    Args:
        relevance: signed, with any channels.
        method: how saliency is computed; its mode is `relevance` or `quantised`.
        combine: the saliency itself, or multiplied with the smoothed magnitude of the relevance.
        sigma: of the Gaussian that smooths, in pixels.

    Returns:
        (B, H, W) in [0, 1], the product scaled to a maximum of 1.
    """
    found = method(relevance)
    if combine == "saliency":
        return found
    weight = blurred(relevance.sum(1, keepdim=True).abs(), sigma)[:, 0]
    product = found.values * weight
    most = product.amax((1, 2), keepdim=True)
    return Saliency(torch.where(most > 0, product / most, 0), found.notes)
