from __future__ import annotations

import numpy as np
import pytest

from seewhy.summaries.flow import dense_flow, warped
from seewhy.summaries.pruning import distinct, worth
from seewhy.summaries.quality import filtered, likeness, quality


def cluster(value, count=5):
    found = np.full((count, count), value)
    np.fill_diagonal(found, 1)
    return found


def test_a_cluster_of_one_does_not_switch_the_filter_off():
    clusters = [cluster(0.6), cluster(0.62), cluster(0.2), np.ones((1, 1))]
    kept = filtered(clusters)
    assert kept[1] == [0, 1, 2, 3, 4]
    assert kept[2] is None  # a third of the usual likeness
    assert kept[3] is None


def test_clusters_of_one_alone_are_no_clusters():
    assert filtered([np.ones((1, 1)), np.ones((1, 1))]) == [None, None]
    assert quality(np.ones((1, 1))) is None


def test_a_strange_member_leaves_and_the_others_stay():
    found = cluster(0.6)
    found[4, :4] = found[:4, 4] = 0.1
    assert filtered([found, cluster(0.55)])[0] == [0, 1, 2, 3]


def test_likeness_is_one_for_equal_pictures_and_symmetric():
    pytest.importorskip("skimage")
    draw = np.random.default_rng(0)
    one = draw.integers(0, 255, (24, 20, 3)).astype(np.uint8)
    other = draw.integers(0, 255, (24, 20, 3)).astype(np.uint8)
    found = likeness([one, one, other])
    assert found[0, 1] == pytest.approx(1)
    assert found[0, 2] == found[2, 0] < 0.3


def test_of_boxes_that_show_the_same_the_better_stays():
    boxes = np.array([[0, 0, 10, 10], [1, 1, 11, 11], [0, 0, 30, 30], [50, 50, 60, 60]])
    values = np.array([1.0, 2.0, 0.5, 0.1])
    assert distinct(boxes, values).tolist() == [
        1,
        2,
        3,
    ]  # the large one covers the first two, nine times their area
    assert distinct(boxes, values, larger=np.inf).tolist() == [1, 3]


def test_a_box_is_worth_its_best_hundred_confidences():
    draw = np.random.default_rng(0)
    found = [draw.uniform(size=(3, 80)), draw.uniform(size=(3, 60))]
    every = np.concatenate(found, 1)
    expected = [sorted(row, reverse=True)[:100] for row in every]
    assert np.allclose(worth(found), np.mean(expected, 1))


MOVE = np.array([3.0, 2.0, 3.0, 2.0])


def textured(seed=0, size=(40, 48)):
    draw = np.random.default_rng(seed)
    coarse = draw.uniform(0, 255, (size[0] // 4, size[1] // 4, 3))
    return np.kron(coarse, np.ones((4, 4, 1))).astype(np.uint8)


def test_matched_boxes_move_their_pixels_and_what_lies_between_follows():
    picture = textured()
    first = np.array([[4.0, 4.0, 16.0, 16.0], [28.0, 24.0, 40.0, 36.0]])
    flow = dense_flow(picture, first, first + MOVE, np.array([1.0, 0.5]))
    y, x = np.mgrid[:40, :48] + 0.5
    assert np.abs(flow - np.stack([x + 3, y + 2], 2)).max() < 0.05  # one move for all: nothing else is smooth


def test_the_surer_match_decides_where_boxes_overlap():
    first = np.array([[0.0, 0.0, 20.0, 20.0], [0.0, 0.0, 40.0, 40.0]])
    second = first + np.array([[5.0, 0, 5, 0], [0, 0, 0, 0]])
    flow = dense_flow(textured(), first, second, np.array([2.0, 1.0]))
    assert flow[5, 5].tolist() == pytest.approx([10.5, 5.5], abs=0.3)
    assert flow[35, 35].tolist() == pytest.approx([35.5, 35.5], abs=0.3)


def test_a_picture_warped_by_its_own_move_comes_back():
    picture = textured()
    moved = np.roll(picture, (2, 3), (0, 1))
    box = np.array([[0.0, 0.0, 48.0, 40.0]])
    back = warped(moved, dense_flow(picture, box, box + MOVE, np.ones(1)))
    assert np.abs(back[:36, :42].astype(int) - picture[:36, :42]).mean() < 2


def test_without_matches_every_pixel_stays():
    flow = dense_flow(textured(), np.zeros((0, 4)), np.zeros((0, 4)), np.zeros(0))
    assert flow[7, 9].tolist() == [9.5, 7.5]
