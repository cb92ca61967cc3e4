"""What is asked of a mask itself: to be small, to have short edges, to be black and white."""

from __future__ import annotations

import torch
from jaxtyping import Float
from pydantic import BaseModel, ConfigDict, Field
from torch import Tensor


class Weights(BaseModel):
    """How much is asked of a mask in one stage; every term is a mean over the mask's own values."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    sparsity: float = Field(ge=0, description="lambda_1, of the mean of |1 - m|: how little is perturbed.")
    variation: float = Field(
        ge=0, description="lambda_tv, of the means of |dm/dy|^beta and |dm/dx|^beta: how short its edges are."
    )
    binary: float = Field(ge=0, description="lambda_b, of the mean of m (1 - m): how black and white it is.")
    beta: float = Field(default=3.0, ge=1, description="Exponent of the differences between neighbours.")


def asked(
    mask: Float[Tensor, "M h w"], weights: Weights, area: float | None = None, ramp: float = 1.0
) -> Float[Tensor, " M"]:
    """What each mask pays.

    Args:
        mask: 1 keeps.
        weights: of the terms.
        area: the share of the picture that a mask shall cover: the sorted values are then drawn to that many ones
            (Fong, Patrick and Vedaldi, ICCV 2019), instead of all values to none.
        ramp: what the pull to that area is multiplied by; it grows from 0 to 1, so that the score says which pixels
            come first and not the order in which equal ones are sorted.
    """
    flat = mask.flatten(1)
    if area is None:
        paid = weights.sparsity * (1 - flat).abs().mean(1)
    else:
        covered = round(area * flat.shape[1])
        wanted = (torch.arange(flat.shape[1], device=flat.device) < covered).to(flat.dtype)
        paid = (
            ramp * weights.sparsity * ((1 - flat).sort(1, descending=True).values - wanted).square().mean(1)
        )
    if weights.variation:
        paid = paid + weights.variation * _variation(mask, weights.beta)
    if weights.binary:
        paid = paid + weights.binary * (flat * (1 - flat)).abs().mean(1)
    return paid


def _variation(mask: Float[Tensor, "M h w"], beta: float) -> Float[Tensor, " M"]:
    """Means of the differences between neighbours, to a power; nothing along an axis of one value."""
    total = mask.new_zeros(len(mask))
    for axis in (1, 2):
        if mask.shape[axis] > 1:
            total = total + mask.diff(dim=axis).abs().pow(beta).flatten(1).mean(1)
    return total
