"""Layer integrated gradients: complete per element of the layer, with nothing but the head run at each step."""

from __future__ import annotations

import copy
from typing import Any

import numpy as np
import pytest
import torch
from paths import each, visited
from slow import close, network, pictures
from torch import nn

from seewhy import Classes, HiResCAM, LayerIntegratedGradients, Network, explain_all
from seewhy.explainers.base import Workload
from seewhy.explainers.integrated_gradients import quadrature

HEADS = ["pooled linear", "flattened linear", "bias-free relu", "convolutions"]
AT_50, AT_2000 = 5e-3, 1e-4


def layer_ig(**settings: Any) -> LayerIntegratedGradients:
    return LayerIntegratedGradients(**{"layer": "features", **settings})


def slow_integral(net, image, rule="midpoint", steps=50, score=2) -> tuple[np.ndarray, float]:
    """The integral per element (K, h, w) and the change of the score, the head differentiated step by step."""
    ends, _, scores = visited(net, torch.zeros_like(image), image, [0.0, 1.0], score)
    begin, end = (torch.from_numpy(end)[None] for end in ends)
    head, total = copy.deepcopy(net.head).double(), 0.0
    for point, weight in torch.stack(quadrature(rule, steps), 1).tolist():
        leaf = (begin + point * (end - begin)).requires_grad_()
        head(leaf)[:, score].sum().backward()
        total = total + weight * leaf.grad
    return ((end - begin) * total)[0].numpy(), scores[1] - scores[0]


@pytest.mark.parametrize("head", HEADS)
@pytest.mark.parametrize("rule", ["midpoint", "left", "trapezoid", "gauss-legendre"])
def test_values_are_the_integral_in_float64_summed_over_the_channels(head, rule):
    net, images = network(head), pictures()
    found = layer_ig(steps=6, rule=rule)(net, images, target=2)
    close(found.values[:, 0], each(images, lambda image: slow_integral(net, image, rule, 6)[0].sum(0)))


@pytest.mark.parametrize("head", ["pooled linear", "flattened linear"])
def test_on_an_affine_head_one_step_is_the_gradient_times_the_difference(head):
    net, images = network(head), pictures()
    found = layer_ig(steps=1)(net, images, target=2).values
    plain = HiResCAM(layer="features")
    empty = plain(net, torch.zeros(1, 3, 16, 16), target=2).values
    close(found, plain(net, images, target=2).values - empty, 1e-5)
    change = (net(images) - net(torch.zeros(1, 3, 16, 16)))[:, 2].detach()
    close(found.sum((1, 2, 3)), change, 1e-5)


@pytest.mark.parametrize("head", ["bias-free relu", "convolutions"])
@pytest.mark.parametrize("seed", range(15))
def test_fifty_steps_close_the_gap_on_small_networks_of_relus(head, seed):
    net, images = network(head, seed=seed).double(), pictures(2, seed=seed + 50)
    found = layer_ig()(net, images, target=2).values.sum((1, 2, 3))
    for image, total in zip(images, found, strict=True):
        exact, change = slow_integral(net, image)
        assert abs(float(total) - change) <= AT_50 * np.abs(exact).sum()


@pytest.mark.parametrize("seed", range(3))
def test_two_thousand_steps_close_it_further(seed):
    net, images = network("bias-free relu", seed=seed).double(), pictures(1, seed=seed + 50)
    found = float(layer_ig(steps=2000)(net, images, target=2).values.sum())
    exact, change = slow_integral(net, images[0])
    assert abs(found - change) <= AT_2000 * np.abs(exact).sum()


def test_it_takes_two_passes_of_the_trunk_and_one_of_the_head_per_step():
    net, images = network("bias-free relu"), pictures(2)
    method = layer_ig(steps=40)
    method(net, images, Classes([0, 1]))
    trunk, head = [], []
    handles = [
        net.features[0].register_forward_hook(lambda m, i, output: trunk.append(len(output))),
        net.head[-1].register_forward_hook(lambda m, i, output: head.append(len(output))),
    ]
    found = method(net, images, Classes([0, 1]))
    for handle in handles:
        handle.remove()
    assert sum(trunk) == 2 * 2 == found.cost.forwards
    # At each step, at the way's begin, and in the two passes.
    assert sum(head) == 2 * (40 + 1 + 2)
    assert found.cost.replays == 2 * 41
    assert found.cost.backwards == 2 * 40 * 2
    assert found.cost.within(method.plan(Workload(2, 2, ((16, 16),)), Network(net)))


def test_with_other_methods_the_pass_that_answers_the_question_is_shared():
    net, images = network("bias-free relu"), pictures(2)
    alone = layer_ig(steps=5)(net, images)
    for order in (["grad-cam", layer_ig(steps=5)], [layer_ig(steps=5), "grad-cam", "score-cam"]):
        found = explain_all(net, images, order)
        close(found["layer-integrated-gradients"].values, alone.values, 1e-6)


class Bypass(nn.Module):
    """Half of what the head reads comes around the layer."""

    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.stem, self.layer, self.head = nn.Conv2d(3, 4, 3), nn.Conv2d(4, 4, 3, padding=1), nn.Linear(8, 3)

    def forward(self, images):
        stem = torch.relu(self.stem(images))
        return self.read(stem, self.layer(stem))

    def read(self, stem, layer):
        return self.head(torch.cat([stem, torch.relu(layer)], 1).mean((2, 3)))


def test_where_part_of_the_change_goes_around_the_layer_the_rest_is_complete_and_the_notes_say_so():
    net, images = Bypass(), pictures(2)
    found = LayerIntegratedGradients(layer="layer", steps=200)(net, images, target=1)
    assert all(any("does not go through this layer" in note for note in own) for own in found.notes)
    with torch.no_grad():
        stem = torch.relu(net.stem(images))
        empty = net.layer(torch.relu(net.stem(torch.zeros_like(images))))
        start = net.read(stem, empty)[:, 1]
    close(found.values.sum((1, 2, 3)), found.scores[:, 0] - start, 5e-3)
    for notes in LayerIntegratedGradients(layer="stem", steps=200)(net, images, target=1).notes:
        assert notes == ("the sum along the way misses the change of the score by 0.00% of its magnitudes",)


def test_all_targets_and_pictures_together_are_what_each_is_alone():
    net, images = network("convolutions"), pictures()
    method = layer_ig(steps=10)
    together = method(net, images, Classes([0, 3]))
    for row in range(3):
        for place, target in enumerate((0, 3)):
            alone = method(net, images[row : row + 1], target)
            close(together.values[row, place], alone.values[0, 0], 1e-5)
