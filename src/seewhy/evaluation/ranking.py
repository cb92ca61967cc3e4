"""Pixels by rank, where a rectified map has large plateaus."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from seewhy.explainers.draws import generator


def ranks(maps: Float[Tensor, "n T H W"], keys: Sequence[bytes], seed: int) -> Int[Tensor, "n T H W"]:
    """The rank of every pixel, 0 for the highest; equals in an order drawn for each picture.

    Row-major ties would reward the top left corner wherever a map is zero.

    Args:
        maps: (n, T, H, W).
        keys: one per picture; the same for all methods, so that ties are broken alike.
        seed: of the draws.
    """
    flat = maps.flatten(2)
    count = flat.shape[2]
    orders = torch.stack([torch.randperm(count, generator=generator(key, seed, 0)) for key in keys])
    drawn = orders.to(maps.device)[:, None].expand_as(flat)
    sorted_ = flat.gather(2, drawn).argsort(dim=2, descending=True, stable=True)
    numbers = torch.arange(count, device=maps.device).expand_as(flat)
    return torch.empty_like(drawn).scatter_(2, drawn.gather(2, sorted_), numbers).view(maps.shape)


def constant(maps: Float[Tensor, "n T H W"]) -> list[tuple[int, int]]:
    """Rows and columns of the maps that rank nothing."""
    return places(maps.amax((-2, -1)) == maps.amin((-2, -1)))


def places(chosen: Bool[Tensor, "n T"]) -> list[tuple[int, int]]:
    """Rows and columns that are true."""
    return [(row, column) for row, column in chosen.nonzero().tolist()]


AT_RANDOM = "the map is constant: its pixels are ranked at random"
