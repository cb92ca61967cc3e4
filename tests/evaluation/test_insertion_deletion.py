"""Insertion and deletion: closed forms on a linear network, then a plain loop, blurs by hand."""

from __future__ import annotations

import math
from itertools import pairwise

import numpy as np
import pytest
import torch
from metric_cases import explained, linear, pictures

import seewhy
from seewhy.errors import InputError
from seewhy.evaluation.insertion_deletion import Deletion, Insertion, InsertionDeletion, area
from seewhy.evaluation.perturbed import rise_kernel, substituted

SIDE = 8
NETWORK = linear(side=SIDE)
WEIGHT = NETWORK.linear.weight.detach().view(3, 3, SIDE, SIDE)


def contributions(images, label, into):
    """What each pixel adds to a logit that is linear in the pixels, against what stands there otherwise."""
    return (WEIGHT[label] * (images - into)).sum(1)


def play(metric, images, maps, labels="0"):
    names = [f"{place:03}" for place in range(len(images))]
    result = metric(NETWORK, images, explained(maps, labels), ids=names)
    assert [image for image, _ in result.keys[:: maps.shape[1] if maps.ndim == 4 else 1]] == names
    return result


def test_a_linear_logit_falls_by_what_each_deleted_pixel_adds() -> None:
    images = pictures(3)
    maps = torch.rand(3, SIDE, SIDE, generator=torch.Generator().manual_seed(5))
    result = play(Deletion(rows=2, score="logit"), images, maps)
    added = contributions(images, 0, 0).flatten(1)
    order = maps.flatten(1).argsort(1, descending=True)
    for row in range(3):
        clean = float((WEIGHT[0] * images[row]).sum())
        curve = [clean - float(added[row, order[row, : 16 * step]].sum()) for step in range(5)]
        torch.testing.assert_close(
            result.details["curves"][row], torch.tensor(curve).double(), atol=1e-5, rtol=1e-5
        )
        trapezoid = sum((one + other) / 2 for one, other in pairwise(curve)) / 4
        assert result.values[row].item() == pytest.approx(trapezoid, abs=1e-5)


@pytest.mark.parametrize("metric", [Deletion, Insertion])
def test_no_order_beats_the_pixels_own_contributions_and_a_random_one_scores_half_of_both_ends(
    metric,
) -> None:
    images, settings = pictures(1), {"rows": 1, "score": "logit", "resamples": 100}
    substrate = "zero" if metric is Deletion else "blur-11"
    into = substituted(seewhy.Network(NETWORK), images, substrate)
    added = contributions(images, 0, into)
    best = play(metric(**settings), images, added - added.min())
    draws = torch.rand(300, SIDE, SIDE, generator=torch.Generator().manual_seed(0))
    found = play(metric(**settings), images.expand(300, -1, -1, -1), draws).values
    sign = 1 if metric is Deletion else -1
    assert (sign * found > sign * best.values).all()
    ends = best.details["curves"][0, [0, -1]]
    assert abs(found.mean() - ends.mean()) < 3 * found.std() / math.sqrt(len(found))


@pytest.mark.parametrize(
    "metric", [Deletion(rows=3), Insertion(rows=3, substrate="blur"), Insertion(rows=1, substrate="zero")]
)
def test_curves_are_those_of_a_loop_over_pictures_targets_and_steps(metric) -> None:
    images = pictures(3)
    maps = torch.rand(3, 2, SIDE, SIDE, generator=torch.Generator().manual_seed(7))
    result = play(metric, images, maps, [["0", "2"]] * 3)
    into = substituted(seewhy.Network(NETWORK), images, metric.substrate)
    step, steps = metric.rows * SIDE, math.ceil(SIDE / metric.rows)
    for row in range(3):
        for column, label in enumerate((0, 2)):
            order = sorted(
                range(64),
                key=lambda place, row=row, column=column: -float(maps[row, column].flatten()[place]),
            )
            curve = []
            for done in range(steps + 1):
                shown = (images if isinstance(metric, Deletion) else into)[row].clone().flatten(1)
                other = (into if isinstance(metric, Deletion) else images)[row].flatten(1)
                for place in order[: done * step]:
                    shown[:, place] = other[:, place]
                curve.append(NETWORK(shown.view(1, 3, SIDE, SIDE)).softmax(1)[0, label].item())
            found = result.details["curves"][2 * row + column]
            np.testing.assert_allclose(found, curve, atol=1e-6)
            expected = (sum(curve) - curve[0] / 2 - curve[-1] / 2) / steps
            assert result.values[2 * row + column].item() == pytest.approx(expected, abs=1e-6)


