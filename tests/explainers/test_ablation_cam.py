from __future__ import annotations

import copy

import numpy as np
import pytest
import torch
from slow import close, network, pairs, pictures

from seewhy import CAM, AblationCAM, Classes, make
from seewhy.errors import InputError, NotApplicableError
from seewhy.explainers.ablation_cam import HARDLY_OFF


def full_map(net, images, target, fill="zero"):
    """Desai and Ramaswamy 2020 by full forwards with a hook, one channel after the other, in float64."""
    slow = copy.deepcopy(net).double()
    activation, _, scores = pairs(net, images, target)
    found = np.zeros((len(images), *activation.shape[2:]))
    for channel in range(activation.shape[1]):

        def ablate(_module, _inputs, output, channel=channel):
            output = output.clone()
            mean = output[:, channel].mean((-2, -1), keepdim=True)
            output[:, channel] = {"zero": 0, "mean": mean}.get(fill, fill)
            return output

        handle = slow.features.register_forward_hook(ablate)
        with torch.no_grad():
            after = slow(images.double())[:, target].numpy()
        handle.remove()
        found += ((scores - after) / np.abs(scores))[:, None, None] * activation[:, channel]
    return found


@pytest.mark.parametrize(
    ("head", "fill"),
    [("pooled linear", "zero"), ("pooled linear", -0.5),
     *[(head, fill) for head in ("flattened linear", "bias-free relu", "convolutions")
       for fill in ("zero", "mean", 0.25)]],
)  # fmt: skip
def test_values_are_those_of_full_forwards_with_each_channel_off(head, fill):
    net, images = network(head), pictures()
    found = AblationCAM(layer="features", fill=fill)(net, images, target=2)
    close(found.values[:, 0], full_map(net, images, 2, fill), 1e-4)


def test_a_number_that_fills_is_finite_and_may_stand_in_a_command():
    assert make("ablation-cam:fill=0.25") == AblationCAM(fill=0.25)
    assert make("ablation-cam:fill=mean") == AblationCAM(fill="mean")
    for wrong in ("nan", "inf", "median"):
        with pytest.raises(InputError, match="fill"):
            make(f"ablation-cam:fill={wrong}")


def test_a_pooled_head_does_not_notice_a_channel_replaced_by_its_mean():
    net, images = network("pooled linear"), pictures()
    found = AblationCAM(layer="features", fill="mean", computation="replay")(net, images)
    assert float(found.values.abs().max()) < 1e-5
    assert not AblationCAM(layer="features", fill="mean")(net, images).values.any()


@pytest.mark.parametrize("head", ["pooled linear", "flattened linear"])
def test_arithmetic_equals_replays_where_the_head_is_affine(head):
    net, images = network(head), pictures()
    quick = AblationCAM(layer="features")(net, images, Classes([0, 1, 2, 3]))
    slow = AblationCAM(layer="features", computation="replay")(net, images, Classes([0, 1, 2, 3]))
    close(quick.values, slow.values, 1e-4)
    assert (quick.cost.replays, slow.cost.replays) == (0, 3 * 6)


class Reversed(torch.autograd.Function):
    """The identity, with the gradient turned over, as domain-adversarial networks have it (Ganin et al., 2016)."""

    @staticmethod
    def forward(ctx, x):
        return x.view_as(x)

    @staticmethod
    def backward(ctx, gradient):
        return -gradient


class Odd(torch.nn.Module):
    """A pooled linear head that computes one thing and differentiates another."""

    def __init__(self, way):
        super().__init__()
        self.way = way
        self.features = network("pooled linear").features
        self.one, self.other = torch.nn.Linear(6, 4), torch.nn.Linear(6, 4)

    def forward(self, x):
        pooled = self.features(x).mean((-2, -1))
        if self.way == "reversed":
            return self.one(Reversed.apply(pooled))
        if self.way == "half":
            return self.one(pooled) + self.other(pooled.detach())
        with torch.set_grad_enabled(False):
            return self.one(pooled)


@pytest.mark.parametrize("way", ["reversed", "half", "none"])
def test_where_the_gradient_is_not_the_slope_channels_are_taken_off_one_by_one(way):
    net, images = Odd(way).eval(), pictures()
    found = AblationCAM(layer="features")(net, images, target=2).values[:, 0]
    assert float(found.abs().max()) > 0
    replayed = AblationCAM(layer="features", computation="replay")(net, images, target=2).values[:, 0]
    close(found, replayed, 1e-6)
    with pytest.raises(NotApplicableError, match="gradient is not its slope"):
        CAM(layer="features")(net, images, target=2)


