"""How alike two maps are."""

from __future__ import annotations

import math

import torch
from jaxtyping import Float
from torch import Tensor

from seewhy.network.precision import exact_type


def spearman(first: Float[Tensor, "*B n"], second: Float[Tensor, "*B n"]) -> Float[Tensor, "*B"]:
    """Spearman's rank correlation along the last axis; equals share the mean of their ranks.

    Returns:
        In [-1, 1], in float64 where the device has it; NaN where either side is constant or not finite.
    """
    ranks = [_average_ranks(each) for each in (first, second)]
    centred = [each - each.mean(-1, keepdim=True) for each in ranks]
    squares = [each.square().sum(-1) for each in centred]
    found = (centred[0] * centred[1]).sum(-1) / (squares[0] * squares[1]).sqrt()
    known = torch.isfinite(first).all(-1) & torch.isfinite(second).all(-1)
    return torch.where(known & (squares[0] > 0) & (squares[1] > 0), found, math.nan)


def _average_ranks(values: Float[Tensor, "*B n"]) -> Float[Tensor, "*B n"]:
    """Ranks from 0 upwards, of equals their mean: halfway between how many are less and how many are no more."""
    values = values.contiguous()
    ordered = values.sort(-1).values
    less = torch.searchsorted(ordered, values)
    no_more = torch.searchsorted(ordered, values, right=True)
    return (less + no_more - 1).to(exact_type(values.device)) / 2
