"""What public code does one picture, one step, one threshold at a time, written once more from its description.

None of it is clever where the public code is not: float32, contiguous, a forward per mask or step, values that go to
numpy and back. Nothing of ours takes part.
"""

from __future__ import annotations

from importlib import import_module
from typing import Any, Literal

import numpy as np
import torch
import torch.nn.functional as F
from jaxtyping import Float, Int
from numpy.typing import NDArray
from torch import Tensor, nn

Curve = NDArray[np.float64]

_PERCENTILE = 70
_REACH, _SIGMA = 25, 50.0  # of Group-CAM's blur
_SIDE, _SPREAD = 11, 5.0  # of RISE's
_CELL, _MASK_BLUR, _CUT, _BEHIND = (
    8,
    5.0,
    5,
    10.0,
)  # of crisp masks: cell, its blur, the background's reach and blur


def group_cam(
    module: nn.Module, layer: str, image: Float[Tensor, "1 C H W"], index: int, groups: int
) -> Float[Tensor, "H W"]:
    """Group-CAM by the loop of its code of June 2021: a backward into the parameters, a forward per group.

    Its blur is separable here, which its code's is not.
    """
    weighted = _weighted(module, layer, image, index)
    size = (image.shape[-2], image.shape[-1])
    total = torch.zeros(size)
    with torch.no_grad():
        behind = _group_cam_blur(image)
        empty = module(behind).softmax(1)[0, index]
        for group in weighted.chunk(groups, 1):
            found = group.sum(1, keepdim=True).relu()
            least = float(np.percentile(found.cpu().numpy(), _PERCENTILE))
            found = torch.where(found > least, found, torch.zeros_like(found))
            found = F.interpolate(found, size, mode="bilinear", align_corners=False)
            if found.max() == found.min():
                continue
            mask = (found - found.min()) / (found.max() - found.min())
            shown = image * mask + behind * (1 - mask)
            total += (module(shown).softmax(1)[0, index] - empty) * mask[0, 0]
        return _stretched(total.relu())


def group_cam_at_once(
    module: nn.Module, layer: str, image: Float[Tensor, "1 C H W"], index: int, groups: int
) -> Float[Tensor, "H W"]:
    """Group-CAM as its code has it since August 2021: all groups in one forward, other rules.

    NaN throughout where a group is constant, as there.
    """
    weighted = _weighted(module, layer, image, index)
    with torch.no_grad():
        behind = _group_cam_blur(image)
        found = torch.cat(weighted.chunk(groups, 1)).sum(1, keepdim=True).relu()
        found = F.interpolate(found, image.shape[-2:], mode="bilinear", align_corners=False)
        low, high = found.amin((2, 3), keepdim=True), found.amax((2, 3), keepdim=True)
        mask = (found - low) / (high - low)
        empty = module(behind).softmax(1)[0, index]
        scores = (module(image * mask + behind * (1 - mask)).softmax(1)[:, index] - empty).relu()
        return _stretched((scores[:, None, None] * found[:, 0]).sum(0))


