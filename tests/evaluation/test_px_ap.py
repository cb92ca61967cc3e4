"""PxAP: against average precision over every distinct value, and by hand."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from metric_cases import explained, linear, pictures, showing

from seewhy.evaluation.px_ap import PxAP
from seewhy.truth import Box, Object, Truth

TRUTH = showing(("0", (0, 0, 4, 8)))


def play(maps, truths, **settings):
    return PxAP(**settings)(linear(), pictures(len(maps)), explained(maps), truths)


def exactly(maps, masks):
    """Precision times gain in recall over every distinct value of the stretched maps."""
    pooled = np.concatenate([((m - m.min()) / (m.max() - m.min())).ravel() for m in maps])
    inside = np.concatenate([mask.ravel() for mask in masks])
    total, recall = 0.0, 0.0
    for threshold in sorted(set(pooled.tolist()), reverse=True):
        chosen = pooled >= threshold
        now = (chosen & inside).sum() / inside.sum()
        total += (chosen & inside).sum() / chosen.sum() * (now - recall)
        recall = now
    return total


@pytest.mark.parametrize("seed", range(5))
def test_within_a_thousandth_of_the_exact_value(seed) -> None:
    draws = np.random.default_rng(seed)
    truths = [showing(("0", (row, 1, row + 3, 6))) for row in range(5)]
    masks = [truth.objects[0].mask for truth in truths]
    # Thousandths, so that no two values share a bin; the ends are 0 and 1.
    maps = np.stack([draws.permutation(1001)[:64].reshape(8, 8) / 1000.0 + mask * 0.0 for mask in masks])
    maps[:, 0, 0], maps[:, 7, 7] = 0, 1
    assert play(maps, truths).value.item() == pytest.approx(exactly(maps, masks), abs=1e-3)


def test_four_pixels_by_hand() -> None:
    mask = np.zeros((8, 8), bool)
    mask[0, 0] = mask[0, 2] = True
    values = torch.zeros(1, 8, 8)
    values[0, 0, :3] = torch.tensor([1.0, 0.5, 0.25])
    # Precision 1 at half the recall, then 2 of 3 at all of it.
    assert play(values, [Truth((8, 8), (Object("0", Box(0, 0, 3, 1), mask),))]).value.item() == pytest.approx(
        0.5 + 0.5 * 2 / 3
    )


def test_the_object_s_own_mask_scores_one_and_a_constant_map_the_area() -> None:
    assert play(torch.from_numpy(TRUTH.objects[0].mask).float()[None], [TRUTH]).value == 1
    flat = play(torch.ones(1, 8, 8), [TRUTH])
    assert flat.value == 0.5
    assert list(flat.remarks.values()) == ["the map is constant: all its pixels count as lowest"]


def test_an_ignored_region_counts_on_neither_side() -> None:
    values = torch.zeros(1, 8, 8)
    values[0, :, :4], values[0, 0, 6] = 0.5, 1
    spoiled = play(values, [TRUTH]).value
    ignore = Object("0", Box(5, 0, 8, 2), attributes={"ignore": "1"})
    assert spoiled < 1
    assert play(values, [Truth((8, 8), (*TRUTH.objects, ignore))]).value == 1


def test_pictures_are_pooled_not_averaged() -> None:
    maps = torch.zeros(2, 8, 8)
    maps[0, :, :4], maps[1, :, 4:] = 1, 1
    result = play(maps, [TRUTH, TRUTH])
    assert sorted(result.values.tolist()) == [0.5, 1.0]
    assert result.value == 0.5  # half of what is at the top is right, and so is half of all
    assert result.details["recall"][-1] == 1


def test_a_picture_without_the_class_is_undefined() -> None:
    assert play(torch.rand(1, 8, 8), [showing(("1", (0, 0, 2, 2)))]).undefined == 1
