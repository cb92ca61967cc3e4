"""Ways from a baseline to a picture, point by point in float64, for the methods that integrate at a layer."""

from __future__ import annotations

from collections.abc import Callable, Iterable

import numpy as np
import torch
from slow import Score, pairs
from torch import Tensor, nn


def visited(
    net: nn.Module, begin: Tensor, end: Tensor, points: Iterable[float], score: int | Score = 2
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Activations and gradients (S, K, h, w) and scores (S) on the way from one picture (C, H, W) to another."""
    begin, end = begin.double(), end.double()
    return pairs(net, torch.stack([begin + t * (end - begin) for t in points]), score)


def each(images: Tensor, compute: Callable[[Tensor], np.ndarray]) -> np.ndarray:
    """What is computed of every picture, stacked."""
    return np.stack([compute(image) for image in images])


def stieltjes(activation: np.ndarray, gradient: np.ndarray) -> np.ndarray:
    """Sum over l of half (g_l + g_(l-1)) times (A_l - A_(l-1)): (S, K, h, w) to (K, h, w)."""
    total = np.zeros_like(activation[0])
    for place in range(1, len(activation)):
        total += (gradient[place] + gradient[place - 1]) / 2 * (activation[place] - activation[place - 1])
    return total


class Saturated(nn.Module):
    """y = 1 - ReLU(1 - a), with a the mean of the picture, which is also the layer's only channel."""

    def __init__(self) -> None:
        super().__init__()
        self.features = nn.Conv2d(1, 1, 1, bias=False)
        nn.init.ones_(self.features.weight)

    def forward(self, images: Tensor) -> Tensor:
        mean = self.features(images).mean((1, 2, 3))
        return torch.stack([1 - torch.relu(1 - mean), mean], 1)
