"""RSI-Grad-CAM: complete where nothing is rectified, whatever the speed along the way, and not where it is."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from paths import each, stieltjes, visited
from pydantic import ValidationError
from slow import close, network, pictures

from seewhy import Classes, Network, Preprocess, RSIGradCAM
from seewhy.explainers.base import Workload
from seewhy.explainers.layer_path import Ways
from seewhy.explainers.stieltjes import Stieltjes, Stretch
from seewhy.explainers.study import Study
from seewhy.targets import as_target

HEADS = ["pooled linear", "flattened linear", "bias-free relu", "convolutions"]
# Largest gaps that are allowed at 50 and at 2,000 steps, in shares of the sum of magnitudes.
AT_50, AT_2000 = 5e-3, 1e-4


def rsi(preset: str | None = None, **settings: Any) -> RSIGradCAM:
    """The method at the layer that `pairs` reads."""
    settings = {"layer": "features", **settings}
    return RSIGradCAM.from_preset(preset, **settings) if preset else RSIGradCAM(**settings)


def integral(net, image, steps, score=2, rectify=False) -> tuple[np.ndarray, np.ndarray, float]:
    """I (K, h, w), the picture's activation, and the change of the score, from an empty picture."""
    points = np.linspace(0, 1, steps + 1)
    activation, gradient, scores = visited(net, torch.zeros_like(image), image, points, score)
    gradient = np.maximum(gradient, 0) if rectify else gradient
    return stieltjes(activation, gradient), activation[-1], scores[-1] - scores[0]


@pytest.mark.parametrize("head", HEADS)
def test_the_integral_is_the_sum_over_the_points_in_float64(head):
    net, images = network(head), pictures()
    found = rsi(steps=35)(net, images, target=2)
    close(found.values[:, 0], each(images, lambda image: integral(net, image, 35)[0].sum(0)), 1e-4)


@pytest.mark.parametrize("head", HEADS)
def test_the_paper_s_map_weighs_the_picture_s_activation_by_the_integral_s_mean(head):
    net, images = network(head), pictures()

    def slow(image):
        found, activation, _ = integral(net, image, 9)
        return np.einsum("k,kij->ij", found.mean((1, 2)), activation)

    close(rsi("paper", steps=9)(net, images, target=2).values[:, 0], each(images, slow), 1e-4)


def test_the_released_code_s_preset_integrates_the_positive_part_of_the_probability_s_gradient():
    net, images = network("convolutions"), pictures()
    prepared = Network(net, preprocess=Preprocess(resize=(16, 16), mean=(0.0,) * 3, std=(1.0,) * 3))

    def slow(image):
        found, activation, _ = integral(net, image, 9, lambda output: output.softmax(1)[:, 2], rectify=True)
        return np.einsum("k,kij->ij", found.mean((1, 2)), activation) / len(found)

    found = rsi("rsi-reference", steps=9)(prepared, images, target=2)
    close(found.values[:, 0], each(images, slow), 1e-4)
    torch.testing.assert_close(found.scores, prepared(images)[:, 2:3])  # what is explained stays the logit


@pytest.mark.parametrize("head", ["bias-free relu", "convolutions", "flattened linear"])
@pytest.mark.parametrize("seed", range(10))
def test_fifty_steps_close_the_gap_on_small_networks_of_relus(head, seed):
    net, images = network(head, seed=seed).double(), pictures(2, seed=seed + 50)
    found = rsi()(net, images, target=2).values.sum((1, 2, 3))
    for image, total in zip(images, found, strict=True):
        exact, _, change = integral(net, image, 50)
        magnitude = np.abs(exact).sum()
        assert abs(exact.sum() - change) <= AT_50 * magnitude
        assert abs(float(total) - change) <= AT_50 * magnitude
        # The paper's weights hold the same sum: Z times it is the integral's.
        assert abs(25 * exact.mean((1, 2)).sum() - change) <= AT_50 * magnitude


@pytest.mark.parametrize("seed", range(3))
@pytest.mark.parametrize(
    # Of 30 networks with the second head one, seed 2, has a gap of 1.1e-4 in float64 too: its kinks lie badly.
    ("head", "bound"),
    [("convolutions", AT_2000), ("bias-free relu", 1.2 * AT_2000)],
)
def test_two_thousand_steps_close_it_further(head, bound, seed):
    net, images = network(head, seed=seed).double(), pictures(1, seed=seed + 50)
    found = float(rsi(steps=2000)(net, images, target=2).values.sum())
    exact, _, change = integral(net, images[0], 50)
    assert abs(found - change) <= bound * np.abs(exact).sum()


def test_what_it_does_not_differentiate_is_no_setting():
    with pytest.raises(ValidationError, match="score"):
        rsi(score="log-probability")


@pytest.mark.parametrize("seed", range(5))
def test_a_rectified_integral_is_not_complete(seed):
    net, images = network("bias-free relu", seed=seed), pictures(1, seed=seed + 50)
    exact, _, change = integral(net, images[0], 50, rectify=True)
    found = float(rsi(rectify=True)(net, images, target=2).values.sum())
    assert found == pytest.approx(exact.sum(), rel=1e-3)
    assert abs(found - change) > 0.1 * np.abs(exact).sum()


def test_another_speed_along_the_way_changes_nothing_in_the_limit():
    net, images = network("bias-free relu"), pictures(1)
    method, network_ = rsi(), Network(net)
    with network_.prepared(images) as arguments:
        study = Study(network_, arguments, as_target(2), network_.digest)
        choice, ways = study.layers("features"), Ways.to(study, "zero")
        even = torch.linspace(0, 1, 1001)
        maps = [
            method.walked(study, choice, ways, points).maps.popitem()[1]
            for points in (even, even.square(), even.sin() / torch.tensor(1.0).sin())
        ]
    for other in maps[1:]:
        close(other, maps[0], 5e-3)


def test_a_sum_does_not_depend_on_where_the_chunks_end():
    generator = torch.Generator().manual_seed(0)
    activation = torch.randn(2, 9, 3, 4, 5, generator=generator, dtype=torch.float64)
    gradient = torch.randn(2, 9, 2, 3, 4, 5, generator=generator, dtype=torch.float64)
    whole = Stieltjes().after(Stretch(activation, gradient))
    expected = np.stack(
        [
            [stieltjes(a, g[:, t]) for t in range(2)]
            for a, g in zip(activation.numpy(), gradient.numpy(), strict=True)
        ]
    )
    close(whole.total, expected, 1e-12)
    for ends in ([1, 2, 9], [4, 5, 9]):
        parts, start = Stieltjes(), 0
        for end in ends:
            parts = parts.after(Stretch(activation[:, start:end], gradient[:, start:end]))
            start = end
        close(parts.total, whole.total, 1e-12)


def test_all_targets_and_pictures_together_are_what_each_is_alone_at_the_planned_cost():
    net, images = network("convolutions"), pictures()
    method = rsi(steps=10)
    together = method(net, images, Classes([0, 3]))
    for row in range(3):
        for place, target in enumerate((0, 3)):
            alone = method(net, images[row : row + 1], target)
            close(together.values[row, place], alone.values[0, 0], 1e-5)
    again = method(net, images, Classes([0, 3]))
    assert again.cost == method.plan(Workload(3, 2, ((16, 16),)), Network(net))
