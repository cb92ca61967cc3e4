"""Max-sensitivity: on linear models, where it is known, and what it refuses to compare."""

from __future__ import annotations

import math
from dataclasses import replace

import pytest
import torch
from metric_cases import explained, linear, one_number_whatever_the_batches, pictures
from torch import nn

import seewhy
from seewhy.errors import InputError
from seewhy.evaluation.max_sensitivity import MaxSensitivity
from seewhy.explainers.draws import generator, picture_keys

NETWORK = linear(side=9)
IMAGES = pictures(9, side=9)
IDS = [f"{row:02}" for row in range(9)]


def convolutional(seed: int = 0) -> nn.Module:
    torch.manual_seed(seed)
    return nn.Sequential(
        nn.Conv2d(3, 6, 3, padding=1), nn.ReLU(), nn.MaxPool2d(2), nn.Conv2d(6, 8, 3, padding=1), nn.ReLU(),
        nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(8, 4),
    ).eval()  # fmt: skip


def drawn(image, number, seed=0):
    key = picture_keys(image[None])[0]
    return 2 * torch.rand(image.shape, generator=generator(key, seed, 1 + number)) - 1


def test_the_gradient_of_a_linear_model_does_not_change() -> None:
    found = seewhy.Gradient()(NETWORK, IMAGES, target=1)
    assert MaxSensitivity()(NETWORK, IMAGES, found).value == 0


@pytest.mark.parametrize("radius", [0.02, 0.1])
def test_gradient_times_input_of_a_linear_model_changes_as_the_weighted_noise_does(radius) -> None:
    found = seewhy.InputXGradient()(NETWORK, IMAGES, target=1)
    result = MaxSensitivity(radius=radius, samples=4)(NETWORK, IMAGES, found, ids=IDS)
    weight = NETWORK.linear.weight.detach()[1].view(3, 9, 9)
    for row, image in enumerate(IMAGES):
        changes = [
            float((weight * radius * drawn(image, n)).norm() / (weight * image).norm()) for n in range(4)
        ]
        assert result.values[row].item() == pytest.approx(max(changes), rel=1e-4)
        assert result.table.data[row, 1].item() == pytest.approx(sum(changes) / 4, rel=1e-4)


def test_maps_are_made_again_with_their_settings_class_and_layer() -> None:
    network = convolutional()
    given = seewhy.GradCAM(layer="0", sign=-1)(network, IMAGES, target=[row % 4 for row in range(9)])
    result = MaxSensitivity(samples=3, radius=0.3)(network, IMAGES, given, ids=IDS)
    assert result.undefined == 0
    for row in (0, 5):
        image, values = IMAGES[row], given.values[row, 0]
        changes = []
        for number in range(3):
            noisy = (image + 0.3 * drawn(image, number))[None]
            other = seewhy.GradCAM(layer="0", sign=-1)(network, noisy, target=row % 4).values[0, 0]
            changes.append(float((other - values).norm() / values.norm()))
        assert result.values[row].item() == pytest.approx(max(changes), rel=1e-4)


@pytest.mark.parametrize("method", [seewhy.GradCAM(), seewhy.SmoothGrad(samples=3), seewhy.InputXGradient()])
def test_one_number_results_whatever_the_batches(method) -> None:
    network = convolutional()
    given = method(network, IMAGES, target=seewhy.Classes([0, 2]))
    one_number_whatever_the_batches(MaxSensitivity(samples=3, radius=0.1), network, IMAGES, given)


def test_nothing_about_the_network_changes() -> None:
    network = convolutional().train()
    before = {name: each.clone() for name, each in network.state_dict().items()}
    MaxSensitivity(samples=2)(network, IMAGES, seewhy.GradCAM()(network, IMAGES))
    assert all(torch.equal(each, before[name]) for name, each in network.state_dict().items())
    assert network.training
    assert all(each.grad is None for each in network.parameters())


