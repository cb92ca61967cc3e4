"""Small networks, and what a layer's activations and gradients are by plain autograd, slowly, in float64."""

from __future__ import annotations

import copy
from collections import OrderedDict
from collections.abc import Callable

import numpy as np
import torch
from torch import Tensor, nn

from seewhy.explainers.study import Feature

Score = Callable[[Tensor], Tensor]

TOLERANCE = 2e-5
"""Relative to the map's largest magnitude: what float32 makes of sums over channels and positions."""


def features(channels: int = 6) -> nn.Sequential:
    """Two convolutions; on (3, 16, 16) pictures they give non-negative maps (channels, 5, 5)."""
    return nn.Sequential(nn.Conv2d(3, 8, 3, stride=2), nn.ReLU(), nn.Conv2d(8, channels, 3), nn.ReLU())


def network(head: str, channels: int = 6, classes: int = 4, seed: int = 0) -> nn.Sequential:
    """`features` and one of several heads, with random weights."""
    torch.manual_seed(seed)
    size = channels * 25
    heads: dict[str, Callable[[], list[nn.Module]]] = {
        "pooled linear": lambda: [nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(channels, classes)],
        "flattened linear": lambda: [nn.Flatten(), nn.Linear(size, classes)],
        "bias-free relu": lambda: [
            nn.Flatten(),
            nn.Linear(size, 12, bias=False),
            nn.ReLU(),
            nn.Linear(12, classes, bias=False),
        ],
        "convolutions": lambda: [
            nn.Conv2d(channels, 10, 3),
            nn.ReLU(),
            nn.AdaptiveAvgPool2d(1),
            nn.Flatten(),
            nn.Linear(10, classes),
        ],
    }
    return nn.Sequential(OrderedDict(features=features(channels), head=nn.Sequential(*heads[head]())))


def pictures(count: int = 3, seed: int = 1, size: int = 16) -> Tensor:
    return torch.randn(count, 3, size, size, generator=torch.Generator().manual_seed(seed))


def linear(module: nn.Module) -> nn.Linear:
    """The last linear layer."""
    return [each for each in module.modules() if isinstance(each, nn.Linear)][-1]


def pairs(
    module: nn.Module, images: Tensor, score: int | Score, layer: str = "features"
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Activations and gradients (B, K, h, w) and scores (B), one picture at a time, on a float64 copy.

    Nothing of the package takes part: the copy's parameters are trainable, the graph goes back to them.
    """
    slow = copy.deepcopy(module).double().eval().requires_grad_(True)
    read = (lambda output: output[:, score]) if isinstance(score, int) else score
    activations, gradients, scores = [], [], []
    for image in images.double():
        kept: list[Tensor] = []

        def keep(_module: nn.Module, _inputs: object, output: Tensor, kept: list[Tensor] = kept) -> Tensor:
            output.retain_grad()
            kept.append(output)
            return output.clone()

        handle = slow.get_submodule(layer).register_forward_hook(keep)
        value = read(slow(image[None]))
        value.sum().backward()
        handle.remove()
        assert kept[0].grad is not None
        activations.append(kept[0].detach()[0].numpy())
        gradients.append(kept[0].grad[0].numpy())
        scores.append(float(value.detach().sum()))
    return np.stack(activations), np.stack(gradients), np.array(scores)


def random_feature(
    batch: int = 2, targets: int = 3, channels: int = 5, grid: tuple[int, int] = (4, 3), seed: int = 0
) -> Feature:
    """Random non-negative activations and random gradients, in float64."""
    generator = torch.Generator().manual_seed(seed)
    activation = torch.randn(batch, channels, *grid, generator=generator, dtype=torch.float64).clamp_min(0)
    gradient = torch.randn(batch, targets, channels, *grid, generator=generator, dtype=torch.float64)
    return Feature(activation, gradient)


def with_decoy(feature: Feature) -> Feature:
    """The same with one more channel: silent, and with a very large gradient."""
    activation, gradient = feature.activation, feature.gradient
    assert gradient is not None
    return Feature(
        torch.cat([activation, torch.zeros_like(activation[:, :1])], 1),
        torch.cat([gradient, torch.full_like(gradient[:, :, :1], 1e6)], 2),
    )


def close(found: Tensor | np.ndarray, expected: Tensor | np.ndarray, tolerance: float = TOLERANCE) -> None:
    """Equal within the tolerance times the largest expected magnitude."""
    found, expected = (np.asarray(each, dtype=np.float64) for each in (found, expected))
    assert found.shape == expected.shape
    scale = np.abs(expected).max()
    assert scale > 0, "nothing is compared with nothing"
    assert np.abs(found - expected).max() <= tolerance * scale
