"""Attention areas: the boxes that are drawn, and the pixels that they are drawn around."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays

from seewhy.errors import InputError
from seewhy.render.boxes import boxes
from seewhy.saliency.areas import attention_areas

MAPS = arrays.arrays(
    np.float32, st.tuples(st.integers(1, 9), st.integers(1, 9)), elements=st.sampled_from([0, 0.25, 0.75, 1])
)


@given(MAPS)
def test_areas_have_the_boxes_of_the_map_and_together_all_its_salient_pixels(values) -> None:
    found = attention_areas(values, 0.5)
    key = lambda box: (box.y0, box.x0, box.y1, box.x1, box.area)  # noqa: E731
    assert sorted(key(area.box) for area in found) == sorted(key(box) for box in boxes(values, 0.5))
    if found:
        assert np.array_equal(sum(area.mask.astype(int) for area in found), values >= 0.5 * values.max())
    for area in found:
        assert area.mask.sum() == area.box.area
        assert area.box.mass == pytest.approx(values[area.mask].sum())


def test_the_area_with_the_largest_sum_comes_first() -> None:
    values = np.zeros((6, 9), np.float32)
    values[1:5, 1:4], values[2, 6] = 0.6, 1
    first, second = attention_areas(values)
    assert (first.box.x0, first.box.y0, first.box.x1, first.box.y1) == (1, 1, 4, 5)
    assert second.mask.sum() == 1


def test_a_constant_map_has_no_areas_and_a_wrong_threshold_is_refused() -> None:
    assert attention_areas(np.ones((4, 4), np.float32)) == []
    with pytest.raises(InputError, match="threshold"):
        attention_areas(np.eye(4, dtype=np.float32), 0)
