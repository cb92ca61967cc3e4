"""Truth: boxes, masks as run lengths, and what is refused."""

import json

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import array_shapes, arrays

from seewhy.errors import InputError
from seewhy.truth import Box, Object, Part, Truth, from_run_lengths, run_lengths, tight_box

MASKS = arrays(bool, array_shapes(min_dims=2, max_dims=2, max_side=9), elements=st.booleans())


@given(MASKS)
def test_run_lengths_bring_the_mask_back(mask) -> None:
    np.testing.assert_array_equal(from_run_lengths(run_lengths(mask)), mask)


def test_run_lengths_go_down_the_columns_and_begin_with_zeros() -> None:
    mask = np.array([[1, 0], [1, 1]], bool)
    assert run_lengths(mask) == {"size": [2, 2], "counts": [0, 2, 1, 1]}


@given(MASKS.filter(lambda mask: mask.any()))
def test_a_tight_box_holds_all_of_a_mask_and_touches_it_on_every_side(mask) -> None:
    box = tight_box(mask)
    inside = mask[box.y0 : box.y1, box.x0 : box.x1]
    assert inside.sum() == mask.sum()
    assert inside[0].any()
    assert inside[-1].any()
    assert inside[:, 0].any()
    assert inside[:, -1].any()


def test_an_empty_mask_has_no_box() -> None:
    with pytest.raises(InputError, match="empty mask"):
        tight_box(np.zeros((2, 2), bool))


def example() -> Truth:
    mask = np.zeros((4, 5), bool)
    mask[1:3, 2:4] = True
    parts = (Part("ears", mask & (np.arange(5) == 2), True), Part("body", mask & (np.arange(5) == 3)))
    thing = Object("cat", Box(2, 1, 4, 3), mask, parts, {"color": "red"})
    return Truth((4, 5), (thing, Object("dog", Box(0, 0, 1, 1))), "A cat.", ~mask)


def test_truth_survives_json() -> None:
    before = example()
    after = Truth.from_json(json.loads(json.dumps(before.to_json())))

    assert after.to_json() == before.to_json()
    assert (after.label, after.caption, after.size) == ("cat", "A cat.", (4, 5))
    assert after.objects[1].mask is None
    np.testing.assert_array_equal(after.shortcut, before.shortcut)
    np.testing.assert_array_equal(after.objects[0].distinguishing(), before.objects[0].parts[0].mask)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"objects": [{"label": "cat"}]}, "KeyError 'box'"),
        ({"shortcut": {"size": [2, 2], "counts": [3]}}, "3 pixels do not fill 2 x 2"),
        ({"shortcut": {"size": [-2, -2], "counts": [4]}}, "do not fill"),
        ({"shortcut": {"size": [2, 2], "counts": [1.5, 2.5]}}, "do not fill"),
        ({"size": [4]}, "not a picture's truth"),
        ({"size": "ab"}, "not a picture's truth"),
        ({"size": [8, 8]}, "masks of another size"),
        ({"objects": None}, "not a picture's truth"),
    ],
)
def test_what_is_no_truth_is_refused(change, message) -> None:
    with pytest.raises(InputError, match=message):
        Truth.from_json(example().to_json() | change)


def test_a_picture_without_objects_has_no_label() -> None:
    with pytest.raises(InputError, match="no label"):
        _ = Truth((2, 2)).label
