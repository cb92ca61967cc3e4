"""Random draws that belong to a picture: the same alone, in a batch, in any order and on any device."""

from __future__ import annotations

from hashlib import sha256

import torch
from torch import Tensor


def picture_keys(pictures: Tensor) -> list[bytes]:
    """One key per picture (B, C, H, W), from its pixels."""
    return [sha256(each.detach().float().cpu().contiguous().numpy().tobytes()).digest() for each in pictures]


def generator(key: bytes, seed: int, number: int) -> torch.Generator:
    """The stream of one draw for one picture."""
    name = sha256(key + seed.to_bytes(8, "little", signed=True) + number.to_bytes(8, "little")).digest()
    return torch.Generator().manual_seed(int.from_bytes(name[:8], "little") >> 1)
