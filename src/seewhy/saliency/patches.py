"""Patches of pictures, and where they lie."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor

from seewhy.errors import InputError


@dataclass(frozen=True, eq=False)
class Patches:
    """Patches of B pictures.

    Attributes:
        values: (B, N, d).
        y, x: (N) where their centres lie, in shares of the picture's longest side.
    """

    values: Float[Tensor, "B N d"]
    y: Float[Tensor, " N"]
    x: Float[Tensor, " N"]


@dataclass(frozen=True, eq=False)
class PatchGrid:
    """Patches of B pictures, one at every crossing of the rows y with the columns x.

    Attributes:
        values: (B, h * w, d), row by row.
        y, x: (h) and (w), in shares of the picture's longest side.
    """

    values: Float[Tensor, "B hw d"]
    y: Float[Tensor, " h"]
    x: Float[Tensor, " w"]


def around_pixels(
    pictures: Float[Tensor, "B C H W"], shares: tuple[float, float], patch: int, stride: int
) -> PatchGrid:
    """The patch around every `stride`th pixel; beyond the border the picture is mirrored.

    Args:
        pictures: at any size.
        shares: their height and width, in shares of the longest side.
        patch: side of a patch.
        stride: from one to the next.

    Raises:
        InputError: a side is shorter than a patch.
    """
    sides = pictures.shape[2:]
    if min(sides) < patch:
        raise InputError(
            f"patches of {patch} pixels do not fit a picture that has become {sides[0]} x {sides[1]}"
        )
    padded = F.pad(pictures, [patch // 2] * 4, mode="reflect")
    y, x = (
        ((torch.arange(0, side, stride).to(pictures) + 0.5) * (share / side)).float()
        for side, share in zip(sides, shares, strict=True)
    )
    return PatchGrid(_cut(padded, patch, stride), y, x)


def sampled(
    levels: Iterable[Float[Tensor, "B C _ _"]],
    shares: tuple[float, float],
    patch: int,
    stride: int,
    centred: bool = True,
) -> Patches:
    """Whole patches, every `stride` pixels, from pictures of several sizes; those smaller than a patch have none.

    Args:
        levels: the pictures.
        shares: their height and width, in shares of the longest side.
        patch: side of a patch.
        stride: from one to the next.
        centred: whether what is left over is the same on both sides, so that turned pictures have turned patches; or
            begins in the corner. An odd rest cannot be shared where the stride is even.
    """
    found = []
    for pictures in levels:
        sides = pictures.shape[2:]
        if min(sides) >= patch:
            top, left = (_first(side - patch, stride) if centred else 0 for side in sides)
            y, x = (
                (
                    (torch.arange(first, side - patch + 1, stride).to(pictures) + patch / 2) * (share / side)
                ).float()
                for first, side, share in zip((top, left), sides, shares, strict=True)
            )
            y, x = torch.meshgrid(y, x, indexing="ij")
            values = _cut(pictures[:, :, top:, left:], patch, stride)
            found.append(Patches(values, y.flatten(), x.flatten()))
    return Patches(
        torch.cat([each.values for each in found], 1),
        torch.cat([each.y for each in found]),
        torch.cat([each.x for each in found]),
    )


def _first(rest: int, stride: int) -> int:
    spare = rest % stride
    if spare % 2 and stride % 2 and rest >= stride:
        spare += stride
    return spare // 2


def _cut(pictures: Float[Tensor, "B C H W"], patch: int, stride: int) -> Float[Tensor, "B N d"]:
    return F.unfold(pictures, patch, stride=stride).transpose(1, 2).float().contiguous()
