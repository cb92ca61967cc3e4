"""What one file holds: sealed bytes, and maps."""

import numpy as np
import pyarrow
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import array_shapes, arrays
from small_work import compute, small_plan

from seewhy.errors import InputError, StoreError
from seewhy.store.parquet import from_bytes, to_bytes
from seewhy.store.rows import joined, packed, to_table, unpacked


@pytest.fixture(scope="module")
def data():
    return first_shard()


def first_shard() -> bytes:
    plan = small_plan()
    return to_bytes(joined(plan, 0, [to_table(plan, items, compute(items)) for items in plan.chunks(0)]))


def test_equal_tables_give_equal_bytes(data):
    assert first_shard() == data


def test_every_single_flipped_byte_is_detected(data):
    for place in range(len(data)):
        flipped = bytearray(data)
        flipped[place] ^= 1 << place % 8
        with pytest.raises(StoreError, match=r"^here\.parquet is damaged"):
            from_bytes(bytes(flipped), "here.parquet")


def test_every_truncation_is_detected(data):
    for length in range(len(data)):
        with pytest.raises(StoreError, match=f"^here.parquet is damaged: its {length} bytes"):
            from_bytes(data[:length], "here.parquet")


def test_a_parquet_file_of_somebody_else_is_refused():
    sink = pyarrow.BufferOutputStream()
    pyarrow.parquet.write_table(pyarrow.table({"id": ["a"]}), sink)
    with pytest.raises(StoreError, match="damaged"):
        from_bytes(sink.getvalue().to_pybytes(), "theirs.parquet")


FINITE = st.floats(allow_nan=False, allow_infinity=False, width=32)


@given(arrays(np.float32, array_shapes(max_dims=3), elements=FINITE))
def test_a_map_comes_back_to_half_precision_of_its_largest_magnitude(values):
    back = unpacked(packed(values))
    scale = np.abs(values).max()
    # Half of float16's last place, where shares are normal and where they are not; float32 rounds twice more.
    bound = np.maximum(np.abs(values.astype(np.float64)) * 2.0**-11, scale * 2.0**-25) * 1.001 + 2.0**-149
    assert back.shape == values.shape
    assert (np.abs(back.astype(np.float64) - values) <= bound).all()
    assert np.abs(back).max() == scale


def test_a_map_of_7_x_7_takes_98_bytes():
    assert len(packed(np.ones((7, 7), np.float32))["values"]) == 98


def test_a_map_without_evidence_stays_zero():
    assert (unpacked(packed(np.zeros((2, 3), np.float32))) == np.zeros((2, 3))).all()


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
def test_a_map_that_is_not_finite_is_refused(value):
    with pytest.raises(InputError, match="NaN or infinity"):
        packed(np.array([1, value], np.float32))
