"""The channels whose patches are compared, from pictures and from maps, each stretched to [0, 1]."""

from __future__ import annotations

from io import BytesIO
from typing import Literal

import numpy as np
import torch
import torch.nn.functional as F
from jaxtyping import Float, UInt8
from PIL import Image
from torch import Tensor

from seewhy.errors import InputError
from seewhy.network.precision import exact_type
from seewhy.saliency.lab import lab

Mode = Literal["picture", "relevance", "quantised"]
Part = Literal["positive", "absolute", "signed"]

# Ranges that are not stretched. Greys have a little colour from rounding, and less than one unit of L*a*b* is not seen.
_UNSEEN, _ROUNDING = 1.0, 1e-6


def channels(
    given: Float[Tensor, "B C H W"], mode: Mode, part: Part, jpeg: int | None, longest_side: int | None
) -> Float[Tensor, "B c h w"]:
    """What is compared: L*a*b* of pictures and of quantised maps, one channel of relevance.

    Args:
        given: sRGB in [0, 1] or one channel in mode `picture`, maps with any number of channels in the others.
        mode: what is given.
        part: what is taken of relevance.
        jpeg: quality of the JPEG that quantised maps go through.
        longest_side: pixels to which pictures are resized, before their colours are converted.

    Returns:
        In [0, 1], double precision where there is one; a constant channel is 0.

    Raises:
        InputError: NaN, or values or channels that the mode does not take.
    """
    if not bool(torch.isfinite(given).all()):
        raise InputError("pictures hold NaN or infinity; a map without evidence is zero")
    values = given.to(exact_type(given.device))
    if mode == "relevance":
        values = _one(values, part)
    elif mode == "quantised":
        values = _quantised(values, jpeg)
    else:
        _check_picture(values)
    if longest_side is not None:
        values = resized(values, times(values.shape[2:], longest_side / max(values.shape[2:])))
    # A sum of weights may exceed one by its rounding.
    return _stretched(lab(values.clamp(0, 1)), _UNSEEN) if values.shape[1] == 3 else _stretched(values)


def resized(pictures: Float[Tensor, "B C H W"], size: tuple[int, ...]) -> Float[Tensor, "B C h w"]:
    """Bilinear; where it shrinks, over all pixels that become one."""
    if tuple(pictures.shape[2:]) == tuple(size):
        return pictures
    return F.interpolate(pictures, tuple(size), mode="bilinear", align_corners=False, antialias=True)


def times(size: tuple[int, ...], ratio: float) -> tuple[int, int]:
    """Both sides that many times as long."""
    height, width = (max(1, round(side * ratio)) for side in size)
    return height, width


def _check_picture(values: Tensor) -> None:
    if values.shape[1] not in (1, 3):
        raise InputError(
            f"a picture has 1 or 3 channels, got {values.shape[1]}; maps are for mode='relevance'"
        )
    low, high = values.aminmax()
    if low < 0 or high > 1:
        raise InputError(
            f"pictures are sRGB in [0, 1], these reach from {low:.3g} to {high:.3g}; divide bytes by 255, undo the "
            "network's preprocessing, or take mode='relevance' for maps"
        )


def _one(values: Float[Tensor, "B C H W"], part: Part) -> Float[Tensor, "B 1 H W"]:
    total = values.sum(1, keepdim=True)
    if part == "signed":
        return total
    return total.abs() if part == "absolute" else total.clamp_min(0)


def _stretched(values: Float[Tensor, "B C H W"], unseen: float = 0) -> Float[Tensor, "B C H W"]:
    """Every channel from 0 to 1, a range below `unseen` as if it were that; 0 where all is rounding."""
    low, high = values.amin((2, 3), keepdim=True), values.amax((2, 3), keepdim=True)
    rounding = _ROUNDING * torch.maximum(low.abs(), high.abs())
    return torch.where(high - low > rounding, (values - low) / (high - low).clamp_min(unseen), 0)


def _quantised(values: Float[Tensor, "B C H W"], jpeg: int | None) -> Float[Tensor, "B 3 H W"]:
    """Magnitudes, stretched over all channels together and rounded to bytes, as the released notebooks save them."""
    if values.shape[1] not in (1, 3):
        raise InputError(f"an RGB picture is made of 1 or 3 channels of relevance, got {values.shape[1]}")
    joint = _stretched(values.abs().flatten(1)[:, None, None]).view_as(values)
    rounded = (joint * 255).round().expand(-1, 3, -1, -1)
    if jpeg is not None:
        rounded = torch.stack([_through_jpeg(each, jpeg) for each in rounded]).to(rounded)
    return rounded / 255


def _through_jpeg(picture: Float[Tensor, "3 H W"], quality: int) -> UInt8[Tensor, "3 H W"]:
    file = BytesIO()
    Image.fromarray(picture.byte().permute(1, 2, 0).cpu().numpy()).save(file, "JPEG", quality=quality)
    return torch.from_numpy(np.array(Image.open(file))).permute(2, 0, 1)
