from __future__ import annotations

import numpy as np
import pytest
import torch
from slow import close, linear, network, pairs, pictures, random_feature

from seewhy import LayerCAM
from seewhy.explainers.study import Feature


def slow_map(activation: np.ndarray, gradient: np.ndarray) -> np.ndarray:
    """Jiang et al. 2021: the positive part of the gradient times the activation, cell by cell."""
    channels, height, width = activation.shape
    found = np.zeros((height, width))
    for k in range(channels):
        for i in range(height):
            for j in range(width):
                if gradient[k, i, j] > 0:
                    found[i, j] += gradient[k, i, j] * activation[k, i, j]
    return found


@pytest.mark.parametrize("head", ["pooled linear", "flattened linear", "bias-free relu", "convolutions"])
def test_values_are_what_the_papers_equation_gives_in_float64(head):
    net, images = network(head), pictures()
    activation, gradient, _ = pairs(net, images, 2)
    found = LayerCAM(layer="features")(net, images, target=2).values[:, 0]
    close(found, np.stack([slow_map(a, g) for a, g in zip(activation, gradient, strict=True)]))


def test_on_a_pooled_linear_head_it_keeps_the_positive_weights_only():
    net, images = network("pooled linear"), pictures()
    activation, _, _ = pairs(net, images, 1)
    weights = linear(net).weight.detach()[1].double().clamp_min(0).numpy()
    close(
        LayerCAM(layer="features")(net, images, target=1).values[:, 0],
        np.einsum("k,bkhw->bhw", weights, activation) / 25,
        1e-6,
    )


def test_non_negative_activations_give_a_non_negative_map():
    net, images = network("convolutions"), pictures()
    assert (LayerCAM(layer="features")(net, images, target=1).values >= 0).all()


def test_the_map_and_its_counterfactual_share_the_gradient_between_them():
    feature = random_feature()
    assert feature.gradient is not None
    positive, negative = LayerCAM().formula(feature), LayerCAM(sign=-1).formula(feature)
    hires = torch.einsum("btkhw,bkhw->bthw", feature.gradient, feature.activation)
    close(positive - negative, hires, 1e-13)


def test_layers_are_combined_as_the_paper_does():
    net, images = network("convolutions"), pictures()
    found = LayerCAM(layer=("features.1", "features"))(net, images, target=1)
    scaled = []
    for site in found.maps:
        evidence = found.evidence(site).double()
        scaled.append(torch.tanh(2 * evidence / evidence.amax((-2, -1), keepdim=True)))
    close(found.combined(), torch.maximum(*scaled) / np.tanh(2), 1e-6)


def test_channels_split_into_two_halves_of_the_head_weight_change_nothing():
    feature = random_feature()
    assert feature.gradient is not None
    split = Feature(
        torch.cat([feature.activation, feature.activation], 1),
        torch.cat([feature.gradient, feature.gradient], 2) / 2,
    )
    close(LayerCAM().formula(split), LayerCAM().formula(feature), 1e-13)
