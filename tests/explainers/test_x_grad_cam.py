from __future__ import annotations

import numpy as np
import pytest
import torch
from slow import close, network, pairs, pictures, random_feature
from torch import nn

from seewhy import Classes, HiResCAM, XGradCAM
from seewhy.explainers.study import Feature


def slow_map(activation: np.ndarray, gradient: np.ndarray) -> np.ndarray:
    """Fu et al. 2020, cell by cell; a channel that is zero everywhere has no weight."""
    channels, height, width = activation.shape
    found = np.zeros((height, width))
    for k in range(channels):
        product = total = 0.0
        for i in range(height):
            for j in range(width):
                product += gradient[k, i, j] * activation[k, i, j]
                total += activation[k, i, j]
        if total == 0:
            continue
        for i in range(height):
            for j in range(width):
                found[i, j] += product / total * activation[k, i, j]
    return found


@pytest.mark.parametrize("head", ["pooled linear", "flattened linear", "bias-free relu", "convolutions"])
def test_values_are_what_the_papers_equation_gives_in_float64(head):
    net, images = network(head), pictures()
    activation, gradient, _ = pairs(net, images, 2)
    found = XGradCAM(layer="features")(net, images, target=2).values[:, 0]
    close(found, np.stack([slow_map(a, g) for a, g in zip(activation, gradient, strict=True)]))


@pytest.mark.parametrize("head", ["flattened linear", "convolutions"])
def test_the_map_sums_to_gradient_times_activation_as_hires_cam_does(head):
    net, images, classes = network(head), pictures(), Classes([0, 1, 2, 3])
    ours = XGradCAM(layer="features")(net, images, target=classes).values
    other = HiResCAM(layer="features")(net, images, target=classes).values
    close(ours.sum((-2, -1)), other.sum((-2, -1)))
    assert (ours - other).abs().max() > 0.1 * other.abs().max()


def test_conservation_holds_in_float64_for_signed_activations():
    generator = torch.Generator().manual_seed(5)
    activation = torch.randn(2, 5, 4, 3, generator=generator, dtype=torch.float64) + 0.5
    gradient = torch.randn(2, 3, 5, 4, 3, generator=generator, dtype=torch.float64)
    product = (activation[:, None] * gradient).sum((2, 3, 4))
    close(XGradCAM().formula(Feature(activation, gradient)).sum((-2, -1)), product, 1e-12)


def test_on_a_pooled_linear_head_it_is_hires_cam():
    net, images = network("pooled linear"), pictures()
    close(
        XGradCAM(layer="features")(net, images, target=1).values,
        HiResCAM(layer="features")(net, images, target=1).values,
        2e-6,
    )


def test_a_silent_channel_has_no_weight_and_changes_nothing():
    net, images = network("convolutions"), pictures()
    expected_net = network("convolutions")
    with torch.no_grad():
        for each in (net, expected_net):
            each.features[2].weight[4] = 0
            each.features[2].bias[4] = -1
        net.head[0].weight[:, 4] = 1e4
    found = XGradCAM(layer="features")(net, images, target=1).values
    close(found, XGradCAM(layer="features")(expected_net, images, target=1).values, 1e-6)


def test_a_channel_whose_activations_cancel_has_no_weight():
    feature = random_feature()
    cancelling = torch.zeros_like(feature.activation[:, :1])
    cancelling[:, :, 0, 0], cancelling[:, :, 1, 1] = 3.0, -3.0
    gradient = feature.gradient
    assert gradient is not None
    more = Feature(
        torch.cat([feature.activation, cancelling], 1), torch.cat([gradient, gradient[:, :, :1]], 2)
    )
    close(XGradCAM().formula(more), XGradCAM().formula(feature), 1e-13)


@pytest.mark.parametrize("scale", [2.0**-60, 2.0**-30, 2.0**30])
def test_the_scale_of_the_activations_does_not_matter(scale):
    net, images = network("convolutions"), pictures()
    expected = XGradCAM(layer="features")(net, images, target=1).values

    class Scaled(nn.Module):
        def __init__(self):
            super().__init__()
            self.features, self.head = net.features, net.head
            self.small = nn.Identity()

        def forward(self, x):
            return self.head(self.small(self.features(x) * scale) / scale)

    close(XGradCAM(layer="small")(Scaled(), images, target=1).values, expected, 1e-6)


def test_channels_split_into_two_halves_of_the_head_weight_change_nothing():
    feature = random_feature()
    assert feature.gradient is not None
    split = Feature(
        torch.cat([feature.activation, feature.activation], 1),
        torch.cat([feature.gradient, feature.gradient], 2) / 2,
    )
    close(XGradCAM().formula(split), XGradCAM().formula(feature), 1e-13)
