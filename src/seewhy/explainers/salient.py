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
    """Context-aware saliency of relevance maps (after Li et al., 2017), alone or multiplied with smoothed relevance.

    Saliency is blind to the inside of even areas, where it is zero, and a product with zero would be, too. So the
    smoothed magnitude is multiplied with (1 + saliency) / 2: where nothing stands out, half of it remains.

    Args:
        relevance: signed, with any channels.
        method: how saliency is computed; its mode is `relevance` or `quantised`.
        combine: the saliency itself, or the smoothed magnitude of the relevance weighed by it.
        sigma: of the Gaussian that smooths, in pixels.

    Returns:
        (B, H, W) in [0, 1], the product scaled to a maximum of 1.
    """
    found = method(relevance)
    if combine == "saliency":
        return found
    smooth = blurred(relevance.sum(1, keepdim=True).abs().float(), sigma)[:, 0]
    product = smooth * (1 + found.values) / 2
    most = product.amax((1, 2), keepdim=True)
    return Saliency(torch.where(most > 0, product / most, 0), found.notes)
