from __future__ import annotations

import numpy as np
import pytest
import torch
from slow import close, linear, network, pairs, pictures

from seewhy import Classes, EigenCAM, EigenGradCAM
from seewhy.explainers.study import Feature


def slow_map(activation, gradient, centre):
    """The whole singular value decomposition, the sign by the sum of the channels."""
    positions = (gradient * activation).reshape(len(activation), -1).T
    if centre:
        positions = positions - positions.mean(0)
    left, values, _ = np.linalg.svd(positions, full_matrices=False)
    found = left[:, 0] * values[0]
    agreement = found @ positions.sum(1)
    if abs(agreement) <= 1e-5 * (np.abs(found) @ np.abs(positions).sum(1)):
        agreement = found[np.abs(found).argmax()]
    return (found * np.sign(agreement)).reshape(activation.shape[1:])


@pytest.mark.parametrize("head", ["pooled linear", "flattened linear", "convolutions"])
@pytest.mark.parametrize("centre", [False, True])
def test_values_are_the_first_component_of_gradient_times_activation(head, centre):
    net, images = network(head), pictures()
    for target in (0, 2):
        activation, gradient, _ = pairs(net, images, target)
        found = EigenGradCAM(layer="features", centre=centre)(net, images, target=target).values[:, 0]
        expected = [slow_map(a, g, centre) for a, g in zip(activation, gradient, strict=True)]
        close(found, np.stack(expected), 1e-4)


def test_on_a_pooled_linear_head_it_is_eigen_cam_of_the_weighted_channels():
    net, images = network("pooled linear"), pictures()
    found = EigenGradCAM(layer="features")(net, images, Classes([0, 3]))
    activation, _, _ = pairs(net, images, 0)
    for place, target in enumerate((0, 3)):
        weight = linear(net).weight.detach()[target].double().numpy()[:, None, None]
        weighted = Feature(torch.from_numpy(weight * activation), None)
        close(found.values[:, place], EigenCAM().formula(weighted)[:, 0] / 25, 1e-4)


def test_it_is_said_where_two_components_are_equally_strong():
    activation = torch.zeros(1, 2, 2, 2)
    activation[0, 0, 0, 0] = activation[0, 1, 1, 1] = 1.0
    feature = Feature(activation, torch.ones(1, 1, 2, 2, 2))
    values = EigenGradCAM().formula(feature)
    assert any("equally strong" in note for note in EigenGradCAM().remarks(feature, values)[0])
    sharper = Feature(activation, torch.tensor([1.0, 0.1])[None, None, :, None, None].expand(1, 1, 2, 2, 2))
    assert not any(
        "equally" in note for note in EigenGradCAM().remarks(sharper, EigenGradCAM().formula(sharper))[0]
    )
