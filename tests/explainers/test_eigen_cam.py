from __future__ import annotations

import numpy as np
import pytest
import torch
from slow import close, network, pairs, pictures
from torch import nn

from seewhy import Classes, EigenCAM
from seewhy.explainers.study import Feature


class Maps(nn.Module):
    """The pictures themselves as feature maps, then pooled and added."""

    def __init__(self) -> None:
        super().__init__()
        self.maps = nn.Identity()

    def forward(self, x):
        return self.maps(x).mean((2, 3))


def slow_map(activation: np.ndarray, centre: bool) -> np.ndarray:
    """Muhammad and Yeasin 2020 by a full singular value decomposition, with the sign rule of the docs."""
    channels, height, width = activation.shape
    rows = activation.reshape(channels, -1).T.astype(np.float64)
    if centre:
        rows = rows - rows.mean(0)
    _, _, right = np.linalg.svd(rows, full_matrices=True)
    projection = rows @ right[0]
    agreement = projection @ rows.sum(1)
    if abs(agreement) <= 1e-9 * np.abs(projection).sum() * np.abs(rows.sum(1)).max():
        agreement = projection[np.abs(projection).argmax()]
    return (np.sign(agreement) * projection).reshape(height, width)


def of(activation: np.ndarray | torch.Tensor, centre: bool = False) -> torch.Tensor:
    maps = torch.as_tensor(activation).float()
    return EigenCAM(centre=centre).formula(Feature(maps, None))[:, 0]


@pytest.mark.parametrize("centre", [False, True])
@pytest.mark.parametrize(("channels", "grid"), [(40, (3, 4)), (3, (6, 5)), (12, (3, 4)), (2, (1, 9))])
def test_it_is_the_first_component_of_a_full_decomposition(channels, grid, centre):
    generator = np.random.default_rng(channels)
    activation = generator.normal(size=(3, channels, *grid)).clip(0)
    # One strong common pattern, so that the first two components are far apart.
    activation = activation + 3 * generator.normal(size=(3, channels, 1, 1)) * generator.normal(
        size=(3, 1, *grid)
    )
    close(of(activation, centre), np.stack([slow_map(each, centre) for each in activation]), 1e-6)


@pytest.mark.parametrize("preset", ["paper", "reference"])
def test_on_a_network_it_is_the_slow_decomposition_of_its_activations(preset):
    net, images = network("convolutions", channels=30), pictures()
    activation, _, _ = pairs(net, images, 0)
    found = EigenCAM.from_preset(preset, layer="features")(net, images)
    centre = preset == "reference"
    close(found.values[:, 0], np.stack([slow_map(each, centre) for each in activation]))


def test_non_negative_activations_give_a_non_negative_map_when_not_centred():
    activation = np.random.default_rng(1).normal(size=(4, 9, 5, 5)).clip(0)
    assert (of(activation) >= -1e-6).all()


def test_a_centred_map_has_both_signs():
    found = of(np.random.default_rng(1).normal(size=(4, 9, 5, 5)).clip(0), centre=True)
    assert (found.amax((1, 2)) > 0).all()
    assert (found.amin((1, 2)) < 0).all()
    close(found.sum((1, 2)) + 1, torch.ones(4), 1e-4)


@pytest.mark.parametrize("centre", [False, True])
def test_an_orthogonal_mixing_of_the_channels_changes_at_most_the_sign(centre):
    generator = np.random.default_rng(3)
    activation = generator.normal(size=(1, 8, 4, 4)) + 2
    mixing, _ = np.linalg.qr(generator.normal(size=(8, 8)))
    before, after = of(activation, centre)[0], of(np.einsum("lk,bkhw->blhw", mixing, activation), centre)[0]
    close(after.abs(), before.abs(), 1e-5)
    close((before * after).sum().abs(), (before**2).sum(), 1e-5)


def test_an_order_of_the_channels_changes_nothing():
    activation = np.random.default_rng(4).normal(size=(2, 8, 4, 4))
    close(of(activation[:, ::-1].copy(), centre=True), of(activation, centre=True), 1e-5)


def test_a_sign_that_the_channels_leave_open_makes_the_largest_entry_positive():
    pattern = np.array([[1.0, 0.5], [-3.0, 1.5]])
    activation = np.stack([pattern, -pattern])[None]  # the channels add up to nothing
    close(of(activation)[0], -pattern * np.sqrt(2), 1e-6)


def test_one_channel_is_its_own_map_whatever_its_sign():
    activation = np.random.default_rng(5).normal(size=(3, 1, 4, 4))
    close(of(activation), activation[:, 0], 1e-6)


def test_one_position_gives_the_length_of_the_activations_and_nothing_when_centred():
    activation = np.random.default_rng(6).normal(size=(3, 7, 1, 1)).clip(0)
    close(of(activation).flatten(), np.linalg.norm(activation[:, :, 0, 0], axis=1), 1e-6)
    assert (of(activation, centre=True) == 0).all()


def test_two_equally_strong_components_are_noted():
    images = torch.zeros(2, 3, 4, 4)
    images[0, 0, 0, 0] = images[0, 1, 3, 3] = 2.0
    images[1, 0, 0, 0], images[1, 1, 3, 3] = 2.0, 1.0
    found = EigenCAM(layer="maps")(Maps(), images, target=lambda output: output.sum(1))
    assert any("two are equally strong" in note for note in found.notes[0])
    assert not any("two are equally strong" in note for note in found.notes[1])


def test_all_targets_get_the_same_map_without_a_gradient():
    net, images = network("convolutions"), pictures()
    found = EigenCAM(layer="features")(net, images, target=Classes([0, 1, 2]))
    assert found.class_agnostic
    assert found.values.shape == (3, 3, 5, 5)
    assert torch.equal(found.values[:, 0], found.values[:, 2])
    assert found.cost.backwards == 0


def test_the_scale_of_the_activations_is_the_scale_of_the_map():
    activation = np.random.default_rng(7).normal(size=(2, 9, 4, 4))
    close(of(1e-12 * activation), 1e-12 * of(activation), 1e-5)
