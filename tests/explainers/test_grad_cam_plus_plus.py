from __future__ import annotations

import numpy as np
import pytest
import torch
from slow import close, linear, network, pairs, pictures, random_feature
from torch import nn

from seewhy import GradCAMPlusPlus, Probability
from seewhy.explainers.study import Feature


def slow_map(activation: np.ndarray, gradient: np.ndarray) -> np.ndarray:
    """Chattopadhyay et al. 2018, equation 19 as printed: squares and cubes of the gradient, cell by cell."""
    channels, height, width = activation.shape
    found = np.zeros((height, width))
    for k in range(channels):
        total = sum(activation[k, i, j] for i in range(height) for j in range(width))
        weight = 0.0
        for i in range(height):
            for j in range(width):
                g = gradient[k, i, j]
                if g > 0:
                    weight += g**2 / (2 * g**2 + total * g**3) * g
        for i in range(height):
            for j in range(width):
                found[i, j] += weight * activation[k, i, j]
    return found


@pytest.mark.parametrize("head", ["pooled linear", "flattened linear", "bias-free relu", "convolutions"])
def test_values_are_what_the_papers_equation_gives_in_float64(head):
    net, images = network(head), pictures()
    activation, gradient, _ = pairs(net, images, 2)
    found = GradCAMPlusPlus(layer="features")(net, images, target=2).values[:, 0]
    close(found, np.stack([slow_map(a, g) for a, g in zip(activation, gradient, strict=True)]))


def test_the_formula_is_the_papers_with_derivatives_of_exp_of_the_score():
    """The general equation with Y = exp(y): first, second and third derivatives, one activation at a time."""
    generator = torch.Generator().manual_seed(2)
    first, bias = (
        torch.randn(7, 18, generator=generator).double(),
        torch.randn(7, generator=generator).double(),
    )
    last = torch.randn(7, generator=generator).double()

    def score(maps):
        return torch.relu(first @ maps.flatten() + bias) @ last + 0.3

    activation = torch.randn(2, 3, 3, generator=generator).double().clamp_min(0).requires_grad_()
    y = torch.exp(score(activation))
    weights = torch.zeros(2, dtype=torch.float64)
    (once,) = torch.autograd.grad(y, activation, create_graph=True)
    for k in range(2):
        for i in range(3):
            for j in range(3):
                (second,) = torch.autograd.grad(once[k, i, j], activation, create_graph=True)
                (third,) = torch.autograd.grad(second[k, i, j], activation, retain_graph=True)
                d1, d2, d3 = once[k, i, j].detach(), second[k, i, j].detach(), third[k, i, j]
                alpha = d2 / (2 * d2 + activation[k].detach().sum() * d3) if d1 != 0 else 0.0
                weights[k] += alpha * d1.clamp_min(0)
    maps = activation.detach()
    expected = torch.einsum("k,khw->hw", weights / y.detach(), maps)  # exp(y) is a common scale

    (gradient,) = torch.autograd.grad(score(activation), activation)
    found = GradCAMPlusPlus().formula(Feature(maps[None], gradient[None, None]))[0, 0]
    close(found, expected, 1e-8)


def test_on_a_pooled_linear_head_channel_weights_have_a_closed_form():
    net, images = network("pooled linear"), pictures()
    activation, _, _ = pairs(net, images, 1)
    weights = linear(net).weight.detach()[1].double().numpy()
    expected = np.zeros((3, 5, 5))
    for b in range(3):
        for k in range(6):
            mean = activation[b, k].mean()
            expected[b] += activation[b, k] * max(weights[k], 0) / (2 + weights[k] * mean)
    close(GradCAMPlusPlus(layer="features")(net, images, target=1).values[:, 0], expected, 2e-6)


def test_gradients_too_small_to_be_squared_in_float32_do_not_vanish():
    feature = random_feature()
    assert feature.gradient is not None
    tiny = Feature(feature.activation.float(), feature.gradient.float() * 1e-30)
    # g S_k vanishes beside 2, so alpha is one half wherever the gradient is positive
    weights = 0.5 * feature.gradient.clamp_min(0).sum((-2, -1)) * 1e-30
    close(GradCAMPlusPlus().formula(tiny), torch.einsum("btk,bkhw->bthw", weights, feature.activation), 1e-6)


def test_the_scale_of_the_score_changes_the_map():
    net, images = network("convolutions"), pictures()
    method = GradCAMPlusPlus(layer="features")
    once = method(net, images, target=lambda output: output[:, 1]).heatmaps()
    often = method(net, images, target=lambda output: 50 * output[:, 1]).heatmaps()
    assert (once - often).abs().max() > 0.01


def test_a_saturated_probability_has_half_the_sum_of_its_gradients_as_weights():
    net, images = network("convolutions"), pictures()
    with torch.no_grad():
        linear(net).bias[2] += 8
    activation, gradient, _ = pairs(net, images, lambda output: output.softmax(1)[:, 2])
    expected = np.einsum("bk,bkhw->bhw", 0.5 * gradient.clip(0).sum((-2, -1)), activation)
    found = GradCAMPlusPlus(layer="features")(net, images, target=Probability(2)).values[:, 0]
    # float32 softmax near 1 keeps few digits of its gradient
    close(found, expected, 1e-2)


def test_channels_split_into_two_halves_of_the_head_weight_change_the_map():
    feature = random_feature()
    assert feature.gradient is not None
    split = Feature(
        torch.cat([feature.activation, feature.activation], 1),
        torch.cat([feature.gradient, feature.gradient], 2) / 2,
    )
    before, after = GradCAMPlusPlus().formula(feature), GradCAMPlusPlus().formula(split)
    assert (before - after).abs().max() > 0.01 * before.abs().max()


def test_a_vanishing_denominator_under_negative_activations_is_clamped_and_noted():
    class Signed(nn.Module):
        def __init__(self):
            super().__init__()
            self.maps = nn.Identity()

        def forward(self, x):
            return self.maps(x).mean((2, 3)) @ torch.ones(1, 1)

    # K = 1, g = 1/4 everywhere: 2 + g S = 0 where S = -8
    images = torch.tensor([[[[-1.0, -2.0], [-2.0, -3.0]]], [[[1.0, 2.0], [2.0, 3.0]]]])
    found = GradCAMPlusPlus(layer="maps")(Signed(), images, target=lambda output: output[:, 0])
    assert torch.isfinite(found.values).all()
    assert any("unstable denominator" in note for note in found.notes[0])
    assert not any("unstable denominator" in note for note in found.notes[1])
    close(found.values[0, 0], 1000 * images[0, 0])  # four gradients of 1/4, over 1e-3
    close(found.values[1, 0], images[1, 0] / 4)  # four gradients of 1/4, over 2 + 8/4
