"""Relative stability: on linear models, and which copies count."""

from __future__ import annotations

import pytest
import torch
from metric_cases import linear, pictures
from test_max_sensitivity import drawn
from torch import nn

import seewhy
from seewhy.evaluation.relative_stability import RelativeStability

NETWORK = linear(side=9)
IMAGES = pictures(5, side=9)
IDS = [f"{row:02}" for row in range(5)]


class Squares(nn.Module):
    """Scores by squares of pixels, whose gradient times input changes otherwise than the pixels do."""

    def forward(self, x):
        score = x.square().sum((1, 2, 3))
        return torch.stack([-score, score], 1)


def test_of_squares_the_element_wise_form_is_known() -> None:
    net = Squares()
    found = seewhy.InputXGradient()(net, IMAGES, target=1)
    result = RelativeStability(samples=3, form="element-wise")(net, IMAGES, found, ids=IDS)
    for row, image in enumerate(IMAGES):
        shares = [0.02 * drawn(image, number) / image for number in range(3)]
        expected = [float((2 * each + each.square()).norm() / each.norm()) for each in shares]
        assert result.values[row].item() == pytest.approx(max(expected), rel=1e-3)


def test_gradient_times_input_of_a_linear_model_is_known() -> None:
    found = seewhy.InputXGradient()(NETWORK, IMAGES, target=1)
    result = RelativeStability(samples=3)(NETWORK, IMAGES, found, ids=IDS)
    weight = NETWORK.linear.weight.detach()[1].view(3, 9, 9)
    for row, image in enumerate(IMAGES):
        expected = []
        for number in range(3):
            noise = 0.02 * drawn(image, number)
            changed, moved = (weight * noise).norm() / (weight * image).norm(), noise.norm() / image.norm()
            expected.append(float(changed / moved))
        assert result.values[row].item() == pytest.approx(max(expected), rel=1e-4)


def test_the_gradient_of_a_linear_model_is_stable() -> None:
    found = seewhy.Gradient()(NETWORK, IMAGES, target=1)
    assert RelativeStability(samples=2)(NETWORK, IMAGES, found).value == 0


def test_copies_that_change_the_class_do_not_count() -> None:
    image = IMAGES[:1]

    class Wavering(nn.Module):
        """Predicts its first class for this picture, and its second one for all that differs from it."""

        def forward(self, x):
            score = x.sum((1, 2, 3))
            return torch.stack([score, score - 1e-4 + (x - image).square().sum((1, 2, 3))], 1)

    found = seewhy.InputXGradient()(Wavering(), image)
    assert found.labels == (("0",),)
    result = RelativeStability(samples=3)(Wavering(), image, found)
    assert result.undefined == 1
    assert "none keeps the predicted class" in next(iter(result.remarks.values()))


def test_a_black_picture_has_no_relative_change() -> None:
    network = nn.Sequential(nn.Conv2d(3, 4, 3), nn.Softplus(), nn.AdaptiveAvgPool2d(1), nn.Flatten())
    black = torch.zeros(1, 3, 9, 9)
    result = RelativeStability(samples=2)(network, black, seewhy.GradCAM()(network, black))
    assert result.undefined == 1
    assert "changes are shares of zeros" in next(iter(result.remarks.values()))
