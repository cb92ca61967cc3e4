"""Infidelity: on linear models, where it is known, and by a loop."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from metric_cases import (
    Linear,
    explained,
    linear,
    maps_of_all_kinds,
    one_number_whatever_the_batches,
    pictures,
)
from pydantic import ValidationError
from torch import nn

import seewhy
from seewhy.evaluation.infidelity import Infidelity
from seewhy.explainers.draws import generator, picture_keys

NETWORK = linear(side=9).requires_grad_(False)
WEIGHT = NETWORK.linear.weight.view(3, 3, 9, 9)
PERTURBATIONS = ["gaussian", "square"]


class Curved(nn.Module):
    """Logits that no map foretells fully."""

    def forward(self, x):
        return torch.stack([(x**2).sum((1, 2, 3)), x.sum((1, 2, 3)).sin()], 1)


def play(images, maps, network=NETWORK, labels="0", **settings):
    metric = Infidelity(**{"samples": 20, **settings})
    found = explained(maps, labels, size=tuple(images.shape[2:]))
    return metric(network, images, found, ids=[f"{place:02}" for place in range(len(images))])


@pytest.mark.parametrize("perturbation", PERTURBATIONS)
def test_the_gradient_of_a_linear_model_is_faithful_and_zeros_have_the_mean_squared_change(
    perturbation,
) -> None:
    images = pictures(3, side=9)
    gradient = seewhy.Gradient()(NETWORK, images, target=1)
    metric = Infidelity(samples=20, perturbation=perturbation)
    assert metric(NETWORK, images, gradient).value.item() == pytest.approx(0, abs=1e-9)
    nothing = metric(NETWORK, images, explained(torch.zeros(3, 9, 9), "1"))
    assert nothing.value.item() == pytest.approx(nothing.details["change"].item())
    assert nothing.value > 1e-3
    assert nothing.details["explained"] == 0


def test_the_mean_squared_change_of_noise_is_its_variance_times_that_of_the_weights() -> None:
    found = play(pictures(4, side=9), torch.zeros(4, 9, 9), samples=500, noise=0.3)
    assert found.value.item() == pytest.approx(0.09 * WEIGHT[0].square().sum().item(), rel=0.1)


@pytest.mark.parametrize("baseline", ["zero", "blur"])
def test_gradient_times_difference_is_summed_over_the_square(baseline) -> None:
    images = pictures(3, side=9)
    behind = torch.zeros_like(images)
    if baseline == "blur":
        behind = seewhy.evaluation.perturbed.substituted(seewhy.Network(NETWORK), images, "blur")
    settings = {"perturbation": "square", "baseline": baseline, "multiplied": True}
    added = WEIGHT[0] * (images - behind)
    assert play(images, added.sum(1), **settings).value.item() == pytest.approx(0, abs=1e-9)
    assert play(images, added.sum(1), **{**settings, "multiplied": False}).value > 1e-3
    split = explained(added[:, None, 0])
    split = seewhy.explanation.replace(split, maps=dict.fromkeys(split.maps, added[:, None]))
    assert Infidelity(samples=20, **settings)(NETWORK, images, split).value.item() == pytest.approx(
        0, abs=1e-9
    )


def test_the_number_is_that_of_a_loop() -> None:
    images = pictures(2, side=9)
    maps = torch.randn(2, 1, 3, 3, generator=torch.Generator().manual_seed(0))
    found = play(images, maps, Curved(), samples=6, scaled=False)
    module = Curved()
    for row, key in enumerate(picture_keys(images)):
        large = torch.nn.functional.interpolate(maps[row : row + 1], (9, 9), mode="bilinear")[0, 0]
        foretold, changes = [], []
        for number in range(6):
            taken = 0.1 * torch.randn(3, 9, 9, generator=generator(key, 0, 1 + number))
            foretold.append(float((taken * large).sum()))
            changes.append(float(module(images[[row]])[0, 0] - module((images[row] - taken)[None])[0, 0]))
        p, d = np.array(foretold), np.array(changes)
        assert found.values[row].item() == pytest.approx(((p - d) ** 2).mean(), rel=1e-4)
        scale = (p * d).mean() / (p**2).mean()
        assert found.details["scale"][row].item() == pytest.approx(scale, rel=1e-4)
        left = ((scale * p - d) ** 2).mean() / (d**2).mean()
        scaled = play(images, maps, Curved(), samples=6, scaled=True)
        assert scaled.values[row].item() == pytest.approx(left, rel=1e-4)


def test_a_scaled_map_is_as_faithful_as_the_map_and_one_that_fits_is_faithful() -> None:
    images = pictures(3, side=9)
    weight = torch.randn(2, 1, 9, 9, generator=torch.Generator().manual_seed(2)).expand(-1, 3, -1, -1)
    network = Linear(weight / 9)
    maps = weight[:1, 0].expand(3, -1, -1)
    assert play(images, 100 * maps, network, scaled=True).value.item() == pytest.approx(0, abs=1e-9)
    assert play(images, 100 * maps, network).value > 1
    other = torch.rand(3, 9, 9)
    one, more = (play(images, factor * other, Curved(), scaled=True) for factor in (1, 50))
    torch.testing.assert_close(one.values, more.values, atol=1e-6, rtol=0)
    assert one.details["explained"].item() == pytest.approx(1 - one.value.item())


@pytest.mark.parametrize("preset", Infidelity.presets)
def test_one_number_results_whatever_the_batches(preset) -> None:
    images, maps = pictures(9, side=9), maps_of_all_kinds(9, side=9, targets=2)
    labels = [["0", "2"]] * 9
    metric = Infidelity.from_preset(preset, samples=20)
    one_number_whatever_the_batches(metric, NETWORK, images, explained(maps, labels))


def test_maps_that_say_nothing_have_a_number_and_those_not_finite_none() -> None:
    maps = torch.zeros(4, 9, 9)
    maps[1], maps[2, 4, 4], maps[3, 0, 0] = 1, 1, math.inf
    found = play(pictures(4, side=9), maps, scaled=True)
    assert found.defined.tolist() == [True, True, True, False]
    assert found.values[0] == 1
    deaf = play(pictures(1, side=9), maps[:1], Linear(torch.zeros(2, 3, 9, 9)), scaled=True)
    assert (deaf.undefined, list(deaf.remarks.values())) == (1, ["no perturbation changes the score"])
    assert play(pictures(1, side=9), maps[:1], Linear(torch.zeros(2, 3, 9, 9))).value == 0


def test_squares_lie_within_the_picture_and_noise_cannot_be_summed_over() -> None:
    seen = []

    class Spy(nn.Module):
        def forward(self, x):
            seen.append(x.clone())
            return x.flatten(1)[:, :2]

    play(torch.ones(1, 3, 9, 12), torch.rand(1, 9, 12), Spy(), perturbation="square", side=4, samples=600)
    covered = torch.cat(seen) == 0
    covered = covered[covered.any(1).any(1).any(1)]
    assert len(covered) == 600
    assert (covered.sum((2, 3)) == 16).all()
    assert covered.any(0).all()  # every pixel, once at least
    with pytest.raises(ValidationError, match="take perturbation='square'"):
        Infidelity(multiplied=True)