def curve(
    module: nn.Module,
    image: Float[Tensor, "1 C H W"],
    saliency: Float[np.ndarray, "H W"],
    step: int,
    mode: Literal["insertion", "deletion"],
) -> Curve:
    """The predicted class's probability at every step of RISE's evaluator, each a forward of one picture.

    Args:
        module: gives logits.
        image: the picture.
        saliency: without ties, which that code orders as its sort happens to.
        step: pixels per step.
        mode: whether pixels enter a blurred picture or leave zeros behind.
    """
    pixels = saliency.size
    steps = (pixels + step - 1) // step
    order = np.flip(np.argsort(saliency.reshape(-1, pixels), axis=1), axis=-1)
    with torch.no_grad():
        predicted = int(module(image).softmax(1).argmax(1).cpu().numpy()[0])
        if mode == "insertion":
            kernel = _rise_kernel(image.shape[1])
            start, finish = F.conv2d(image, kernel, padding=_SIDE // 2), image.clone()
        else:
            start, finish = image.clone(), image * 0
        scores = np.empty(steps + 1)
        for place in range(steps + 1):
            scores[place] = module(start).softmax(1)[0, predicted].item()
            if place < steps:
                changed = order[:, step * place : step * (place + 1)]
                new = finish.cpu().numpy().reshape(1, -1, pixels)[0, :, changed]
                start.cpu().numpy().reshape(1, -1, pixels)[0, :, changed] = new
    return scores


def area(scores: Curve) -> float:
    """Trapezoid rule, as RISE's evaluator has it."""
    return float((scores.sum() - scores[0] / 2 - scores[-1] / 2) / (len(scores) - 1))


def boxes(values: Float[np.ndarray, "H W"], thresholds: Float[np.ndarray, " N"]) -> Int[np.ndarray, "N 4"]:
    """The box of the largest contour at each threshold, as the public WSOL evaluation finds it with OpenCV.

    Args:
        values: a map in [0, 1].
        thresholds: shares of its highest value.
    """
    cv2: Any = import_module("cv2")
    height, width = values.shape
    image = (values * 255).astype(np.uint8)[..., None]
    found = np.full((len(thresholds), 4), -1)
    for place, threshold in enumerate(thresholds):
        _, mask = cv2.threshold(image, int(threshold * np.max(image)), 255, cv2.THRESH_BINARY)
        contours = cv2.findContours(mask, cv2.RETR_TREE, cv2.CHAIN_APPROX_SIMPLE)[0]
        if contours:
            x, y, wide, tall = cv2.boundingRect(max(contours, key=cv2.contourArea))
            found[place] = x, y, min(x + wide, width - 1), min(y + tall, height - 1)
    return found


def attention_loop(
    head: nn.Module, shown: Float[Tensor, "1 K h w"], coefficients: Float[Tensor, " D"] | None
) -> tuple[Float[Tensor, "h w"], float]:
    """L2-CAF by the loop of its PyTorch code: the signed filter, and its loss.

    Plain gradient steps from ones, 0.5 falling evenly to 1e-5 over 1,000, in free variables whose direction is the
    filter; a look every 50 steps, and an end where the loss changed by less than 1e-6 since the last.

    Args:
        head: what comes after the layer, its parameters frozen.
        shown: the layer's activation of one picture.
        coefficients: how much of each output is raised; None to keep the outputs.
    """
    with torch.no_grad():
        normal = head(shown)
    variable = torch.ones(shown.shape[2:], requires_grad=True)
    optimizer = torch.optim.SGD([variable], lr=0.5)

    def judged() -> Tensor:
        outputs: Tensor = head(variable / torch.linalg.vector_norm(variable) * shown)
        apart: Tensor = outputs - normal
        return apart.square().mean() if coefficients is None else -(outputs[0] * coefficients).sum()

    last = float("inf")
    for turn in range(1000):
        loss = judged()
        if turn % 50 == 0:
            if abs(loss.item() - last) < 1e-6:
                break
            last = loss.item()
        optimizer.zero_grad()
        loss.backward()  # type: ignore[no-untyped-call]
        optimizer.param_groups[0]["lr"] = 1e-5 + (0.5 - 1e-5) * (1 - turn / 1000)
        optimizer.step()
    with torch.no_grad():
        return variable / torch.linalg.vector_norm(variable), judged().item()


def _weighted(module: nn.Module, layer: str, image: Tensor, index: int) -> Float[Tensor, "1 K h w"]:
    """Feature maps times their mean gradients, by one backward into all parameters."""
    kept: list[Tensor] = []

    def keep(_module: nn.Module, _inputs: Any, output: Any) -> None:
        kept.append(output.detach().clone())
        output.register_hook(kept.append)

    handle = module.get_submodule(layer).register_forward_hook(keep)
    score = module(image)[:, index].squeeze()
    handle.remove()
    module.zero_grad()
    score.backward()
    activation, gradient = kept
    return activation * gradient.mean((2, 3), keepdim=True)


def _group_cam_blur(image: Tensor) -> Tensor:
    places = torch.arange(-_REACH, _REACH + 1)
    kernel = torch.exp(-(places**2) / (2 * _SIGMA**2))
    channels = image.shape[1]
    weight = (kernel / kernel.sum()).expand(channels, 1, 1, -1)
    padded = F.pad(image, [_REACH] * 4, mode="reflect")
    return F.conv2d(F.conv2d(padded, weight, groups=channels), weight.mT, groups=channels)


def _rise_kernel(channels: int) -> Tensor:
    """Of every channel with itself alone, as a full convolution."""
    point = np.zeros((_SIDE, _SIDE))
    point[_SIDE // 2, _SIDE // 2] = 1
    kernel = import_module("scipy.ndimage").gaussian_filter(point, _SPREAD)
    return torch.eye(channels)[..., None, None] * torch.from_numpy(kernel).float()


def _stretched(values: Tensor) -> Tensor:
    """In [0, 1]; zero where it is constant, for which that code has no map."""
    if values.max() == values.min():
        return torch.zeros_like(values)
    return (values - values.min()) / (values.max() - values.min())


def crisp_mask(
    module: nn.Module, image: Float[Tensor, "1 C H W"], index: int, smooth: int = 300, sharp: int = 150
) -> Float[Tensor, "H W"]:
    """What is kept (1) by the crisp mask of Godi et al., BMVC 2018: Adam on one picture, its mask blurred in numpy.

    The mask's blur replaces what the forward sees and is left out of the gradient.
    """
    size = (image.shape[-2], image.shape[-1])
    behind = crisp_mask_background(image)
    grid = tuple(side // _CELL for side in size)
    y, x = ((torch.arange(side) + 0.5) / side * 2 - 1 for side in grid)
    mask = (y[:, None] ** 2 + x**2 > 1).float()
    for iterations, coarse in ((smooth, True), (sharp, False)):
        mask = mask.clone().requires_grad_()
        optimizer = torch.optim.Adam([mask], lr=0.1)
        for _ in range(iterations):
            full = _as_seen(mask, size) if coarse else mask
            score = module(image * full + behind * (1 - full)).softmax(1)[0, index]
            loss = score + (crisp_mask_price(mask, 0.5, 1e-2, 0.0) if coarse else crisp_mask_price(mask))
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            mask.data.clamp_(0, 1)
        with torch.no_grad():
            mask = _as_seen(mask, size) if coarse else mask
            mask = (mask - mask.min()) / mask.max().clamp_min(1e-12)
            mask = (mask * 255).round() / 255 if coarse else mask
    return mask


def crisp_mask_price(
    mask: Float[Tensor, "H W"], sparsity: float = 0.01, variation: float = 1.0, binary: float = 2.0
) -> Float[Tensor, ""]:
    """What a mask pays besides the score, by default in the sharp stage."""
    edges = sum((mask.diff(dim=axis).abs() ** 3).mean() for axis in (0, 1))
    return sparsity * (1 - mask).abs().mean() + variation * edges + binary * (mask * (1 - mask)).abs().mean()


def crisp_mask_background(image: Float[Tensor, "1 C H W"]) -> Float[Tensor, "1 C H W"]:
    """The picture blurred by a sigma of 10 that is cut after 5 pixels."""
    return _gaussian(image, _BEHIND, _CUT, "reflect")


def _as_seen(mask: Float[Tensor, "h w"], size: tuple[int, int]) -> Float[Tensor, "H W"]:
    """The coarse mask enlarged, and blurred behind the gradient's back."""
    large = F.interpolate(mask[None, None], size, mode="bilinear", align_corners=False)
    soft = _gaussian(large.detach(), _MASK_BLUR, int(3 * _MASK_BLUR), "replicate")
    large.data = torch.from_numpy(soft.numpy())
    return large[0, 0]


def _gaussian(
    image: Float[Tensor, "1 C H W"], sigma: float, reach: int, border: str
) -> Float[Tensor, "1 C H W"]:
    places = torch.arange(-reach, reach + 1)
    kernel = torch.exp(-(places**2) / (2 * sigma**2))
    weight = (kernel / kernel.sum()).expand(image.shape[1], 1, 1, -1)
    for upright in (True, False):
        padding = [0, 0, reach, reach] if upright else [reach, reach, 0, 0]
        padded = F.pad(image, padding, mode=border)
        image = F.conv2d(padded, weight.transpose(2, 3) if upright else weight, groups=image.shape[1])
    return image
