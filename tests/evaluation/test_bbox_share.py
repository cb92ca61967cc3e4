"""Share of the highest pixels: by hand, by a loop, and what chance gives."""

from __future__ import annotations

import numpy as np
import torch
from metric_cases import explained, linear, pictures, showing

from seewhy.evaluation.bbox_share import BboxShare
from seewhy.evaluation.ranking import AT_RANDOM, ranks

TRUTH = showing(("0", (0, 0, 4, 8)))


def play(maps, count=1):
    return BboxShare()(linear(), pictures(count), explained(maps), [TRUTH] * count)


def test_as_many_highest_pixels_count_as_are_inside() -> None:
    values = torch.arange(64.0).view(1, 8, 8)  # the 32 highest are the lower half, half of it inside
    assert play(values).value == 0.5
    assert play(torch.from_numpy(TRUTH.objects[0].mask)[None].float()).value == 1


def test_shares_are_those_of_a_loop() -> None:
    maps = torch.rand(4, 8, 8, generator=torch.Generator().manual_seed(0))
    found = dict(zip([image for image, _ in play(maps, 4).keys], play(maps, 4).values.tolist(), strict=True))
    from seewhy.explainers.draws import picture_keys

    for key, values in zip(picture_keys(pictures(4)), maps.numpy(), strict=True):
        best = sorted(np.ndindex(8, 8), key=lambda place, values=values: -values[place])[:32]
        assert found[key.hex()] == sum(column < 4 for _, column in best) / 32


def test_equals_are_ranked_by_chance_and_not_from_the_top_left() -> None:
    result = play(torch.zeros(200, 8, 8), 200)
    assert abs(result.value - 0.5) < 3 * 0.5 * (1 / (32 * 200)) ** 0.5 * 2**0.5
    assert set(result.remarks.values()) == {AT_RANDOM}


def test_a_random_map_scores_the_area() -> None:
    maps = torch.rand(400, 8, 8, generator=torch.Generator().manual_seed(1))
    values = play(maps, 400).values
    assert abs(values.mean() - 0.5) < 3 * values.std() / 20


def test_ranks_are_whole_fall_with_the_values_and_depend_on_the_picture_alone() -> None:
    maps = torch.rand(2, 3, 6, 5, generator=torch.Generator().manual_seed(2)).mul(4).round()
    order = ranks(maps, [b"a", b"b"], 0)
    for flat, found in zip(maps.view(6, 30), order.view(6, 30), strict=True):
        assert sorted(found.tolist()) == list(range(30))
        assert (flat[found.argsort()].diff() <= 0).all()
    assert torch.equal(ranks(maps[1:], [b"b"], 0), order[1:])
    assert not torch.equal(ranks(maps, [b"a", b"b"], 1), order)
