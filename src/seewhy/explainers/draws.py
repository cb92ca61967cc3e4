"""Random draws that belong to a picture: the same alone, in a batch, in any order and on any device."""

from __future__ import annotations

from hashlib import sha256
from typing import Annotated

import torch
from pydantic import Field
from torch import Tensor

Seed = Annotated[int, Field(ge=-(2**63), lt=2**63)]
"""Of draws: eight bytes."""


def picture_keys(pictures: Tensor) -> list[bytes]:
    """One key per picture (B, C, H, W), from its pixels."""
    return [sha256(each.detach().float().cpu().contiguous().numpy().tobytes()).digest() for each in pictures]


def generator(key: bytes, seed: int, number: int) -> torch.Generator:
    """The stream of one draw for one picture."""
    name = sha256(key + seed.to_bytes(8, "little", signed=True) + number.to_bytes(8, "little")).digest()
    return torch.Generator().manual_seed(int.from_bytes(name[:8], "little") >> 1)


def normal(stream: torch.Generator, *shape: int) -> Tensor:
    """Standard normal noise in float32, whatever number format and device torch has for a default."""
    return torch.randn(shape, generator=stream, dtype=torch.float32, device="cpu")


def uniform(stream: torch.Generator, *shape: int) -> Tensor:
    """Noise in [0, 1), likewise."""
    return torch.rand(shape, generator=stream, dtype=torch.float32, device="cpu")
