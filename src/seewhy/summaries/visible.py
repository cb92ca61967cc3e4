"""The network's input as people see it."""

from __future__ import annotations

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from seewhy.network.network import Network
from seewhy.summaries.descriptors import Picture


def visible(network: Network, pixels: Float[Tensor, "B C H W"]) -> list[Picture]:
    """RGB pictures of what a network is given; without a preprocess, its levels stretched to grey levels."""
    pixels = pixels.detach().float().cpu()
    preprocess = network.preprocess
    if preprocess is not None and preprocess.channels == pixels.shape[1]:
        mean, std = (torch.tensor(each)[None, :, None, None] for each in (preprocess.mean, preprocess.std))
        levels = (pixels * std + mean) / (preprocess.scale * 255)
        levels = levels.flip(1) if preprocess.bgr else levels
    else:
        low, high = pixels.amin((1, 2, 3), keepdim=True), pixels.amax((1, 2, 3), keepdim=True)
        levels = (pixels - low) / (high - low).clamp_min(1e-12)
    levels = levels if levels.shape[1] == 3 else levels[:, :1].expand(-1, 3, -1, -1)
    shown = (levels * 255).round().clamp(0, 255).byte().permute(0, 2, 3, 1).contiguous()
    return [np.asarray(each) for each in shown.numpy()]
