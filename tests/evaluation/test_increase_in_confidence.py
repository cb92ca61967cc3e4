"""Increase in confidence: strictly more, by a loop."""

from __future__ import annotations

import torch
from metric_cases import Linear, explained, linear, pictures

from seewhy.evaluation.increase_in_confidence import IncreaseInConfidence


def play(network, images, maps, **settings):
    names = [f"{place:02}" for place in range(len(images))]
    return IncreaseInConfidence(**settings)(network, images, explained(maps), ids=names)


def test_increases_are_those_of_a_loop() -> None:
    network, images = linear(seed=4), pictures(12, seed=9)
    maps = torch.rand(12, 8, 8, generator=torch.Generator().manual_seed(3))
    found = play(network, images, maps).values.tolist()
    expected = []
    for image, values in zip(images, maps, strict=True):
        shown = (values - values.min()) / (values.max() - values.min())
        before, after = (network(each[None]).softmax(1)[0, 0] for each in (image, image * shown))
        expected.append(100.0 * bool(after > before))
    assert found == expected
    assert 0 < sum(found) < 1200


def test_equal_is_no_increase() -> None:
    network = Linear(torch.zeros(2, 3, 8, 8))
    assert play(network, pictures(1), torch.rand(1, 8, 8)).value == 0


def test_what_speaks_against_a_class_can_be_left_out_of_the_best_fifteen_per_cent() -> None:
    weight = torch.zeros(2, 3, 8, 8)
    weight[0, :, 0, 0], weight[0, :, 7, 7] = 1, -1
    values = torch.zeros(1, 8, 8)
    values[0, 0, 0] = 1
    assert play(Linear(weight), torch.ones(1, 3, 8, 8), values).value == 100
