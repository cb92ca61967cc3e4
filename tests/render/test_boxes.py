from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from seewhy.errors import InputError
from seewhy.render import Box, boxes


def flooded(values, threshold):
    """The slow oracle: flood fill, pixel by pixel, over eight neighbours."""
    waiting = {tuple(place) for place in np.argwhere(values >= threshold * values.max())}
    found = []
    while waiting:
        stack, component = [waiting.pop()], []
        while stack:
            y, x = stack.pop()
            component.append((y, x))
            near = {(y + dy, x + dx) for dy in (-1, 0, 1) for dx in (-1, 0, 1)} & waiting
            waiting -= near
            stack.extend(near)
        rows, columns = zip(*component, strict=True)
        mass = sum(float(values[place]) for place in component)
        found.append((min(columns), min(rows), max(columns) + 1, max(rows) + 1, len(component), mass))
    return sorted(found)


def spiral(size):
    """A one-pixel-wide path to the middle: the worst case for labels that travel."""
    mask = np.zeros((size, size))
    y, x, dy, dx = 0, 0, 0, 1
    mask[y, x] = 1
    for side in [size - 1, *(length for length in range(size - 1, 0, -2) for _ in range(2))]:
        for _ in range(side):
            y, x = y + dy, x + dx
            mask[y, x] = 1
        dy, dx = dx, -dy
    return mask


def assert_equals_flood(values, threshold):
    ours = sorted((box.x0, box.y0, box.x1, box.y1, box.area, box.mass) for box in boxes(values, threshold))
    theirs = flooded(values, threshold)
    assert [box[:5] for box in ours] == [box[:5] for box in theirs]
    # Sums in float64, taken in another order.
    assert [box[5] for box in ours] == pytest.approx([box[5] for box in theirs], rel=1e-9)


@given(
    arrays(
        np.float64,
        st.tuples(st.integers(1, 12), st.integers(1, 12)),
        elements=st.sampled_from([0.0, 1.0, 1.5]),
    )
)
@settings(max_examples=200, deadline=None)
def test_boxes_are_those_of_a_flood_fill(values):
    if values.max() > values.min():
        assert_equals_flood(values, 0.7)


@pytest.mark.parametrize("density", [0.2, 0.4, 0.6])
def test_boxes_of_noise_are_those_of_a_flood_fill(density):
    generator = np.random.default_rng(0)
    values = (generator.random((60, 47)) < density) * generator.uniform(0.5, 1, (60, 47))
    assert_equals_flood(values, 0.2)


def test_a_spiral_is_one_component():
    mask = spiral(41)
    (box,) = boxes(mask)
    assert (box.x0, box.y0, box.x1, box.y1, box.area) == (0, 0, 41, 41, mask.sum())


def test_a_box_is_half_open_and_tight():
    values = np.zeros((6, 8))
    values[2:4, 3:7] = 1
    assert boxes(values) == [Box(x0=3, y0=2, x1=7, y1=4, area=8, mass=8.0)]


def test_the_threshold_is_a_share_of_the_maximum_and_includes_it():
    values = np.array([[0.0, 2.0, 4.0, 10.0]])
    assert [box.x0 for box in boxes(values, 0.2)] == [1]
    assert [box.x0 for box in boxes(values, 0.21)] == [2]
    assert [box.x0 for box in boxes(values, 1.0)] == [3]


def test_area_and_mass_order_differently():
    values = np.array([[0.3, 0.3, 0.3, 0.0, 1.0, 0.0]])
    assert [box.x0 for box in boxes(values, by="area")] == [0, 4]
    assert [box.x0 for box in boxes(values, by="mass")] == [4, 0]


def test_equal_boxes_come_from_the_top_left():
    values = np.zeros((5, 5))
    values[[0, 0, 4], [0, 4, 2]] = 1
    assert [(box.y0, box.x0) for box in boxes(values)] == [(0, 0), (0, 4), (4, 2)]


def test_largest_only_keeps_the_first():
    values = np.array([[1.0, 0.0, 1.0, 1.0]])
    assert boxes(values, largest_only=True) == boxes(values)[:1]
    assert boxes(values, largest_only=True)[0].x0 == 2


@pytest.mark.parametrize("values", [np.zeros((4, 4)), np.ones((4, 4)), -np.eye(4), np.zeros((0, 4))])
def test_a_map_without_a_place_has_no_box(values):
    assert boxes(values) == []


def test_negative_evidence_makes_no_box():
    assert boxes(np.array([[-9.0, 0.0, 1.0]])) == [Box(x0=2, y0=0, x1=3, y1=1, area=1, mass=1.0)]


def test_a_maximum_near_underflow_does_not_take_the_whole_picture():
    values = np.zeros((3, 3), dtype=np.float32)
    values[1, 1] = 1e-45
    assert [box.area for box in boxes(values)] == [1]


@pytest.mark.parametrize("threshold", [0.0, -0.1, 1.1])
def test_a_threshold_that_is_no_share_is_refused(threshold):
    with pytest.raises(InputError, match="share of the maximum"):
        boxes(np.eye(2), threshold)


def test_a_map_with_nan_is_refused():
    with pytest.raises(InputError, match="NaN"):
        boxes(np.array([[np.nan, 1.0]]))
