from __future__ import annotations

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from seewhy.network import precision
from seewhy.network.precision import autocast, in_chunks, out_of_memory

CPU = torch.device("cpu")


@pytest.fixture(autouse=True, scope="module")
def _no_garbage_collection():
    """Every failure collects garbage, which takes a while beside all that the other tests have loaded."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(precision.gc, "collect", lambda: None)
        yield


@given(st.integers(1, 40), st.integers(1, 50) | st.none(), st.integers(1, 40))
def test_chunks_cover_the_range_in_order_whatever_fits(total, chunk, fits):
    def run(start: int, stop: int) -> list[int]:
        if stop - start > fits:
            raise torch.OutOfMemoryError("out of memory")
        return list(range(start, stop))

    assert [each for part in in_chunks(run, total, chunk) for each in part] == list(range(total))


def test_the_chunk_is_halved_once_per_failure_and_stays_small():
    sizes: list[int] = []

    def run(start: int, stop: int) -> int:
        sizes.append(stop - start)
        if stop - start > 3:
            raise RuntimeError("CUDA error: out of memory")
        return stop

    in_chunks(run, 10)
    assert sizes == [10, 5, 2, 2, 2, 2, 2]


def test_one_that_does_not_fit_is_an_error():
    def run(start: int, stop: int) -> None:
        raise MemoryError

    with pytest.raises(MemoryError):
        in_chunks(run, 4)


def test_other_errors_are_not_taken_for_a_lack_of_memory():
    calls: list[int] = []

    def run(start: int, stop: int) -> None:
        calls.append(start)
        raise RuntimeError("shapes do not match")

    with pytest.raises(RuntimeError, match="shapes"):
        in_chunks(run, 4)
    assert calls == [0]


@pytest.mark.parametrize(
    ("error", "expected"),
    [
        (torch.OutOfMemoryError("x"), True),
        (MemoryError(), True),
        (RuntimeError("MPS backend out of memory"), True),
        (RuntimeError("DefaultCPUAllocator: can't allocate memory: you tried"), True),
        (RuntimeError("shape mismatch"), False),
        (ValueError("out of memory"), False),
    ],
)
def test_a_lack_of_memory_is_told_from_other_errors(error, expected):
    assert out_of_memory(error) is expected


@pytest.mark.parametrize(
    ("wanted", "fast", "expected"),
    [
        ("float32", True, torch.float32),
        ("bfloat16", False, torch.bfloat16),
        ("auto", True, torch.bfloat16),
        ("auto", False, torch.float32),
    ],
)
def test_auto_lowers_the_precision_only_where_that_is_faster(wanted, fast, expected, monkeypatch):
    monkeypatch.setattr(precision, "fast_in_bfloat16", lambda device: fast)
    with autocast(wanted, CPU):
        assert torch.nn.functional.linear(torch.ones(1, 2), torch.ones(3, 2)).dtype == expected
