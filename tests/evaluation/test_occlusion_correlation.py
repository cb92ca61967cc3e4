"""Occlusion correlation: by covering cell after cell, and on a linear model."""

from __future__ import annotations

import math

import pytest
import torch
from metric_cases import (
    Linear,
    explained,
    linear,
    maps_of_all_kinds,
    one_number_whatever_the_batches,
    pictures,
    slow_spearman,
)

from seewhy.evaluation.occlusion_correlation import OcclusionCorrelation
from seewhy.explainers.baseline import blurred

NETWORK = linear(side=10).requires_grad_(False)


def play(images, maps, network=NETWORK, labels="0", **settings):
    metric = OcclusionCorrelation(**{"cell": 3, **settings})
    return metric(
        network, images, explained(maps, labels), ids=[f"{place:02}" for place in range(len(images))]
    )


@pytest.mark.parametrize("baseline", ["zero", "blur"])
def test_the_correlation_is_that_of_a_loop_over_cells_of_all_sizes(baseline) -> None:
    images = pictures(4, side=10)
    maps = torch.rand(4, 10, 10, generator=torch.Generator().manual_seed(0))
    found = play(images, maps, baseline=baseline)
    expected = []
    for image, values in zip(images, maps, strict=True):
        behind = torch.zeros_like(image) if baseline == "zero" else blurred(image[None], 10 * 10 / 224)[0]
        clean = NETWORK(image[None]).softmax(1)[0, 0]
        means, drops = [], []
        for top in range(0, 10, 3):
            for left in range(0, 10, 3):
                cell = (slice(top, top + 3), slice(left, left + 3))  # the last ones are one pixel wide
                covered = image.clone()
                covered[:, *cell] = behind[:, *cell]
                means.append(float(values[cell].mean()))
                drops.append(float(clean - NETWORK(covered[None]).softmax(1)[0, 0]))
        assert len(means) == 16
        expected.append(slow_spearman(means, drops))
    torch.testing.assert_close(found.values, torch.tensor(expected, dtype=torch.float64), atol=1e-9, rtol=0)


def test_what_each_pixel_adds_to_a_linear_score_correlates_fully_and_less_once_it_is_rectified() -> None:
    # Of two classes the probability rises with the difference of the logits.
    network = linear(classes=2, side=10)
    images = pictures(3, side=10)
    weight = network.linear.weight.detach().view(2, 3, 10, 10)
    added = ((weight[0] - weight[1]) * images).sum(1)
    signed = play(images, added, network, cell=2, reads="signed")
    assert signed.values.tolist() == pytest.approx([1.0] * 3, abs=1e-9)
    rectified = play(images, added, network, cell=2)
    assert ((rectified.values > 0.3) & (rectified.values < 0.999)).all()
    assert play(images, -added, network, cell=2, reads="signed").value.item() == pytest.approx(-1, abs=1e-9)


def test_one_number_results_whatever_the_batches() -> None:
    images, maps = pictures(9, side=10), maps_of_all_kinds(9, side=10, targets=2)
    labels = [["0", "2"]] * 9
    one_number_whatever_the_batches(
        OcclusionCorrelation(cell=3), NETWORK, images, explained(maps, labels), rtol=0
    )


def test_where_either_side_ranks_nothing_it_is_undefined_and_says_why() -> None:
    maps = torch.rand(3, 10, 10)
    maps[0], maps[1], maps[2, 0, 0] = 0, 0.1, math.nan
    found = play(pictures(3, side=10), maps)
    assert found.undefined == 3
    assert list(found.remarks.values())[:2] == ["the map has the same mean in every cell"] * 2
    deaf = play(pictures(1, side=10), torch.rand(1, 10, 10), Linear(torch.zeros(2, 3, 10, 10)))
    assert (deaf.undefined, list(deaf.remarks.values())) == (1, ["no cell's covering changes the score"])
    one = torch.zeros(1, 10, 10)
    one[0, 4, 4] = 1
    assert play(pictures(1, side=10), one).undefined == 0
    assert play(pictures(1, side=10), one, cell=99).undefined == 1  # a single cell


def test_positive_scaling_and_any_rise_keep_the_ranks() -> None:
    images, maps = pictures(3, side=10), torch.rand(3, 10, 10)
    assert play(images, maps * 7).values.tolist() == play(images, maps).values.tolist()
    means = torch.rand(3, 10, 10)
    assert play(images, means, cell=1).values.tolist() == play(images, means**3, cell=1).values.tolist()
