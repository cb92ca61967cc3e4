"""Average drop: by a loop over pictures, and what its masks show."""

from __future__ import annotations

import math

import pytest
import torch
from metric_cases import Linear, explained, linear, pictures

from seewhy.evaluation.average_drop import AverageDrop, stretched
from seewhy.explainers.baseline import blurred

NETWORK = linear()


def play(metric, images, maps, network=NETWORK):
    return metric(network, images, explained(maps), ids=[str(place) for place in range(len(images))])


def probability(images):
    return NETWORK(images).softmax(1)[:, 0].detach()


@pytest.mark.parametrize("baseline", ["zero", "blur"])
@pytest.mark.parametrize("mask", ["plain", "top-15"])
def test_drops_are_those_of_a_loop(mask, baseline) -> None:
    images = pictures(4)
    maps = torch.rand(4, 8, 8, generator=torch.Generator().manual_seed(3)) + 0.5
    result = play(AverageDrop(mask=mask, baseline=baseline), images, maps)
    drops, areas = [], []
    for image, values in zip(images, maps, strict=True):
        if mask == "plain":
            shown = (values - values.min()) / (values.max() - values.min())
        else:
            highest = values.flatten().sort(descending=True).values[9]  # of 64 pixels, 9.6 are 15 %
            shown = (values >= highest).float()
        behind = torch.zeros_like(image) if baseline == "zero" else blurred(image[None], 10 * 8 / 224)[0]
        p, seen = probability(image[None]), probability((image * shown + behind * (1 - shown))[None])
        drops.append(100 * max(0.0, float((p - seen) / p)))
        areas.append(float(shown.mean()))
    torch.testing.assert_close(result.values, torch.tensor(drops).double(), atol=1e-4, rtol=1e-4)
    assert result.details["area"].item() == pytest.approx(sum(areas) / 4, rel=1e-5)


def test_a_map_that_shows_everything_drops_nothing_which_is_why_its_area_is_told() -> None:
    values = torch.ones(1, 8, 8)
    values[0, 0, 0] = 0
    images = pictures(1)
    images[0, :, 0, 0] = 0
    result = play(AverageDrop(), images, values)
    assert result.value.item() == pytest.approx(0, abs=1e-4)
    assert result.details["area"].item() == pytest.approx(63 / 64)


def test_a_constant_map_covers_the_whole_picture() -> None:
    images = pictures(1)
    result = play(AverageDrop(), images, torch.ones(1, 8, 8))
    p = float(probability(images)[0])
    assert result.value.item() == pytest.approx(100 * max(0.0, (p - 1 / 3) / p), rel=1e-4)
    assert list(result.remarks.values()) == ["the map is constant: the whole picture is covered"]


def test_a_class_without_probability_cannot_drop() -> None:
    weight = torch.zeros(2, 3, 8, 8)
    weight[1] = 10
    result = play(AverageDrop(), torch.ones(1, 3, 8, 8), torch.rand(1, 8, 8), Linear(weight))
    assert result.undefined == 1
    assert math.isnan(result.values[0])
    assert "below 1e-06" in next(iter(result.remarks.values()))


def test_each_map_is_stretched_by_itself() -> None:
    maps = torch.tensor([[1.0, 3.0], [2.0, 2.0]]).view(2, 1, 1, 2)
    assert stretched(maps).tolist() == [[[[0, 1]]], [[[0, 0]]]]
