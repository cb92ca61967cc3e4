"""Energy-based pointing game: shares by hand and by a loop."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from metric_cases import explained, linear, pictures, showing

from seewhy.evaluation.energy_pointing_game import EnergyPointingGame, energy

TRUTH = showing(("0", (0, 0, 4, 8)))  # the left half


def play(maps, truths=(TRUTH,)):
    return EnergyPointingGame()(linear(), pictures(len(maps)), explained(maps), list(truths))


def test_three_quarters_of_the_evidence_on_half_of_the_picture() -> None:
    values = torch.zeros(1, 8, 8)
    values[0, 0, 0], values[0, 7, 7], values[0, 5, 5] = 3, 1, -9  # what speaks against is no evidence
    result = play(values)
    assert result.value == 0.75
    assert result.details["area"] == 0.5
    assert result.details["gain"] == 0.5


@pytest.mark.parametrize(("inside", "share"), [(True, 1.0), (False, 0.0)])
def test_the_object_itself_has_all_and_its_complement_nothing(inside, share) -> None:
    mask = torch.from_numpy(TRUTH.objects[0].mask)
    assert play((mask if inside else ~mask)[None].float()).value == share


def test_a_constant_map_has_the_share_of_the_area_and_no_gain() -> None:
    result = play(torch.full((1, 8, 8), 0.3))
    assert result.value.item() == pytest.approx(0.5, rel=1e-6)
    assert result.details["gain"].item() == pytest.approx(0, abs=1e-6)


def test_a_map_without_evidence_is_undefined() -> None:
    result = play(torch.full((1, 8, 8), -1.0))
    assert result.undefined == 1
    assert list(result.remarks.values()) == ["the map has no positive evidence"]


def test_shares_are_those_of_a_loop() -> None:
    draws = np.random.default_rng(0)
    maps, inside = draws.random((3, 2, 5, 6)).astype(np.float32), draws.random((3, 2, 5, 6)) < 0.4
    found = energy(torch.from_numpy(maps), torch.from_numpy(inside))
    for place in np.ndindex(3, 2):
        total = part = 0.0
        for pixel in np.ndindex(5, 6):
            total += float(maps[place][pixel])
            part += float(maps[place][pixel]) * inside[place][pixel]
        assert found[place].item() == pytest.approx(part / total, rel=1e-12)


def test_a_coarse_map_is_upsampled_before_it_is_read() -> None:
    coarse = torch.zeros(1, 2, 2)
    coarse[0, :, 0] = 1
    # Bilinear between the cells' centres (at 1.5 and 5.5 of 0 to 7): columns 1, 1, .875, .625, .375, .125, 0, 0.
    result = EnergyPointingGame()(linear(), pictures(1), explained(coarse, size=(8, 8)), [TRUTH])
    assert result.value.item() == pytest.approx(3.5 / 4, rel=1e-6)
