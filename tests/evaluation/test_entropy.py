"""Entropy: by hand and by a loop."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from metric_cases import explained, linear, pictures

from seewhy.evaluation.entropy import Entropy, entropy


@pytest.mark.parametrize(
    ("values", "expected"),
    [([2.0] * 8, math.log(8)), ([0.0, 3.0, 0.0], 0.0), ([1.0, 1.0, 2.0], 1.5 * math.log(2))],
)
def test_entropy_by_hand(values, expected) -> None:
    assert entropy(torch.tensor(values).view(1, 1, 1, -1)).item() == pytest.approx(expected, abs=1e-12)


def test_entropy_is_that_of_a_loop() -> None:
    values = np.random.default_rng(0).random((2, 1, 3, 4)).astype(np.float32)
    for row, found in zip(values, entropy(torch.from_numpy(values)), strict=True):
        shares = [each / row.astype(float).sum() for each in row.ravel().astype(float)]
        assert found.item() == pytest.approx(-sum(p * math.log(p) for p in shares), rel=1e-9)


def test_effective_pixels_are_as_many_equal_ones() -> None:
    values = torch.zeros(1, 4, 4)
    values[0, :2, :3] = 0.7
    result = Entropy()(linear(side=4), pictures(1, 4), explained(values))
    assert result.details["effective"].item() == pytest.approx(6)


def test_a_map_of_zeros_is_undefined() -> None:
    result = Entropy()(linear(side=2), pictures(1, 2), explained(torch.full((1, 2, 2), -1.0)))
    assert list(result.remarks.values()) == ["the map is zero"]
