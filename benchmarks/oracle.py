"""The methods' equations once more: float64, numpy, plain autograd on a copy; nothing of ours takes part."""

from __future__ import annotations

import copy
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from torch import Tensor, nn

Array = NDArray[np.float64]


@dataclass(frozen=True)
class Pair:
    """A layer's activations and the gradients of one class's score there, both (B, K, h, w)."""

    activation: Array
    gradient: Array


def pair(module: nn.Module, images: Tensor, layer: str, classes: Sequence[int]) -> Pair:
    """What the layer returns and how each picture's class score depends on it, picture by picture."""
    exact = copy.deepcopy(module).double().eval()
    activations, gradients = [], []
    kept: list[Tensor] = []

    def keep(_module: nn.Module, _inputs: Any, output: Tensor) -> Tensor:
        leaf = output.detach().requires_grad_()
        kept.append(leaf)
        return leaf.clone()  # what follows may write to it

    handle = exact.get_submodule(layer).register_forward_hook(keep)
    for image, index in zip(images.double(), classes, strict=True):
        kept.clear()
        (gradient,) = torch.autograd.grad(exact(image[None])[0, index], kept)
        activations.append(kept[0].detach()[0].numpy())
        gradients.append(gradient[0].numpy())
    handle.remove()
    return Pair(np.stack(activations), np.stack(gradients))


def grad_cam(of: Pair) -> Array:
    return np.asarray(np.einsum("bk,bkhw->bhw", of.gradient.mean((2, 3)), of.activation))


def grad_cam_plus_plus(of: Pair) -> Array:
    """Equation 19 with its squares and cubes."""
    squared, cubed = of.gradient**2, of.gradient**3
    denominator = 2 * squared + of.activation.sum((2, 3), keepdims=True) * cubed
    alpha = np.divide(squared, denominator, out=np.zeros_like(squared), where=squared > 0)
    weights = (alpha * of.gradient.clip(0)).sum((2, 3))
    return np.asarray(np.einsum("bk,bkhw->bhw", weights, of.activation))


def x_grad_cam(of: Pair) -> Array:
    total = of.activation.sum((2, 3))
    product = (of.activation * of.gradient).sum((2, 3))
    weights = np.divide(product, total, out=np.zeros_like(total), where=total != 0)
    return np.asarray(np.einsum("bk,bkhw->bhw", weights, of.activation))


def hires_cam(of: Pair) -> Array:
    return np.asarray((of.activation * of.gradient).sum(1))


def layer_cam(of: Pair) -> Array:
    return np.asarray((of.activation * of.gradient.clip(0)).sum(1))


def eigen_cam(of: Pair) -> Array:
    """First principal component of the centred activations, by a decomposition; its sign is left open."""
    found = []
    for maps in of.activation:
        rows = maps.reshape(len(maps), -1).T
        rows = rows - rows.mean(0)
        right = np.linalg.svd(rows, full_matrices=False)[2]
        found.append((rows @ right[0]).reshape(maps.shape[1:]))
    return np.stack(found)


def normalised(maps: Array | Tensor, size: tuple[int, int]) -> Array:
    """Rectified, upsampled bilinearly, and stretched to [0, 1] per picture, in float64; (B, H, W)."""
    exact = torch.as_tensor(maps).double().clamp_min(0)[:, None]
    large = F.interpolate(exact, size, mode="bilinear", align_corners=False)[:, 0]
    large = large - large.amin((1, 2), keepdim=True)
    highest = large.amax((1, 2), keepdim=True)
    return np.asarray(large / torch.where(highest > 0, highest, 1.0))


Masks = Callable[[Tensor, tuple[int, int]], Tensor]


def score_cam(module: nn.Module, images: Tensor, layer: str, classes: Sequence[int], masks: Masks) -> Array:
    """Channels weighted by the softmax of the scores of the picture under their masks; rows (B, h, w)."""
    exact = copy.deepcopy(module).double().eval()
    kept: list[Tensor] = []
    handle = exact.get_submodule(layer).register_forward_hook(lambda _m, _i, out: kept.append(out.clone()))
    with torch.no_grad():
        exact(images.double())
        handle.remove()
        found = []
        for image, activation, index in zip(images.double(), kept[0], classes, strict=True):
            shown = masks(activation[:, None], (image.shape[-2], image.shape[-1]))
            scores = torch.cat([exact(image * part)[:, index] for part in torch.split(shown, 16)])
            found.append(torch.einsum("k,khw->hw", scores.softmax(0), activation).numpy())
    return np.stack(found)


def enlarged_masks(activation: Tensor, size: tuple[int, int]) -> Tensor:
    """Feature maps (K, 1, h, w) enlarged, then stretched to [0, 1]: the paper's."""
    return _stretched(F.interpolate(activation, size, mode="bilinear", align_corners=False))


def corner_masks(activation: Tensor, size: tuple[int, int]) -> Tensor:
    """Enlarged so that corner cells lie in the corners, then stretched."""
    return _stretched(F.interpolate(activation, size, mode="bilinear", align_corners=True))


def grid_masks(activation: Tensor, size: tuple[int, int]) -> Tensor:
    """Stretched on the layer's grid, then enlarged."""
    return F.interpolate(_stretched(activation), size, mode="bilinear", align_corners=False)


def _stretched(maps: Tensor) -> Tensor:
    low, high = maps.amin((2, 3), keepdim=True), maps.amax((2, 3), keepdim=True)
    return (maps - low) / torch.where(high > low, high - low, 1.0)
