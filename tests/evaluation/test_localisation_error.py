"""Localisation errors: which rank and which box make them, by hand."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from metric_cases import explained, linear, pictures, showing

from seewhy.errors import InputError
from seewhy.evaluation.localisation_error import LocalisationError
from seewhy.evaluation.max_box_acc import MaxBoxAcc

TRUTH = showing(("0", (2, 2, 6, 6)))
FIRST, THIRD, NOWHERE = ["0", "1", "2"], ["1", "2", "0"], ["1", "2", "3", "4", "5"]


def play(metric, maps, predictions, truths=None, labels="0", side=8):
    count = len(maps)
    found = explained(maps, labels, predictions=predictions)
    return metric(linear(side=side), pictures(count, side), found, truths or [TRUTH] * count)


def fitting():
    return torch.from_numpy(TRUTH.objects[0].mask).float()[None]


@pytest.mark.parametrize(("order", "errors"), [(FIRST, [0, 0, 0]), (THIRD, [0, 1, 0]), (NOWHERE, [0, 1, 1])])
def test_a_fitting_box_of_a_label_at_some_rank(order, errors) -> None:
    details = play(LocalisationError(), fitting(), [order]).details
    assert [details[name].item() for name in ("gt-known", "top-1", "top-5")] == errors
    assert details["iou"].item() == pytest.approx(16 / 25)


def test_a_box_elsewhere_is_an_error_whatever_the_rank() -> None:
    values = torch.zeros(1, 8, 8)
    values[0, 6:, 6:] = 1
    details = play(LocalisationError(), values, [FIRST]).details
    assert [details[name].item() for name in ("gt-known", "top-1", "top-5")] == [1, 1, 1]


@pytest.mark.parametrize("extractor", ["wsol", "adl", "cam"])
def test_a_map_without_a_box_is_an_error_not_a_hit(extractor) -> None:
    corner = showing(("0", (0, 0, 1, 1)))
    result = play(LocalisationError(extractor=extractor), torch.zeros(1, 8, 8), [FIRST], [corner])
    assert result.value == 1
    assert list(result.remarks.values()) == ["the map has no box, which is an error"]


@given(
    seed=st.integers(0, 1000),
    extractor=st.sampled_from(["wsol", "adl", "cam"]),
    boxes=st.sampled_from(["first", "second", "both"]),
)
@settings(max_examples=30, deadline=None)
def test_known_is_no_worse_than_top_five_and_top_five_no_worse_than_top_one(seed, extractor, boxes) -> None:
    draws = np.random.default_rng(seed)
    coarse = torch.from_numpy(draws.random((6, 1, 4, 4)))
    maps = torch.nn.functional.interpolate(coarse, (24, 24), mode="bilinear")[:, 0]
    orders = [[str(label) for label in draws.permutation(8)[:5]] for _ in range(6)]
    truths = [showing(("0", (2, 3, 15, 20)), size=(24, 24))] * 6
    metric = LocalisationError(extractor=extractor, boxes=boxes, resamples=100)
    rows = metric.errors(play(metric, maps, orders, truths, side=24).table.exact)
    assert (rows[:, 0] <= rows[:, 2]).all()
    assert (rows[:, 2] <= rows[:, 1]).all()


def test_of_two_boxes_per_class_only_five_fit_in_the_list() -> None:
    # On a 40 x 40 picture: a large box, and a smaller one that fits the truth.
    values = torch.zeros(1, 40, 40)
    values[0, 2:22, 2:30], values[0, 24:33, 24:33] = 1, 60 / 255
    truth = [showing(("0", (24, 24, 33, 33)), size=(40, 40))]
    first, second, both = (
        {
            k: v.item()
            for k, v in play(
                LocalisationError(extractor="cam", boxes=b), values, [order], truth, side=40
            ).details.items()
        }
        for b, order in (("first", FIRST), ("second", FIRST), ("both", FIRST))
    )
    assert first["gt-known"] == 1
    assert second["gt-known"] == 1  # the public merging leaves a repetition of the first box in second place
    assert both["gt-known"] == 1
    third = play(LocalisationError(extractor="cam", boxes="both"), fitting_cam(), [THIRD], truth, side=40)
    fourth = play(
        LocalisationError(extractor="cam", boxes="both"),
        fitting_cam(),
        [["1", "2", "3", "0"]],
        truth,
        side=40,
    )
    assert third.details["top-5"] == 0
    assert fourth.details["top-5"] == 1  # its boxes would be the seventh and eighth
    assert (
        play(
            LocalisationError(extractor="cam"), fitting_cam(), [["1", "2", "3", "0"]], truth, side=40
        ).details["top-5"]
        == 0
    )


def fitting_cam():
    values = torch.zeros(1, 40, 40)
    values[0, 24:33, 24:33] = 1
    return values


def test_a_map_of_another_class_says_nothing_of_the_label() -> None:
    result = play(
        LocalisationError(), torch.cat([fitting(), fitting()]), [FIRST, FIRST], labels=[["1"], ["0"]]
    )
    assert result.undefined == 1
    assert list(result.remarks.values()) == ["the map explains '1', but the picture's label is '0'"]


def test_a_threshold_found_on_another_split_is_used_at_its_level() -> None:
    values = torch.full((1, 8, 8), 0.5)
    values[0, 2:6, 2:6], values[0, 0, 0] = 1, 0
    found = MaxBoxAcc()(linear(), pictures(1), explained(values), [TRUTH]).details["thresholds"].item()
    assert play(LocalisationError(threshold=found), values, [FIRST]).value == 0
    assert play(LocalisationError(), values, [FIRST]).value == 1


def test_outputs_without_classes_are_refused() -> None:
    with pytest.raises(InputError, match="needs class predictions"):
        play(LocalisationError(), fitting(), [[]])


def test_without_a_threshold_the_one_of_the_least_error_counts_and_another_split_can_give_it() -> None:
    values = torch.full((1, 8, 8), 0.5)
    values[0, 2:6, 2:6], values[0, 0, 0] = 1, 0
    free = LocalisationError(threshold=None, resamples=100)
    best = play(free, values, [FIRST])
    assert best.value == 0
    assert 0.5 <= best.details["threshold"] < 1
    fixed = free.fixed(best)
    assert fixed.threshold == pytest.approx(best.details["threshold"].item())
    assert play(fixed, values, [THIRD]).details["top-1"] == 1
    assert play(fixed, values, [THIRD]).value == 0


def test_a_chosen_threshold_is_chosen_anew_for_each_resample() -> None:
    # Two pictures whose boxes fit at different levels: together one of them misses, alone neither does.
    values = torch.full((2, 8, 8), 0.5)
    values[:, 2:6, 2:6], values[:, 0, 0] = 1, 0
    values[1] = torch.where(values[1] == 0.5, 0.1, values[1])
    values[1, 1:7, 1:7], values[1, 3, 3] = 0.3, 1
    truths = [TRUTH, showing(("0", (1, 1, 7, 7)))]
    result = play(LocalisationError(threshold=None), values, [FIRST, FIRST], truths)
    assert result.value == 0.5
    assert result.interval[0] == 0


@pytest.mark.parametrize("extractor", ["adl", "cam"])
def test_only_the_wsol_extractor_has_thresholds_to_choose_from(extractor) -> None:
    with pytest.raises(ValueError, match="no other thresholds"):
        LocalisationError(extractor=extractor, threshold=None)
