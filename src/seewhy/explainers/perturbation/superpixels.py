"""Superpixels, so that a mask has one value for each piece of the picture."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from jaxtyping import Float, Int
from torch import Tensor

from seewhy.errors import MissingExtraError

COUNT, COMPACTNESS, SIGMA = 2000, 10.0, 0.5


def superpixels(picture: Float[Tensor, "C H W"]) -> Int[Tensor, "H W"]:
    """About 2000 pieces of a picture by SLIC (Achanta et al., TPAMI 2012), numbered from 0.

    Args:
        picture: in the network's input; its levels are stretched to [0, 1].

    Raises:
        MissingExtraError: scikit-image is not installed.
    """
    slic = _slic()
    levels = picture.float().cpu()
    low, high = levels.min(), levels.max()
    levels = ((levels - low) / (high - low).clamp_min(1e-12)).permute(1, 2, 0)
    shown = levels.numpy() if levels.shape[2] in (1, 3) else levels[:, :, :1].numpy()
    pieces = slic(
        np.repeat(shown, 3, 2) if shown.shape[2] == 1 else shown,
        n_segments=COUNT,
        compactness=COMPACTNESS,
        sigma=SIGMA,
        start_label=0,
        channel_axis=2,
    )
    return torch.from_numpy(np.unique(pieces, return_inverse=True)[1].reshape(pieces.shape))


def means(mask: Float[Tensor, "H W"], pieces: Int[Tensor, "H W"]) -> Float[Tensor, " S"]:
    """The mean of a mask over each piece."""
    flat = pieces.flatten()
    count = torch.bincount(flat).to(mask)
    return torch.zeros_like(count).index_add_(0, flat, mask.flatten()) / count


def _slic() -> Any:
    try:
        from skimage.segmentation import slic
    except ImportError as error:
        raise MissingExtraError("scikit-image", "summaries") from error
    return slic
