"""How far every pixel is from the nearest of some."""

from __future__ import annotations

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from seewhy.network.precision import in_chunks


def distance_to(places: Bool[Tensor, "B H W"]) -> Float[Tensor, "B H W"]:
    """Euclidean distance of every pixel to the nearest that is set, in pixels; infinite where none is.

    Exact: first along the columns, then over the column distances of the whole row.
    """
    height, width = places.shape[1:]
    y, x = (torch.arange(side, dtype=torch.float32, device=places.device) for side in (height, width))
    row = y[None, :, None]
    above = torch.where(places, row, -torch.inf).cummax(1).values
    below = torch.where(places, row, torch.inf).flip(1).cummin(1).values.flip(1)
    upright = torch.minimum(row - above, below - row).square()
    sideways = (x[:, None] - x).square()

    def rows(start: int, stop: int) -> Tensor:
        return (upright[:, start:stop, None] + sideways).amin(3)

    chunk = max(1, (1 << 22) // (len(places) * width * width))
    return torch.cat(in_chunks(rows, height, chunk), 1).sqrt_()
