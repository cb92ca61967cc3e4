"""Pointing game: distances and rules by hand, then a loop over pixels."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from metric_cases import explained, linear, pictures, showing

import seewhy
from seewhy.errors import InputError
from seewhy.evaluation.pointing_game import PointingGame, highest, hits
from seewhy.truth import Box, Object, Truth


def play(metric, maps, truths, labels="0", network=None):
    side = maps.shape[-1]
    return metric(network or linear(side=side), pictures(len(maps), side), explained(maps, labels), truths)


def highest_by_loop(values):
    """The maximum nearest to the mean of all maxima, in whole numbers; the first of equally near ones."""
    tied = np.argwhere(values == values.max()).tolist()
    count, total = len(tied), np.sum(tied, axis=0)
    away = [(count * y - total[0]) ** 2 + (count * x - total[1]) ** 2 for y, x in tied]
    return tuple(tied[away.index(min(away))])


def pointing_at(row, column, side=20):
    values = torch.zeros(1, side, side)
    values[0, row, column] = 1
    return values


@pytest.mark.parametrize(
    ("column", "row", "hit"),
    [(9, 12, False), (9, 11, True), (0, 15, False), (15, 0, False), (0, 14, True), (0, 0, True)],
)
def test_exactly_fifteen_pixels_away_is_a_miss(column, row, hit) -> None:
    truth = showing(("0", (column, row, column + 1, row + 1)), size=(20, 20))
    assert play(PointingGame(), pointing_at(0, 0), [truth]).value == hit


def test_without_tolerance_only_the_object_itself_is_hit() -> None:
    truth = showing(("0", (4, 4, 6, 6)), size=(20, 20))
    assert play(PointingGame(tolerance=0), pointing_at(4, 5), [truth]).value == 1
    assert play(PointingGame(tolerance=0), pointing_at(4, 6), [truth]).value == 0


@given(seed=st.integers(0, 10_000), tolerance=st.sampled_from([0.0, 1.0, 2.0, 2.5, 5.0, 15.0]))
@settings(max_examples=60, deadline=None)
def test_hits_are_those_of_a_loop_over_pixels(seed, tolerance) -> None:
    draws = np.random.default_rng(seed)
    maps = draws.integers(0, 3, (2, 2, 7, 9)).astype(np.float32)
    inside = draws.random((2, 2, 7, 9)) < 0.05
    found = hits(torch.from_numpy(maps), torch.from_numpy(inside), tolerance)
    for place in np.ndindex(2, 2):
        y, x = highest_by_loop(maps[place])
        away = [math.hypot(y - v, x - u) for v, u in np.argwhere(inside[place])]
        assert bool(found[place]) == any(each < tolerance or each == 0 for each in away)


@given(seed=st.integers(0, 10_000))
@settings(max_examples=60, deadline=None)
def test_of_several_maxima_the_one_nearest_to_their_mean_counts(seed) -> None:
    maps = np.random.default_rng(seed).integers(0, 2, (1, 1, 6, 5)).astype(np.float32)
    assert tuple(highest(torch.from_numpy(maps))[0, 0].tolist()) == highest_by_loop(maps[0, 0])


def test_a_class_counts_as_much_as_another_whatever_its_number_of_pictures() -> None:
    cat, dog = showing(("0", (0, 0, 2, 2)), size=(20, 20)), showing(("1", (0, 0, 2, 2)), size=(20, 20))
    maps = torch.cat([pointing_at(0, 0), pointing_at(19, 19), pointing_at(0, 0)])
    labels = [["0"], ["0"], ["1"]]
    result = play(PointingGame(), maps, [cat, cat, dog], labels)
    assert result.details["classes"].tolist() == [0.5, 1.0]
    assert result.value == 0.75
    torch.testing.assert_close(
        play(PointingGame(average="picture"), maps, [cat, cat, dog], labels).value.item(), 2 / 3
    )


def test_a_constant_map_is_a_miss_unless_it_shall_be_undefined() -> None:
    truth = showing(("0", (0, 0, 20, 20)), size=(20, 20))
    strict = play(PointingGame(), torch.ones(1, 20, 20), [truth])
    assert (strict.value, list(strict.remarks.values())) == (0, ["the map is constant: it points nowhere"])
    assert play(PointingGame(strict=False), torch.zeros(1, 20, 20), [truth]).undefined == 1


def test_a_picture_without_the_class_is_undefined_and_so_is_an_object_of_which_nothing_is_visible() -> None:
    other = showing(("1", (0, 0, 2, 2)), size=(20, 20))
    hidden = Truth((20, 20), (Object("0", Box(0, 0, 2, 2), np.zeros((20, 20), bool)),))
    result = play(PointingGame(), torch.cat([pointing_at(0, 0), pointing_at(0, 1)]), [other, hidden])
    assert result.undefined == 2
    assert sorted(result.remarks.values()) == ["nothing of '0' is visible", "the picture shows no '0'"]
    # For the picture's label, whatever was explained:
    assert play(PointingGame(match="main"), pointing_at(0, 0), [other]).value == 1


def thing(label, corners, **attributes):
    return Object(label, Box(*corners), attributes=attributes)


def test_voc_leaves_out_a_class_whose_objects_are_all_difficult_and_points_at_difficult_ones_otherwise() -> (
    None
):
    easy, hard = thing("0", (15, 15, 18, 18)), thing("0", (0, 0, 2, 2), difficult="1")
    metric = PointingGame.from_preset("voc07", tolerance=2)
    alone = play(metric, pointing_at(0, 0), [Truth((20, 20), (hard,))])
    assert list(alone.remarks.values()) == ["every '0' in it is flagged difficult"]
    assert alone.undefined == 1
    assert play(metric, pointing_at(0, 0), [Truth((20, 20), (easy, hard))]).value == 1
    assert play(PointingGame(tolerance=2), pointing_at(0, 0), [Truth((20, 20), (hard,))]).value == 1


def test_voc_fills_boxes_and_coco_wants_segments() -> None:
    mask = np.zeros((20, 20), bool)
    mask[0, 0] = True
    truth = Truth((20, 20), (Object("0", Box(0, 0, 9, 9), mask),))
    assert play(PointingGame.from_preset("voc07", tolerance=1), pointing_at(8, 8), [truth]).value == 1
    assert play(PointingGame.from_preset("coco14", tolerance=1), pointing_at(8, 8), [truth]).value == 0
    with pytest.raises(InputError, match="'0' has no mask; use region='box'"):
        play(
            PointingGame.from_preset("coco14"),
            pointing_at(0, 0),
            [Truth((20, 20), (thing("0", (0, 0, 2, 2)),))],
        )


@pytest.mark.parametrize(
    ("objects", "kept"),
    [
        (
            [thing("0", (0, 0, 9, 9)), thing("1", (0, 0, 2, 2))],
            True,
        ),  # 81 of 400 pixels, beside another class
        (
            [thing("0", (0, 0, 10, 10)), thing("1", (0, 0, 2, 2))],
            False,
        ),  # a quarter is not less than a quarter
        ([thing("0", (0, 0, 9, 9)), thing("0", (0, 0, 2, 2))], False),  # nothing distracts
        ([thing("0", (0, 0, 9, 9), **{"difficult-subset": "1"})], True),  # flags go before the rule
        ([thing("0", (0, 0, 9, 9), **{"difficult-subset": "0"}), thing("1", (0, 0, 2, 2))], False),
    ],
)
def test_the_difficult_subset_has_small_objects_beside_another_class(objects, kept) -> None:
    metric = PointingGame.from_preset("voc07-difficult")
    result = play(metric, pointing_at(0, 0), [Truth((20, 20), tuple(objects))])
    assert result.defined.tolist() == [kept]


def test_labels_of_the_truth_are_found_among_the_network_s_names() -> None:
    network = seewhy.Network(linear(side=20), classes=["tabby, cat", "dog", "hen"])
    truth = showing(("cat", (0, 0, 2, 2)), size=(20, 20))
    assert play(PointingGame(), pointing_at(0, 0), [truth], "tabby", network).value == 1
    assert play(PointingGame(), pointing_at(0, 0), [truth], "dog", network).undefined == 1
