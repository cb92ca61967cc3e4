"""MaxBoxAcc: boxes, thresholds and overlaps worked out by hand."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from metric_cases import explained, linear, maps_of_all_kinds, pictures, showing
from pydantic import ValidationError

from seewhy.errors import InputError
from seewhy.evaluation.box_extractors import overlap, wsol
from seewhy.evaluation.max_box_acc import MaxBoxAcc, MaxBoxAccV2

INNER, OUTER = showing(("0", (2, 2, 6, 6))), showing(("0", (0, 0, 8, 8)))


def steps():
    """Ones in the inner square, one half around it, and a corner of zero."""
    values = torch.full((1, 8, 8), 0.5)
    values[0, 2:6, 2:6], values[0, 0, 0] = 1, 0
    return values


def play(metric, maps, truths):
    return metric(linear(), pictures(len(maps)), explained(maps), truths)


def test_the_box_fits_from_the_level_on_that_cuts_what_is_around() -> None:
    result = play(MaxBoxAcc(), steps(), [INNER])
    # Below: (0, 0) to (7, 7), 16 / 64; above: (2, 2) to (6, 6), of which the public overlap counts 25, 16 / 25.
    expected = [0.0] * 127 + [1.0] * 128
    assert result.details["curves"].tolist() == [expected]
    assert result.value == 1
    assert result.details["thresholds"].tolist() == [127.5 / 255]
    np.testing.assert_allclose(result.table.data[0, [0, 126, 127, 254]], [0.25, 0.25, 0.64, 0.64])


def test_one_threshold_is_shared_by_all_pictures() -> None:
    result = play(MaxBoxAcc(), steps().repeat(2, 1, 1), [INNER, OUTER])
    assert result.value == 0.5
    assert sorted(result.values.tolist()) == [0, 1]
    assert result.details["thresholds"].tolist() == [0.5 / 255]  # the lowest of equally good ones


def test_each_delta_of_the_second_version_has_its_own_threshold() -> None:
    result = play(MaxBoxAccV2(), steps().repeat(2, 1, 1), [INNER, OUTER])
    # 0.3: both at the high levels (16 / 25 and 25 / 64). 0.5: one of two. 0.7: the outer one, at the low levels.
    assert result.value.item() == pytest.approx((1 + 0.5 + 0.5) / 3)
    assert play(MaxBoxAccV2(), steps(), [INNER]).value.item() == pytest.approx(2 / 3)


def test_the_second_version_takes_the_best_of_all_boxes() -> None:
    values = torch.zeros(1, 8, 8)
    values[0, 0:4, 0:4], values[0, 5:7, 5:7] = 1, 1
    truth = showing(("0", (5, 5, 7, 7)))
    assert play(MaxBoxAcc(deltas=(0.3,)), values, [truth]).value == 0
    assert play(MaxBoxAcc(deltas=(0.3,), boxes="all"), values, [truth]).value == 1
    both = showing(("0", (5, 5, 7, 7)), ("0", (0, 0, 4, 4)))
    assert play(MaxBoxAcc(), values, [both]).value == 1


def test_a_threshold_from_one_split_is_reported_on_another() -> None:
    found = play(MaxBoxAcc(), steps(), [INNER])
    fixed = MaxBoxAcc().fixed(found)
    assert fixed.thresholds == (0.5,)
    assert play(fixed, steps(), [OUTER]).value == 0
    assert (
        play(MaxBoxAcc(), steps(), [OUTER]).value == 1
    )  # what the best threshold of these pictures makes of it
    with pytest.raises(InputError, match="cannot come from"):
        MaxBoxAccV2().fixed(found)
    with pytest.raises(ValidationError, match="3 thresholds"):
        MaxBoxAccV2(thresholds=(0.5,))


def test_a_map_without_a_box_is_an_error_and_a_picture_without_a_true_box_is_undefined() -> None:
    maps = torch.zeros(2, 8, 8)
    whole = showing(("0", (0, 0, 1, 1)))  # which the public code's box (0, 0, 0, 0) of no contour would hit
    result = play(MaxBoxAcc(), maps, [whole, showing(("1", (0, 0, 2, 2)))])
    assert sorted(result.remarks.values()) == [
        "the map is constant: it has no box, which is an error",
        "the picture shows no '0'",
    ]
    assert result.value == 0
    assert result.undefined == 1


def test_the_object_s_own_mask_fits() -> None:
    mask = torch.from_numpy(INNER.objects[0].mask).float()[None]
    assert play(MaxBoxAcc(), mask, [INNER]).value == 1


def test_the_value_and_its_interval_choose_the_threshold_anew_as_a_loop_does() -> None:
    maps = maps_of_all_kinds(7).clamp_min(0)
    truths = [showing(("0", (row % 4, row % 3, row % 4 + 4, row % 3 + 4))) for row in range(7)]
    result = play(MaxBoxAcc(deltas=(0.4,), resamples=100), maps, truths)
    boxes = [wsol(each[0].numpy()) for each in maps]
    goals = [np.array([[row % 4, row % 3, row % 4 + 3, row % 3 + 3]]) for row in range(7)]
    hit = np.array([overlap(box, goal)[:, 0] >= 0.4 for box, goal in zip(boxes, goals, strict=True)])
    assert result.value.item() == pytest.approx(hit.mean(0).max())
    order = result.table.data.numpy() >= 0.4
    best = [
        float((row[:, None] * order).sum(0).max() / 7)
        for weights in result.table.resampled(100, 0)
        for row in weights.numpy()
    ]
    np.testing.assert_allclose(result.interval.numpy(), np.quantile(best, [0.025, 0.975]))
