from __future__ import annotations

import numpy as np
import pytest
import torch
from slow import close, network, pictures
from torch import nn

from seewhy import Occlusion


def linear_score(size=12, seed=0):
    torch.manual_seed(seed)
    return nn.Sequential(nn.Flatten(), nn.Linear(3 * size * size, 2)), pictures(2, size=size)


def weights(net, size=12):
    return net[1].weight.detach()[1].view(3, size, size).double().numpy()


def slow_map(net, image, target, window, stride, join="mean"):
    """Window by window, in float64."""
    net = net.double()
    height, width = image.shape[-2:]
    starts = [sorted({*range(0, side - window, stride), side - window}) for side in (height, width)]
    total, count = np.zeros((height, width)), np.zeros((height, width))
    with torch.no_grad():
        clean = float(net(image.double()[None])[0, target])
        for top in starts[0]:
            for left in starts[1]:
                covered = image.double().clone()
                covered[:, top : top + window, left : left + window] = 0
                lost = clean - float(net(covered[None])[0, target])
                total[top : top + window, left : left + window] += lost
                count[top : top + window, left : left + window] += 1
    return total / count if join == "mean" else total


@pytest.mark.parametrize("join", ["mean", "sum"])
@pytest.mark.parametrize(("window", "stride"), [(4, 2), (5, 3), (7, 7)])
def test_values_are_those_of_windows_covered_one_by_one(window, stride, join):
    net, images = network("convolutions"), pictures(2)
    found = Occlusion(window=window, stride=stride, join=join, precision="float32")(net, images, target=1)
    expected = [slow_map(net, image, 1, window, stride, join) for image in images]
    close(found.values[:, 0], np.stack(expected), 1e-4)


def test_single_pixels_of_a_linear_score_give_weight_times_picture():
    net, images = linear_score()
    found = Occlusion(window=1, stride=1, precision="float32")(net, images, target=1)
    close(found.values[:, 0], (images.double().numpy() * weights(net)).sum(1), 1e-4)


def test_a_window_as_large_as_the_picture_gives_one_number():
    net, images = linear_score()
    found = Occlusion(window=12, stride=12, precision="float32")(net, images, target=1)
    with torch.no_grad():
        lost = net.double()(images.double())[:, 1] - net(torch.zeros_like(images).double())[:, 1]
    close(found.values[:, 0], lost[:, None, None].expand(-1, 12, 12), 1e-5)


def test_the_baseline_stands_where_the_window_was():
    net, images = linear_score()
    flat = images.mean((-2, -1), keepdim=True)
    found = Occlusion(window=1, stride=1, baseline="mean", precision="float32")(net, images, target=1)
    close(found.values[:, 0], ((images - flat).double().numpy() * weights(net)).sum(1), 1e-4)


def test_windows_further_apart_than_they_are_wide_leave_zeros_between():
    net, images = linear_score()
    found = Occlusion(window=2, stride=5, precision="float32")(net, images, target=1).values
    assert (found[:, :, 3] == 0).all()
    assert torch.isfinite(found).all()


def test_by_default_the_windows_fit_the_picture():
    net, images = network("pooled linear"), pictures(1, size=28)
    cost = Occlusion(precision="float32")(net, images, target=0).cost
    assert cost.forwards == 1 + 1 + 25 * 25  # the picture, the picture uncovered, windows of 4 at steps of 1
