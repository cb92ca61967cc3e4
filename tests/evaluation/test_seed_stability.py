"""Seed stability: more draws agree more, and what does not draw has none."""

from __future__ import annotations

from itertools import combinations

import pytest
import torch
from metric_cases import pictures, slow_spearman
from test_max_sensitivity import convolutional

import seewhy
from seewhy.evaluation.seed_stability import SeedStability

NETWORK = convolutional()
IMAGES = pictures(3, side=9)
IDS = ["0", "1", "2"]


def test_the_number_is_the_mean_over_pairs_of_seeds() -> None:
    given = seewhy.RISE(masks=40, seed=11)(NETWORK, IMAGES, target=2)
    result = SeedStability()(NETWORK, IMAGES, given, ids=IDS)
    maps = [
        seewhy.RISE(masks=40, seed=seed)(NETWORK, IMAGES, target=2).values.flatten(2) for seed in range(3)
    ]
    for row in range(3):
        pairs = [
            slow_spearman(one[row, 0].tolist(), other[row, 0].tolist())
            for one, other in combinations(maps, 2)
        ]
        # Between batches of other sizes masks' scores round differently, which exchanges neighbours in rank.
        assert result.values[row].item() == pytest.approx(sum(pairs) / 3, abs=1e-4)


def test_more_draws_agree_more() -> None:
    few, many = (
        SeedStability()(NETWORK, IMAGES, seewhy.RISE(masks=masks)(NETWORK, IMAGES)).value
        for masks in (10, 640)
    )
    assert many > few + 0.2


def test_a_method_that_does_not_draw_is_undefined_and_says_so() -> None:
    for method in (seewhy.GradCAM(), seewhy.GroupCAM()):
        found = SeedStability()(NETWORK, IMAGES, method(NETWORK, IMAGES), ids=IDS)
        assert found.undefined == 3
        assert list(found.remarks.values()) == [f"{method.name} does not draw"] * 3


def test_batches_leave_no_trace() -> None:
    given = seewhy.SmoothGrad(samples=4)(NETWORK, IMAGES, target=seewhy.Classes([0, 1]))
    metric = SeedStability(seeds=2)
    whole = metric(NETWORK, IMAGES, given, ids=IDS)
    measurement = metric.start()
    for row in range(3):
        measurement.update(NETWORK, IMAGES[[row]], given.select([row]), ids=[IDS[row]])
    torch.testing.assert_close(measurement.compute().values, whole.values, atol=1e-3, rtol=0)
