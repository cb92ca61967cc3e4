"""ROAD: by a loop over pictures with a dense solve, and what does not change its number."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from metric_cases import explained, linear, maps_of_all_kinds, one_number_whatever_the_batches, pictures
from pydantic import ValidationError
from test_imputation import dense
from torch import nn

from seewhy.evaluation.road import ROAD

NETWORK = linear(side=9).requires_grad_(False)
FEW = (10.0, 50.0, 90.0)


def play(images, maps, network=NETWORK, labels="0", **settings):
    metric = ROAD(**{"percentiles": FEW, **settings})
    return metric(
        network, images, explained(maps, labels), ids=[f"{place:02}" for place in range(len(images))]
    )


def by_a_loop(image, values, most_first, accuracy) -> list[float]:
    """Without noise: the picture's score, then those at each percentile."""
    order = values.flatten().argsort(descending=most_first)
    found = []
    for share in (0.0, *FEW):
        missing = torch.zeros(81, dtype=torch.bool)
        missing[order[: int(81 * share / 100)]] = True
        filled = dense(image.numpy(), missing.view(9, 9).numpy())
        output = NETWORK(torch.from_numpy(filled).float()[None])[0]
        found.append(float(output.argmax() == 0) if accuracy else float(output.softmax(0)[0]))
    return found


@pytest.mark.parametrize("score", ["confidence", "accuracy"])
def test_the_scores_are_those_of_a_loop_with_a_direct_solve(score) -> None:
    images = pictures(5, side=9)
    maps = torch.rand(5, 9, 9, generator=torch.Generator().manual_seed(4))
    pairs = list(zip(images, maps, strict=True))
    most, least = (
        np.array([by_a_loop(*pair, first, score == "accuracy") for pair in pairs]) for first in (True, False)
    )
    lost, kept = most[:, 0] - most[:, 1:].mean(1), least[:, 1:].mean(1) - least[:, 0]
    expected = {"morf": lost, "lerf": kept, "combined": (least[:, 1:] - most[:, 1:]).mean(1) / 2}
    for order, values in expected.items():
        found = play(images, maps, order=order, score=score, noise=0)
        np.testing.assert_allclose(found.values.numpy(), values, atol=1e-5)
    np.testing.assert_allclose(found.details["clean"], most[:, 0].mean(), atol=1e-5)
    both = play(images, maps, score=score, noise=0)
    np.testing.assert_allclose(both.details["morf"], most[:, 1:].mean(0), atol=1e-5)
    np.testing.assert_allclose(both.details["lerf"], least[:, 1:].mean(0), atol=1e-5)


@pytest.mark.parametrize("preset", ["combined", "confidence", "accuracy"])
def test_one_number_results_whatever_the_batches(preset) -> None:
    # Public code has averaged the first batch alone.
    images, maps = pictures(12, side=9), maps_of_all_kinds(12, side=9, targets=2)
    labels = [["0", "2"]] * 12
    metric = ROAD.from_preset(preset, percentiles=FEW, noise=0.3)
    one_number_whatever_the_batches(metric, NETWORK, images, explained(maps, labels), rtol=0)


def test_noise_is_the_picture_s_own_and_as_strong_as_it_says() -> None:
    seen = []

    class Spy(nn.Module):
        def forward(self, x):
            seen.append(x.clone())
            return x.flatten(1)[:, :2]

    images = torch.zeros(2, 3, 30, 30)
    images[1] += 0.5
    maps = torch.rand(2, 30, 30, generator=torch.Generator().manual_seed(5))
    play(images, maps, Spy(), noise=0.2, percentiles=(50,))
    shown = torch.cat(seen[-1:])
    assert len(shown) == 6  # the picture, without its highest half, without its lowest half
    for row in range(2):
        clean, most, least = shown[3 * row : 3 * row + 3] - images[row]
        assert not clean.any()
        assert not (most * least).any()  # what is missing of one is known of the other
        assert (most + least).std().item() == pytest.approx(0.2, rel=0.05)
    assert not torch.equal(shown[1], shown[4] - 0.5)
    before = seen.pop()
    play(images, maps, Spy(), noise=0.2, percentiles=(50,))
    assert torch.equal(seen.pop(), before)


def test_only_the_order_of_the_map_counts() -> None:
    images, maps = pictures(3, side=9), maps_of_all_kinds(3, side=9).clamp_min(0)
    plain = play(images, maps)
    assert play(images, maps * 7).values.tolist() == plain.values.tolist()
    assert play(images, maps**3).values.tolist() == plain.values.tolist()


def test_maps_that_rank_nothing_are_ranked_at_random_and_those_not_finite_are_undefined() -> None:
    maps = torch.zeros(3, 9, 9)
    maps[1], maps[2, 0, 0] = 1, math.nan
    found = play(pictures(3, side=9), maps)
    assert found.defined.tolist() == [True, True, False]
    assert [text[:19] for text in found.remarks.values()] == [
        "the map is constant",
        "the map is constant",
        "the map holds NaN o",
    ]


def test_random_maps_have_zero_combined_and_the_network_s_own_weights_more() -> None:
    images = pictures(60, side=9)
    random = play(images, torch.rand(60, 9, 9, generator=torch.Generator().manual_seed(6)))
    assert abs(random.value) < 3 * random.values.std() / math.sqrt(60)
    weight = NETWORK.linear.weight.view(3, 3, 9, 9)
    added = ((weight[0] - weight.mean(0)) * images).sum(1)
    assert play(images, added).value > 0.1


def test_a_single_logit_is_first_where_its_answer_is_the_more_probable_one() -> None:
    class One(nn.Module):
        def forward(self, x):
            return x.mean((1, 2, 3))[:, None]

    images = torch.stack([torch.full((3, 9, 9), value) for value in (1.0, -1.0)])
    maps = torch.rand(2, 9, 9)
    found = play(images, maps, One(), [["positive"], ["negative"]], score="accuracy", noise=0)
    assert found.values.tolist() == [0, 0]  # a constant picture is filled in as it was
    assert found.details["clean"] == 1


def test_settings_are_checked_and_told() -> None:
    with pytest.raises(ValidationError, match="something must stay known"):
        ROAD(percentiles=(50, 100))
    assert "noise=0.01" in ROAD().protocol
    assert [ROAD.from_preset(name).preset for name in ROAD.presets] == list(ROAD.presets)
    tiny = play(pictures(1, side=1), torch.ones(1, 1, 1), linear(side=1))
    assert tiny.value == 0  # of a single pixel no share can be taken
