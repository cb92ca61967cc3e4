"""The rules once more, slowly: dense matrices in numpy, one output at a time, straight from the papers' sums."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import torch
from torch import Tensor, nn

from seewhy.network.network import Network
from seewhy.relevance.composites import Composite
from seewhy.relevance.propagate import trace


def matrix(function: Callable[[Tensor], Tensor], example: Tensor) -> tuple[np.ndarray, np.ndarray]:
    """The weights (outputs, inputs) and biases (outputs) of an affine function, from its answers to unit inputs."""
    size = example.numel()
    with torch.no_grad():
        bias = function(torch.zeros_like(example)).flatten()
        units = torch.eye(size, dtype=example.dtype).reshape(size, *example.shape[1:])
        columns = torch.stack([function(each[None]).flatten() - bias for each in units], 1)
    return columns.numpy(), bias.numpy()


def divided(contributions: np.ndarray, bias: float, relevance: float, epsilon: float) -> np.ndarray:
    """One output's relevance in proportion to contributions; sign(0) = +1."""
    total = contributions.sum() + bias
    return relevance * contributions / (total + (epsilon if total >= 0 else -epsilon))


def propagated(rule, weights, biases, inputs, relevance, low=None, high=None) -> np.ndarray:
    """The inputs' relevance (inputs,) under a rule, from the outputs' (outputs,)."""
    received = np.zeros_like(inputs)
    for row, bias, given in zip(weights, biases, relevance, strict=True):
        used = 0.0 if rule.bias == "ignore" else bias
        products = inputs * row
        rising, falling = np.maximum(products, 0), np.minimum(products, 0)
        eps = rule.epsilon
        match rule.name:
            case "epsilon":
                shares, part = divided(products, used, given, eps), used
            case "z-plus":
                part = max(used, 0)
                shares = divided(rising, part, given, eps)
            case "alpha-beta":
                shares = rule.alpha * divided(rising, max(used, 0), given, eps)
                shares = shares - rule.beta * divided(falling, min(used, 0), given, eps)
            case "gamma":
                more = rising if products.sum() + bias > 0 else falling
                extra = max(used, 0) if products.sum() + bias > 0 else min(used, 0)
                shares = divided(products + rule.gamma * more, used + rule.gamma * extra, given, eps)
            case "z-box":
                box = products - low * np.maximum(row, 0) - high * np.minimum(row, 0)
                shares = divided(box, 0, given, eps)
            case "flat":
                shares = divided((row != 0).astype(float), 0, given, eps)
            case "w-square":
                shares = divided(row**2, 0, given, eps)
        received += shares
    return received


def sent_back(module, images, rules, direction, composite="epsilon-plus", bias=None):
    """The pictures' relevance in the network's own format, and the books, starting with direction · outputs."""
    network = Network(module)
    with network.prepared(images) as arguments:
        found = trace(module, arguments, Composite.of(composite, rules, bias), network.digest)
        (pixels,), _, ledger = found.back((found.outputs * direction).sum())
    return pixels, ledger


class Called(nn.Module):
    """A function of pictures and of one weight, for layers that are no modules."""

    def __init__(self, shape, function) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.randn(shape))
        self.function = function

    def forward(self, x):
        return self.function(x, self.weight)
