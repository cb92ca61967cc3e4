from __future__ import annotations

import copy

import numpy as np
import pytest
import torch
from slow import close, features, linear, network, pairs, pictures, random_feature
from torch import nn

from seewhy import CAM, Classes, Contrast, GradCAM, HiResCAM, LogProbability, Probability
from seewhy.explainers.study import Feature


def slow_map(activation: np.ndarray, gradient: np.ndarray) -> np.ndarray:
    """Selvaraju et al. 2017, equations 1 and 2 without the ReLU, cell by cell."""
    channels, height, width = activation.shape
    found = np.zeros((height, width))
    for k in range(channels):
        total = 0.0
        for i in range(height):
            for j in range(width):
                total += gradient[k, i, j]
        for i in range(height):
            for j in range(width):
                found[i, j] += total / (height * width) * activation[k, i, j]
    return found


@pytest.mark.parametrize("head", ["pooled linear", "flattened linear", "bias-free relu", "convolutions"])
def test_values_are_what_the_papers_equation_gives_in_float64(head):
    net, images = network(head), pictures()
    activation, gradient, scores = pairs(net, images, 2)
    found = GradCAM(layer="features")(net, images, target=2)
    close(found.values[:, 0], np.stack([slow_map(a, g) for a, g in zip(activation, gradient, strict=True)]))
    close(found.scores[:, 0], scores)


def test_it_is_cam_over_the_number_of_positions_on_a_pooled_linear_head():
    net, images, classes = network("pooled linear"), pictures(), Classes([0, 3])
    cam = CAM(layer="features")(net, images, target=classes).values
    grad_cam = GradCAM(layer="features")(net, images, target=classes).values
    close(grad_cam, cam / 25, 1e-6)  # one rounding per addition in float32
    weights = linear(net).weight.detach()[[0, 3]].double()
    exact = torch.einsum("tk,bkhw->bthw", weights, torch.from_numpy(pairs(net, images, 0)[0]))
    close(grad_cam, exact / 25, 1e-6)


def test_in_float64_it_is_cam_over_the_number_of_positions_to_the_last_bits():
    feature = random_feature(grid=(4, 3))
    weights = torch.randn(3, 5, dtype=torch.float64, generator=torch.Generator().manual_seed(3))
    pooled = Feature(feature.activation, (weights / 12)[None, :, :, None, None].expand(2, 3, 5, 4, 3))
    cam = torch.einsum("tk,bkhw->bthw", weights, feature.activation)
    close(GradCAM().formula(pooled), cam / 12, 1e-14)
    close(CAM().formula(pooled), cam, 1e-14)


def test_on_a_pooled_linear_head_the_sum_before_the_relu_is_the_score_without_its_bias():
    net, images = network("pooled linear"), pictures()
    found = GradCAM(layer="features")(net, images, target=Classes([0, 1, 2, 3]))
    close(found.values.sum((-2, -1)), found.scores - linear(net).bias.detach(), 1e-5)
    activation, gradient, scores = pairs(net, images, 1)
    exact = GradCAM().formula(Feature(torch.from_numpy(activation), torch.from_numpy(gradient)[:, None]))
    close(exact.sum((-3, -2, -1)), scores - float(linear(net).bias[1].detach().double()), 1e-13)


def test_channel_weights_are_what_finite_differences_of_the_score_say():
    net, images = network("convolutions"), pictures(1)
    activation, gradient, _ = pairs(net, images, 1)
    slow = copy.deepcopy(net).double()
    step, found = 1e-4, []
    for k in range(6):
        scores = []
        for sign in (1, -1):
            moved = torch.from_numpy(activation).clone()
            moved[:, k] += sign * step
            scores.append(float(slow.head(moved)[0, 1].detach()))
        found.append((scores[0] - scores[1]) / (2 * step) / 25)
    weights = np.array(found)
    # The head is piecewise linear: a step this small crosses no kink here, so the quotient is exact but for
    # cancellation.
    close(weights, gradient[0].mean((-2, -1)), 1e-8)
    values = GradCAM(layer="features")(net, images, target=1).values[0, 0]
    close(values, np.einsum("k,khw->hw", weights, activation[0]))


def test_evidence_is_rectified_on_the_layers_grid_and_then_upsampled():
    net, images = network("convolutions"), pictures()
    found = GradCAM(layer="features")(net, images, target=1)
    assert (found.values < 0).any()
    expected = torch.nn.functional.interpolate(
        found.values.clamp_min(0), (16, 16), mode="bilinear", align_corners=False
    )
    assert torch.equal(found.evidence(), expected)


def test_contrast_is_the_difference_of_the_two_classes_maps():
    net, images = network("convolutions"), pictures()
    both = GradCAM(layer="features")(net, images, target=Classes([2, 0])).values
    contrast = GradCAM(layer="features")(net, images, target=Contrast(2, 0)).values
    close(contrast[:, 0], both[:, 0] - both[:, 1])


def test_the_score_may_be_any_scalar_of_the_output():
    net, images = network("convolutions"), pictures()

    def energy(output):
        return (output**2).sum(1) + output[:, 0]

    activation, gradient, _ = pairs(net, images, energy)
    found = GradCAM(layer="features")(net, images, target=energy).values[:, 0]
    close(found, np.stack([slow_map(a, g) for a, g in zip(activation, gradient, strict=True)]))


def test_a_log_probabilitys_map_is_the_probabilitys_over_the_probability():
    net, images = network("convolutions"), pictures()
    probability = GradCAM(layer="features")(net, images, target=Probability(1))
    logarithm = GradCAM(layer="features")(net, images, target=LogProbability(1))
    close(logarithm.values, probability.values / probability.scores[:, :, None, None], 1e-4)


def test_channels_split_into_two_halves_of_the_head_weight_change_nothing():
    feature = random_feature()
    assert feature.gradient is not None
    split = Feature(
        torch.cat([feature.activation, feature.activation], 1),
        torch.cat([feature.gradient, feature.gradient], 2) / 2,
    )
    close(GradCAM().formula(split), GradCAM().formula(feature), 1e-13)


def test_one_position_is_enough():
    net = nn.Sequential(features(), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(6, 3))
    found = GradCAM(layer="1")(net, pictures(), target=1)
    assert found.values.shape == (3, 1, 1, 1)
    close(found.values.flatten(), (found.scores - net[3].bias[1].detach()).flatten(), 1e-5)
    assert all("constant map" in notes for notes in found.notes)
    close(found.values, HiResCAM(layer="1")(net, pictures(), target=1).values, 1e-6)
