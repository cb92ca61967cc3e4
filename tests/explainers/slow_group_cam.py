"""Group-CAM's rules one mask after the other, in float64 and by NumPy, and what its tests share."""

from __future__ import annotations

import numpy as np
import torch
import torch.nn.functional as F
from slow import linear, network

import seewhy
from seewhy.explainers.study import Study
from seewhy.targets import as_target

FLOAT32 = {"layer": "features", "precision": "float32"}
SMALL = {**FLOAT32, "groups": 3}


def lively(head, channels=6):
    """A network whose probabilities move with the picture: differences of nearly equal ones are rounding."""
    net = network(head, channels)
    with torch.no_grad():
        linear(net).weight.mul_(20)
    return net


def slow_blur(image, side=51, sigma=50.0):
    """A picture (C, H, W) under a Gaussian kernel with mirrored borders, every pixel as one sum."""
    reach = min(side // 2, image.shape[-1] - 1)
    places = np.arange(-reach, reach + 1)
    kernel = np.exp(-(places[:, None] ** 2 + places[None] ** 2) / (2 * sigma**2))
    kernel /= kernel.sum()
    padded = np.pad(image.double().numpy(), ((0, 0), (reach, reach), (reach, reach)), mode="reflect")
    windows = np.lib.stride_tricks.sliding_window_view(padded, kernel.shape, axis=(1, 2))
    return np.einsum("chwij,ij->chw", windows, kernel)


def enlarged(grid, size):
    return F.interpolate(torch.from_numpy(grid)[None, None], size, mode="bilinear")[0, 0].numpy()


def agrees(found, expected, tolerance=2e-4):
    """Equal up to the tolerance, and to what float32 makes of differences of probabilities."""
    found = np.asarray(found)
    assert found.shape == expected.shape
    assert np.abs(found - expected).max() <= tolerance * np.abs(expected).max() + 2e-7


def stretched(values):
    """N(.), NaN for a constant, as 0 / 0 is."""
    with np.errstate(invalid="ignore"):
        return (values - values.min()) / (values.max() - values.min())


def probability(net, image, target):
    with torch.no_grad():
        return float(net(torch.from_numpy(image)[None])[0].softmax(0)[target])


def contiguous(channels, groups):
    return np.arange(channels) * groups // channels


def slow_groups(activation, weights, labels):
    """ReLU of the sum of each group's weighted maps."""
    weighted = weights[:, None, None] * activation
    return [np.maximum(weighted[labels == label].sum(0), 0) for label in np.unique(labels)]


def slow_paper(net, image, activation, weights, target, labels, share=70, blurred=None):
    """The rule of the paper at the picture's size, before the last N: one mask after the other, in float64."""
    net, x = net.double(), image.double().numpy()
    behind = slow_blur(image) if blurred is None else blurred
    total, alphas = np.zeros(x.shape[1:]), []
    for sums in slow_groups(activation, weights, labels):
        kept = np.where(sums > np.percentile(sums, share), sums, 0) if share is not None else sums
        full = enlarged(kept, x.shape[1:])
        if full.max() == full.min():
            continue
        mask = stretched(full)
        alphas.append(
            probability(net, x * mask + behind * (1 - mask), target) - probability(net, behind, target)
        )
        total += alphas[-1] * mask
    return total, alphas


def slow_reference(net, image, activation, weights, target, groups, skip=False):
    """The rule of the public code since August 2021: NaN where a group is constant, unless it is skipped."""
    net, x, behind = net.double(), image.double().numpy(), slow_blur(image)
    total, without = np.zeros(x.shape[1:]), probability(net, behind, target)
    for sums in slow_groups(activation, weights, contiguous(len(weights), groups)):
        full = enlarged(sums, x.shape[1:])
        mask = stretched(full)
        if skip and np.isnan(mask).any():
            continue
        alpha = max(probability(net, x * mask + behind * (1 - mask), target) - without, 0) * full
        total = total + alpha if not np.isnan(mask).any() else total * np.nan
    return stretched(total)


def alphas(explainer, net, images, target):
    """The weights of the groups (B, T, G)."""
    wrapped = seewhy.Network.of(net)
    with wrapped.prepared(images) as arguments:
        study = Study(wrapped, arguments, as_target(target), "")
        choice = study.layers(explainer.layer)
        explainer.request(study)
        (site,) = choice.calls
        groups = explainer.grouped(study.feature(site, gradient=True))
        return explainer.group_weights(explainer.scored(study, site, groups)[0])
