from __future__ import annotations

import numpy as np
import pytest
import torch
from slow import close, linear, network, pairs, pictures, random_feature

from seewhy import Classes, GradCAM, HiResCAM
from seewhy.explainers.study import Feature


def slow_map(activation: np.ndarray, gradient: np.ndarray) -> np.ndarray:
    """Draelos and Carin 2020: gradient times activation, cell by cell."""
    channels, height, width = activation.shape
    found = np.zeros((height, width))
    for k in range(channels):
        for i in range(height):
            for j in range(width):
                found[i, j] += gradient[k, i, j] * activation[k, i, j]
    return found


@pytest.mark.parametrize("head", ["pooled linear", "flattened linear", "bias-free relu", "convolutions"])
def test_values_are_what_the_papers_equation_gives_in_float64(head):
    net, images = network(head), pictures()
    activation, gradient, _ = pairs(net, images, 2)
    found = HiResCAM(layer="features")(net, images, target=2).values[:, 0]
    close(found, np.stack([slow_map(a, g) for a, g in zip(activation, gradient, strict=True)]))


@pytest.mark.parametrize("head", ["pooled linear", "flattened linear"])
def test_on_an_affine_head_the_map_sums_to_the_score_without_its_bias(head):
    net, images = network(head), pictures()
    found = HiResCAM(layer="features")(net, images, target=Classes([0, 1, 2, 3]))
    close(found.values.sum((-2, -1)), found.scores - linear(net).bias.detach(), 1e-5)
    activation, gradient, scores = pairs(net, images, 3)
    exact = HiResCAM().formula(Feature(torch.from_numpy(activation), torch.from_numpy(gradient)[:, None]))
    close(exact.sum((-3, -2, -1)), scores - float(linear(net).bias[3].detach().double()), 1e-13)


def test_on_a_relu_head_without_biases_the_map_sums_to_the_score():
    net, images = network("bias-free relu"), pictures()
    found = HiResCAM(layer="features")(net, images, target=Classes([0, 1, 2, 3]))
    close(found.values.sum((-2, -1)), found.scores, 1e-5)


def test_on_a_pooled_linear_head_it_is_grad_cam():
    net, images = network("pooled linear"), pictures()
    close(
        HiResCAM(layer="features")(net, images, target=1).values,
        GradCAM(layer="features")(net, images, target=1).values,
        1e-6,
    )


def test_on_a_flattened_linear_head_it_is_not_grad_cam():
    net, images = network("flattened linear"), pictures()
    ours = HiResCAM(layer="features")(net, images, target=1).values
    other = GradCAM(layer="features")(net, images, target=1).values
    assert (ours - other).abs().max() > 0.1 * ours.abs().max()


def test_channels_split_into_two_halves_of_the_head_weight_change_nothing():
    feature = random_feature()
    assert feature.gradient is not None
    split = Feature(
        torch.cat([feature.activation, feature.activation], 1),
        torch.cat([feature.gradient, feature.gradient], 2) / 2,
    )
    close(HiResCAM().formula(split), HiResCAM().formula(feature), 1e-13)
