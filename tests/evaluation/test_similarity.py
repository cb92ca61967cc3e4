"""Spearman's correlation, by counting."""

from __future__ import annotations

import math

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from seewhy.evaluation.similarity import spearman


def slow(first: list[float], second: list[float]) -> float:
    """Every rank by counting what is less and what is equal."""

    def ranks(values):
        return [
            sum(other < each for other in values) + (sum(other == each for other in values) - 1) / 2
            for each in values
        ]

    x, y = ranks(first), ranks(second)
    mean = (len(x) - 1) / 2
    product = sum((a - mean) * (b - mean) for a, b in zip(x, y, strict=True))
    squares = sum((a - mean) ** 2 for a in x) * sum((b - mean) ** 2 for b in y)
    return product / math.sqrt(squares) if squares else math.nan


@given(st.lists(st.tuples(st.integers(-3, 3), st.integers(-3, 3)), min_size=1, max_size=12))
def test_ranks_are_counted_and_equals_share_theirs(pairs) -> None:
    first, second = (torch.tensor([float(pair[side]) for pair in pairs]) for side in (0, 1))
    expected = slow(first.tolist(), second.tolist())
    assert spearman(first, second).item() == pytest.approx(expected, abs=1e-12, nan_ok=True)


def test_leading_axes_are_a_batch() -> None:
    draws = torch.Generator().manual_seed(0)
    first, second = (torch.randn(2, 3, 20, generator=draws).round(decimals=1) for _ in range(2))
    found = spearman(first, second)
    for row in range(2):
        for column in range(3):
            expected = slow(first[row, column].tolist(), second[row, column].tolist())
            assert found[row, column].item() == pytest.approx(expected, abs=1e-12)


def test_what_ranks_nothing_has_no_correlation() -> None:
    values = torch.tensor([[1.0, 2, 3], [1, 1, 1], [1, math.nan, 2]])
    found = spearman(values, torch.tensor([3.0, 2, 1]).expand(3, 3))
    assert found[0] == -1
    assert torch.isnan(found[1:]).all()
    assert torch.isnan(spearman(torch.tensor([3.0, 2, 1]), torch.tensor([math.inf, 1, 1])))