def test_the_difference_is_that_of_both_and_keeps_both_curves() -> None:
    images, maps = pictures(4), torch.rand(4, SIDE, SIDE, generator=torch.Generator().manual_seed(2))
    inserted, deleted = play(Insertion(rows=2), images, maps), play(Deletion(rows=2), images, maps)
    both = play(InsertionDeletion(rows=2), images, maps)
    torch.testing.assert_close(both.values, inserted.values - deleted.values)
    torch.testing.assert_close(both.details["insertion"], inserted.value)
    torch.testing.assert_close(both.details["deletion_curves"], deleted.details["curves"])
    torch.testing.assert_close(both.details["insertion_curve"], inserted.details["curves"].mean(0))


def test_a_normalised_area_needs_ends_that_differ() -> None:
    images, maps = pictures(2), torch.rand(2, SIDE, SIDE, generator=torch.Generator().manual_seed(2))
    result = play(Deletion(rows=2, score="logit"), images * torch.tensor([1, 1e-3]).view(2, 1, 1, 1), maps)
    curve = result.details["curves"][0]
    expected = (area(curve[None])[0] - curve[-1]) / (curve[0] - curve[-1])
    torch.testing.assert_close(result.details["normalised"][0], expected)
    assert math.isnan(result.details["normalised"][1])


def test_the_steps_of_the_papers_code_are_twenty_eight_of_1792_pixels() -> None:
    images = torch.zeros(1, 3, 224, 224)
    network = seewhy.Network(torch.nn.Sequential(torch.nn.AdaptiveAvgPool2d(1), torch.nn.Flatten()))
    found = Deletion.from_preset("rise")(network, images, explained(torch.rand(1, 7, 7), size=(224, 224)))
    assert found.details["curves"].shape == (1, 29)


def test_a_constant_map_deletes_at_random_and_says_so() -> None:
    result = play(Deletion(rows=1), pictures(1), torch.ones(1, SIDE, SIDE))
    assert result.undefined == 0
    assert list(result.remarks.values()) == ["the map is constant: its pixels are ranked at random"]


def test_maps_of_anything_but_classes_are_refused() -> None:
    with pytest.raises(InputError, match="explain a distance, which are no classes of Linear"):
        play(Deletion(), pictures(1), torch.rand(1, SIDE, SIDE), "a distance")


def test_a_single_logit_is_scored_as_what_it_predicts() -> None:
    network = linear(classes=1)
    found = seewhy.InputXGradient()(network, pictures(4))
    assert {label for row in found.labels for label in row} == {"positive", "negative"}
    curves = Deletion(rows=8)(network, pictures(4), found).details["curves"]
    assert (curves[:, 0] >= 0.5).all()
    torch.testing.assert_close(curves[:, 1], torch.full((4,), 0.5).double())


def test_small_pictures_cannot_be_reflected_by_twenty_five_pixels() -> None:
    with pytest.raises(InputError, match="too small"):
        play(Insertion.from_preset("group-cam"), pictures(1), torch.rand(1, SIDE, SIDE))


def test_group_cam_s_blur_is_a_loop_over_fifty_one_by_fifty_one_reflected_pixels() -> None:
    image = pictures(1, 30)
    found = substituted(seewhy.Network(NETWORK), image, "blur-51")
    padded = np.pad(image[0].double().numpy(), ((0, 0), (25, 25), (25, 25)), mode="reflect")
    line = np.exp(-(np.arange(-25, 26) ** 2) / (2 * 50.0**2))
    kernel = np.outer(line, line) / line.sum() ** 2
    for y, x in ((0, 0), (3, 29), (15, 11)):
        expected = (padded[:, y : y + 51, x : x + 51] * kernel).sum((1, 2))
        np.testing.assert_allclose(found[0, :, y, x], expected, atol=1e-6)


def test_rise_s_kernel_is_scipy_s_answer_to_a_point() -> None:
    ndimage = pytest.importorskip("scipy.ndimage")
    point = np.zeros((11, 11))
    point[5, 5] = 1
    kernel = rise_kernel().numpy()
    np.testing.assert_allclose(np.outer(kernel, kernel), ndimage.gaussian_filter(point, 5), atol=1e-12)
    assert kernel.sum() == pytest.approx(1)


def test_rise_s_blur_has_zeros_outside() -> None:
    found = substituted(seewhy.Network(NETWORK), torch.ones(1, 3, 20, 20), "blur-11")
    assert found[0, 0, 10, 10].item() == pytest.approx(1, abs=1e-6)
    assert found[0, 0, 0, 0].item() == pytest.approx(float(rise_kernel()[5:].sum()) ** 2, abs=1e-6)


def test_nothing_of_the_network_changes() -> None:
    network = torch.nn.Sequential(
        torch.nn.Conv2d(3, 4, 3), torch.nn.BatchNorm2d(4), torch.nn.Flatten(), torch.nn.Linear(144, 3)
    )
    network.train()
    before = {key: value.clone() for key, value in network.state_dict().items()}
    found = seewhy.GradCAM(layer="0")(network, pictures(3))
    Deletion(rows=2)(network, pictures(3), found)
    assert network.training
    assert all(torch.equal(value, before[key]) for key, value in network.state_dict().items())