def test_the_answer_of_a_single_logit_is_held_though_the_copies_answer_otherwise() -> None:
    class One(nn.Module):
        def forward(self, x):
            return x.mean((1, 2, 3))[:, None]

    images = IMAGES - IMAGES.mean((1, 2, 3), keepdim=True)  # answers on the edge
    given = seewhy.InputXGradient()(One(), images, target=1)
    found = MaxSensitivity(samples=3)(One(), images, given)
    assert found.undefined == 0


def test_other_inputs_stay_those_of_the_picture() -> None:
    class Two(nn.Module):
        def __init__(self):
            super().__init__()
            self.inner = linear(side=9)

        def forward(self, x, shift):
            return self.inner(x) * shift[:, None]

    inputs = (IMAGES, torch.arange(1.0, 10))
    given = seewhy.InputXGradient()(Two(), inputs, target=0)
    alone = seewhy.InputXGradient()(linear(side=9), IMAGES, target=0)
    metric = MaxSensitivity(samples=2)
    found, expected = metric(Two(), inputs, given), metric(linear(side=9), IMAGES, alone)
    torch.testing.assert_close(found.values, expected.values, atol=1e-5, rtol=1e-5)


def test_a_map_of_something_else_than_the_logit_cannot_be_compared() -> None:
    network = convolutional()
    probability = seewhy.GradCAM()(network, IMAGES, target=seewhy.Probability(1))
    found = MaxSensitivity(samples=2)(network, IMAGES, probability)
    assert found.undefined == 9
    assert "explained again, the picture has another map" in next(iter(found.remarks.values()))
    other = seewhy.GradCAM()(convolutional(seed=1), IMAGES, target=1)
    assert MaxSensitivity(samples=2)(network, IMAGES, other).undefined == 9


def test_maps_of_zeros_and_maps_not_finite_are_undefined_and_say_why() -> None:
    weight = NETWORK.linear.weight.detach().clone()
    network = linear(side=9)
    network.linear.weight.data[2] = 0
    found = seewhy.Gradient()(network, IMAGES[:2], target=2)
    zero = MaxSensitivity(samples=2)(network, IMAGES[:2], found)
    assert list(zero.remarks.values()) == ["the map is zero everywhere"] * 2
    assert zero.undefined == 2
    found = seewhy.Gradient()(NETWORK, IMAGES[:2], target=0)
    site = next(iter(found.maps))
    found.maps[site][0, 0, 0, 0, 0] = math.nan
    broken = MaxSensitivity(samples=2)(NETWORK, IMAGES[:2], found, ids=IDS[:2])
    assert broken.defined.tolist() == [False, True]
    assert torch.equal(weight, NETWORK.linear.weight)


def test_what_cannot_be_made_again_is_refused() -> None:
    with pytest.raises(InputError, match="no method is called 'by-hand'"):
        MaxSensitivity()(NETWORK, IMAGES, explained(torch.rand(9, 9, 9)))
    found = seewhy.Gradient()(NETWORK, IMAGES, target=0)
    with pytest.raises(InputError, match="gradient does not take the settings"):
        MaxSensitivity()(NETWORK, IMAGES, replace(found, settings={"sign": 3}))
    with pytest.raises(InputError, match="which are no classes of"):
        MaxSensitivity()(NETWORK, IMAGES, seewhy.Gradient()(NETWORK, IMAGES, target=seewhy.Contrast(0, 1)))


def test_a_radius_in_pixels_is_what_the_preprocess_makes_of_it() -> None:
    preprocess = seewhy.Preprocess(mean=(0.5, 0.5, 0.5), std=(0.25, 0.25, 0.25))
    network = seewhy.Network(NETWORK, preprocess=preprocess)
    found = seewhy.InputXGradient()(network, IMAGES, target=0)
    pixels = MaxSensitivity(samples=2, radius=0.01, units="pixel")(network, IMAGES, found)
    inputs = MaxSensitivity(samples=2, radius=0.04)(network, IMAGES, found)
    torch.testing.assert_close(pixels.values, inputs.values, atol=0, rtol=1e-5)
    with pytest.raises(InputError, match="or take units='input'"):
        MaxSensitivity(units="pixel")(NETWORK, IMAGES, found)