class Tasks(torch.nn.Module):
    """Class 0 is linear in the pooled features, class 1 is not."""

    def __init__(self):
        super().__init__()
        self.features = network("pooled linear").features
        self.linear = torch.nn.Linear(6, 1)
        self.curved = torch.nn.Sequential(torch.nn.Linear(6, 8), torch.nn.Tanh(), torch.nn.Linear(8, 1))

    def forward(self, x):
        pooled = self.features(x).mean((-2, -1))
        return torch.cat([self.linear(pooled), self.curved(pooled)], 1)


def test_what_was_asked_before_changes_nothing_where_classes_differ_in_their_heads():
    net, images = Tasks().eval(), pictures()
    fresh = AblationCAM(layer="features")(copy.deepcopy(net), images, target=1).values
    AblationCAM(layer="features")(net, images, target=0)
    assert torch.equal(AblationCAM(layer="features")(net, images, target=1).values, fresh)
    for asked in (0, 1):
        with pytest.raises(NotApplicableError, match="CAM is not defined"):
            CAM(layer="features")(net, images, target=asked)


def test_a_function_of_the_outputs_is_measured_as_it_is_now():
    net, images, power = network("pooled linear"), pictures(), [1]

    def score(outputs):
        return outputs[:, 2] ** power[0]

    AblationCAM(layer="features")(net, images, score)
    power[0] = 2
    found = AblationCAM(layer="features")(net, images, score).values
    close(found, AblationCAM(layer="features", computation="replay")(net, images, score).values, 1e-5)


def test_an_affine_head_is_one_in_bfloat16_too_and_replays_say_what_rounding_makes_of_them():
    net, images = network("pooled linear").bfloat16(), pictures()
    found = AblationCAM(layer="features")(net, images, target=2)
    assert found.cost.replays == 0
    exact = AblationCAM(layer="features")(copy.deepcopy(net).float(), images.bfloat16().float(), target=2)
    close(found.values, exact.values, 0.02)
    replayed = AblationCAM(layer="features", computation="replay")(net, images, target=2)
    assert all(any(HARDLY_OFF in note for note in notes) for notes in replayed.notes)


def test_on_an_affine_head_it_costs_one_forward_and_one_backward():
    net, images = network("pooled linear"), pictures()
    AblationCAM(layer="features")(net, images, target=1)
    cost = AblationCAM(layer="features")(net, images, target=1).cost
    assert (cost.forwards, cost.backwards, cost.replays, cost.setup) == (3, 3, 0, 0)


def test_the_paper_s_divisor_turns_the_map_over_where_the_score_is_negative():
    net, images = network("pooled linear"), pictures()
    with torch.no_grad():
        net.head[2].bias[1] = -50
    ours = AblationCAM(layer="features")(net, images, target=1).values
    paper = AblationCAM.from_preset("paper", layer="features")(net, images, target=1).values
    close(paper, -ours, 1e-6)


def test_a_score_of_nearly_zero_is_said():
    net, images = network("pooled linear"), pictures(1)
    with torch.no_grad():
        net.head[2].bias[1] -= net(images)[0, 1] - 1e-6
    found = AblationCAM(layer="features")(net, images, target=1)
    assert any("nearly zero" in note for note in found.notes[0])


def test_where_no_channel_counts_beside_the_rounding_of_the_score_the_notes_say_so():
    net, images = network("convolutions"), pictures()
    plain = AblationCAM(layer="features", computation="replay")
    assert not any(HARDLY_OFF in note for notes in plain(net, images, 2).notes for note in notes)
    with torch.no_grad():
        net.head[-1].bias += 1e4
    assert all(notes[-1].startswith(HARDLY_OFF) for notes in plain(net, images, 2).notes)


def test_channels_twice_with_half_the_weight_each_leave_the_map_as_it_is():
    net, images = network("pooled linear"), pictures()
    found = AblationCAM(layer="features")(net, images, target=1).values[:, 0]
    doubled = copy.deepcopy(net)
    last = doubled.features[2]
    doubled.features[2] = torch.nn.Conv2d(8, 12, 3)
    with torch.no_grad():
        doubled.features[2].weight.copy_(last.weight.repeat(2, 1, 1, 1))
        doubled.features[2].bias.copy_(last.bias.repeat(2))
        head = torch.nn.Linear(12, 4)
        head.weight.copy_(net.head[2].weight.repeat(1, 2) / 2)
        head.bias.copy_(net.head[2].bias)
        doubled.head[2] = head
    other = AblationCAM(layer="features")(doubled, images, target=1).values[:, 0]
    close(other, found, 1e-4)  # each half loses half the score, and there are two: the sum is the same
