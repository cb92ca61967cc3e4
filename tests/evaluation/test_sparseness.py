"""Gini index: by hand and by all pairs of pixels."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from metric_cases import explained, linear, pictures

from seewhy.evaluation.sparseness import Sparseness, gini


@pytest.mark.parametrize(
    ("values", "expected"),
    [([1.0, 2.0, 3.0], 2 / 9), ([5.0] * 7, 0.0), ([0.0, 0.0, 9.0, 0.0], 3 / 4), ([0.0, 1.0], 1 / 2)],
)
def test_gini_by_hand(values, expected) -> None:
    assert gini(torch.tensor(values).view(1, 1, 1, -1)).item() == pytest.approx(expected, abs=1e-12)


def test_gini_is_the_mean_difference_of_all_pairs() -> None:
    values = np.random.default_rng(0).random((2, 3, 4, 5)).astype(np.float32)
    found = gini(torch.from_numpy(values))
    for place in np.ndindex(2, 3):
        flat = values[place].ravel().astype(float)
        pairs = sum(abs(one - other) for one in flat for other in flat)
        assert found[place].item() == pytest.approx(pairs / (2 * len(flat) ** 2 * flat.mean()), rel=1e-9)


def test_evidence_is_sparser_than_the_magnitude_of_the_signed_values() -> None:
    values = torch.tensor([1.0, -1.0, 1.0, -1.0]).view(1, 2, 2)

    def play(**settings):
        return Sparseness(**settings)(linear(side=2), pictures(1, 2), explained(values))

    assert play().value == 0.5
    assert play(reads="magnitude").value == 0
    assert play().metric.better == "neither"


def test_a_map_of_zeros_is_undefined() -> None:
    result = Sparseness()(linear(side=2), pictures(1, 2), explained(torch.zeros(1, 2, 2)))
    assert result.undefined == 1
    assert list(result.remarks.values()) == ["the map is zero"]
