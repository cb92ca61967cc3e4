from __future__ import annotations

import numpy as np
import pytest
import torch
from slow_matching import lom, phm

from seewhy.summaries.hough import Space, hough_confidence, memory
from seewhy.summaries.offsets import offset_confidence

SIZE = (200, 240)
CLOSE = 1e-10
"""Both sides are float64; sums are taken in another order."""


def boxes(count, seed, size=SIZE):
    draw = np.random.default_rng(seed)
    corner = draw.uniform(0, 0.6, (count, 2)) * size[::-1]
    sides = draw.uniform(20, 80, (count, 1)) * draw.uniform(0.75, 1.3, (count, 2))
    return np.concatenate([corner, corner + sides], 1)


def as_batch(*arrays):
    return tuple(torch.from_numpy(np.stack(each)) for each in arrays)


@pytest.mark.parametrize("size", [SIZE, (40, 30)])
def test_votes_at_once_are_votes_one_by_one(size):
    first = [boxes(25, n, size) for n in (0, 1)]
    second = [boxes(31, n + 5, size) for n in (0, 1)]
    similar = [np.random.default_rng(n).uniform(0, 1, (25, 31)) for n in (2, 3)]
    found = hough_confidence(*as_batch(similar, first, second), (size, size))
    for row in range(2):
        expected = phm(similar[row], first[row], second[row], (size, size))
        assert np.abs(found[row].numpy() - expected).max() < CLOSE
        assert 0 < (expected > 0).mean() < 1  # some fit no bin, or no aspect ratio


@pytest.mark.parametrize("order", ["simultaneous", "reference"])
def test_offsets_at_once_are_offsets_one_by_one(order):
    first, second = boxes(20, 0), boxes(22, 1)
    similar = np.random.default_rng(2).uniform(0, 1, (20, 22))
    found = offset_confidence(*as_batch([similar], [first], [second]), (SIZE, SIZE), order)[0].numpy()
    expected = lom(similar, first, second, (SIZE, SIZE), order == "reference")
    assert np.abs(found - expected).max() < CLOSE


def test_the_order_of_regions_matters_to_the_reference_alone():
    first, second = boxes(20, 0), boxes(22, 1)
    similar = np.random.default_rng(2).uniform(0, 1, (20, 22))
    turned = np.random.default_rng(3).permutation(20)

    def changed(order):
        one, other = (
            offset_confidence(*as_batch([similar[rows]], [first[rows]], [second]), (SIZE, SIZE), order)[0]
            for rows in (np.arange(20), turned)
        )
        return float((one[turned] - other).abs().sum() / one.abs().sum())

    assert changed("simultaneous") < CLOSE
    assert changed("reference") > 0.01


def planted(seed=0, count=120, scale=1.2, shift=(15.0, 10.0)):
    """Regions, the same moved and enlarged, and similarities of which a true one is seldom the largest."""
    draw = np.random.default_rng(seed)
    first = boxes(count, seed)
    second = first * scale + np.tile(shift, 2)
    similar = draw.uniform(0, 1, (count, count))
    np.fill_diagonal(similar, draw.uniform(0.5, 1, count))
    return similar, first, second


@pytest.mark.parametrize("seed", [0, 1, 2])
def test_a_planted_move_is_found_where_appearance_alone_is_not_enough(seed):
    similar, first, second = planted(seed)
    sizes = (SIZE, (260, 310))
    truth = np.arange(len(first))
    assert (similar.argmax(1) == truth).mean() <= 0.1
    found = hough_confidence(*as_batch([similar], [first], [second]), sizes)[0]
    assert (found.argmax(1).numpy() == truth).mean() >= 0.95


def test_moving_the_second_picture_by_a_bin_changes_nothing():
    similar, first, second = planted(count=60)
    size = (1600, 1600)  # so large that no vote leaves the bins
    cell = (2 * 1600 - 1) / Space.of(size).columns
    second = second + 600
    one, other = (
        hough_confidence(*as_batch([similar], [first], [second + move]), (SIZE, size))[0]
        for move in (0.0, cell)
    )
    assert float((one - other).abs().max()) < CLOSE * float(one.max()) + 1e-9
    assert float(one.max()) > 0


def test_a_picture_matches_itself_region_by_region():
    own = boxes(60, 4)
    vectors = np.random.default_rng(5).normal(size=(60, 16))
    vectors /= np.linalg.norm(vectors, axis=1, keepdims=True)
    similar = np.clip(vectors @ vectors.T, 0, None)
    for confidence in (hough_confidence, offset_confidence):
        found = confidence(*as_batch([similar], [own], [own]), (SIZE, SIZE))[0]
        assert (found.argmax(1).numpy() == np.arange(60)).all()


def test_regions_of_other_proportions_do_not_match():
    first = np.array([[10.0, 10.0, 50.0, 50.0]])
    second = np.array([[10.0, 10.0, 50.0, 50.0], [10.0, 10.0, 90.0, 50.0], [10.0, 10.0, 85.0, 50.0]])
    found = hough_confidence(*as_batch([np.ones((1, 3))], [first], [second]), (SIZE, SIZE))[0, 0]
    assert found[0] > 0
    assert found[1] == 0  # twice as wide
    assert found[2] > 0


def test_pairs_without_a_valid_vote_have_no_confidence():
    far = np.array([[0.0, 0.0, 4.0, 4.0]])
    large = np.array([[0.0, 0.0, 200.0, 200.0]])
    found = hough_confidence(*as_batch([np.ones((1, 1))], [far], [large]), (SIZE, SIZE))
    assert float(found.sum()) == 0  # 2500 times the area is more than 2 ** 4


def test_the_memory_that_is_stated_bounds_what_is_held():
    count, sizes = 200, ((224, 224), (224, 224))
    dense = 8 * count * Space.of(sizes[1]).bins
    assert memory(sizes, count) < dense / 20
