"""Boxes in the ways that datasets count pixels, worked out by hand."""

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from seewhy.datasets.boxes import edges, whole
from seewhy.errors import InputError
from seewhy.truth import Box

SIZE = (8, 10)  # H, W


@pytest.mark.parametrize(
    ("values", "first", "box"),
    [
        (("1", "1", "10", "8"), 1, Box(0, 0, 10, 8)),  # VOC: the whole picture
        (("3", "2", "3", "2"), 1, Box(2, 1, 3, 2)),  # VOC: one pixel
        (("0", "0", "9", "7"), 0, Box(0, 0, 10, 8)),  # ImageNet: the whole picture
        ((0, 0, 10, 8), None, Box(0, 0, 10, 8)),  # edges: the whole picture
        ((1.4, 1.6, 3.5, 4.51), None, Box(1, 2, 3, 5)),  # pixels with centres 1.5, 2.5; 2.5, 3.5, 4.5
        ((2.6, 3.1, 2.9, 3.3), None, Box(2, 3, 3, 4)),  # no centre inside: the pixel it lies in
        ((-0.4, 0, 10.4, 8), None, Box(0, 0, 10, 8)),  # less than half a pixel beyond
    ],
)
def test_a_box_is_the_pixels_whose_centres_it_holds(values, first, box) -> None:
    assert whole(edges(values, first), SIZE) == box


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ((0, 0, 11, 8), r"the box from \(0, 0\) to \(11, 8\) reaches beyond the picture of 10 x 8 pixels"),
        ((-1, 0, 5, 5), "reaches beyond"),
        ((0, 2, 5, 9), "reaches beyond"),
        ((5, 5, 5, 6), "has no extent"),
        ((5, 5, 2, 6), "has no extent"),
    ],
)
def test_a_box_that_is_none_or_lies_outside_is_refused(values, message) -> None:
    with pytest.raises(InputError, match=message):
        whole(edges(values), SIZE)


@pytest.mark.parametrize(
    "values", [("1", "2", "3"), ("a", "1", "2", "3"), ("nan", "1", "2", "3"), (1, 2, math.inf, 3)]
)
def test_what_is_not_four_finite_numbers_is_refused(values) -> None:
    with pytest.raises(InputError, match="is not four"):
        edges(values)


@given(st.floats(0, 9.9), st.floats(0.001, 10), st.integers(0, 7))
def test_every_box_inside_has_a_pixel_and_stays_inside(left, width, top) -> None:
    right = min(left + width, 10.0)
    if right > left:
        box = whole((left, top, right, top + 1), SIZE)
        assert 0 <= box.x0 < box.x1 <= 10
        assert (box.y0, box.y1) == (top, top + 1)
        assert abs((box.x1 - box.x0) - (right - left)) <= 1 + 1e-9
