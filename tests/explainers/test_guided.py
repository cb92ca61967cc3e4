"""Guided backprop and deconvolution, whatever calls the ReLU, and Guided Grad-CAM."""

from __future__ import annotations

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from slow import close, pictures
from torch import nn

from seewhy import Classes, Deconvolution, GradCAM, GuidedBackprop, GuidedGradCAM
from seewhy.errors import NotApplicableError
from seewhy.explanation import upsample

RELUS = {
    "module": nn.ReLU(),
    "in-place module": nn.ReLU(inplace=True),
    "function": F.relu,
    "named argument": lambda x: F.relu(input=x),
    "in-place function": lambda x: torch.relu_(x),
    "method": lambda x: x.relu(),
    "clamp": lambda x: x.clamp(min=0),
    "clip": lambda x: torch.clip(x, 0),
}


class Net(nn.Module):
    """Three convolutions, each with a ReLU of some kind; one kind is reused."""

    def __init__(self, relu) -> None:
        super().__init__()
        torch.manual_seed(3)
        self.one, self.two, self.three = nn.Conv2d(3, 6, 3), nn.Conv2d(6, 6, 3), nn.Conv2d(6, 5, 3)
        self.head = nn.Linear(5, 4)
        self.relu = relu

    def forward(self, x):
        for layer in (self.one, self.two, self.three):
            x = self.relu(layer(x))
        return self.head(x.mean((2, 3)))


def slow_map(net: Net, images, target: int, rule: str) -> torch.Tensor:
    """Backward by hand in float64: convolutions transposed, and the rule at every ReLU."""
    layers = [net.one, net.two, net.three]
    x, before = images.double(), []
    for layer in layers:
        x = F.conv2d(x, layer.weight.double(), layer.bias.double())
        before.append(x)
        x = x.clamp_min(0)
    gradient = (net.head.weight.double()[target] / (x.shape[2] * x.shape[3]))[None, :, None, None].expand(
        x.shape
    )
    for layer, value in zip(layers[::-1], before[::-1], strict=True):
        gradient = gradient.clamp_min(0)
        if rule == "guided":
            gradient = gradient * (value > 0)
        gradient = F.conv_transpose2d(gradient, layer.weight.double())
    return gradient.detach()


@pytest.mark.parametrize("kind", RELUS)
@pytest.mark.parametrize(
    ("method", "rule"), [(GuidedBackprop(), "guided"), (Deconvolution(), "deconvolution")]
)
def test_the_rule_holds_at_every_relu_whatever_calls_it(kind, method, rule):
    net, images = Net(RELUS[kind]), pictures()
    close(method(net, images, target=2).values[:, 0], slow_map(net, images, 2, rule), 1e-5)


@pytest.mark.parametrize("method", [GuidedBackprop(), Deconvolution()])
def test_several_targets_share_a_pass_and_give_what_single_ones_give(method):
    net, images = Net(nn.ReLU(inplace=True)), pictures()
    both = method(net, images, Classes([1, 3]))
    for place, target in enumerate((1, 3)):
        close(both.values[:, place], method(net, images, target=target).values[:, 0], 1e-6)


@pytest.mark.parametrize("method", [GuidedBackprop(), Deconvolution(), GuidedGradCAM()])
def test_a_network_without_relus_is_refused_with_its_activations_named(method):
    with pytest.raises(NotApplicableError, match=r"has none; its activations are gelu.*input-x-gradient"):
        method(Net(F.gelu), pictures())


@pytest.mark.parametrize("method", [GuidedBackprop(), Deconvolution(), GuidedGradCAM()])
def test_every_map_warns_of_what_randomisation_tests_found(method):
    found = method(Net(nn.ReLU()), pictures())
    assert all(any("randomised" in note for note in notes) for notes in found.notes)


@pytest.mark.parametrize("method", [GuidedBackprop, Deconvolution, GuidedGradCAM])
def test_activations_that_keep_their_own_gradient_beside_relus_are_named(method):
    net = Net(nn.ReLU())
    mixed = nn.Sequential(nn.Conv2d(3, 3, 3), nn.SiLU(), net)
    assert not any("beside ReLUs" in note for note in method()(net, pictures(1), 0).notes[0])
    assert any(
        "beside ReLUs the network has silu" in note for note in method()(mixed, pictures(1), 0).notes[0]
    )


def test_relu6_counts_as_a_relu():
    net, images = Net(nn.ReLU6(inplace=True)), pictures()
    close(GuidedBackprop()(net, images, target=1).values[:, 0], slow_map(net, images, 1, "guided"), 1e-5)


def test_an_outer_bound_of_relu6_stops_the_gradient_too():
    net = Net(nn.ReLU6())
    with torch.no_grad():
        net.one.bias.fill_(1e3)  # every first activation lies above 6
    assert not GuidedBackprop()(net, pictures(), target=1).values.any()


def test_the_network_s_relus_are_as_they_were():
    net = Net(nn.ReLU(inplace=True))
    relu = net.relu
    GuidedBackprop()(net, pictures(), target=1)
    assert net.relu is relu
    assert relu.inplace
    leaf = pictures().requires_grad_()
    net(leaf)[:, 1].sum().backward()
    assert (leaf.grad < 0).any()


def test_guided_grad_cam_is_the_product_of_its_two():
    net, images = Net(nn.ReLU()), pictures()
    coarse = GradCAM(layer="three")(net, images, target=2).values
    fine = GuidedBackprop()(net, images, target=2).values
    found = GuidedGradCAM(layer="three")(net, images, target=2)
    close(found.values, fine * upsample(coarse.clamp_min(0), (16, 16))[:, :, None], 1e-5)
    assert np.isfinite(found.values.numpy()).all()
    assert found.reason.startswith("three")


class TwoBranches(nn.Module):
    """One branch per picture, or both pictures in one layer."""

    def __init__(self, early: bool) -> None:
        super().__init__()
        torch.manual_seed(3)
        self.one, self.two = nn.Conv2d(6 if early else 3, 6, 3), nn.Conv2d(3, 6, 3)
        self.relu, self.head, self.early = nn.ReLU(), nn.Linear(12, 4), early

    def forward(self, x, y):
        branches = (torch.cat([x, y], 1), y) if self.early else (x, y)
        found = [
            self.relu(layer(each)).mean((2, 3))
            for layer, each in zip((self.one, self.two), branches, strict=True)
        ]
        return self.head(torch.cat(found, 1))


def test_guided_grad_cam_says_nothing_of_a_picture_that_its_layer_does_not_see():
    net, inputs = TwoBranches(early=False).eval(), {0: pictures(), 1: pictures().flip(0)}
    found = GuidedGradCAM(layer="one")(net, inputs, target=2)
    first, second = found.maps.values()
    assert first.any()
    assert not second.any()
    assert all(any("does not see input 1" in note for note in notes) for notes in found.notes)


def test_pictures_that_meet_before_the_layer_share_its_grad_cam():
    net, inputs = TwoBranches(early=True).eval(), {0: pictures(), 1: pictures().flip(0)}
    found = GuidedGradCAM(layer="one")(net, inputs, target=2)
    coarse = GradCAM(layer="one")(net, inputs, target=2).values.clamp_min(0)
    for own, fine in zip(
        found.maps.values(), GuidedBackprop()(net, inputs, target=2).maps.values(), strict=True
    ):
        close(own, fine * upsample(coarse, (16, 16))[:, :, None], 1e-5)
