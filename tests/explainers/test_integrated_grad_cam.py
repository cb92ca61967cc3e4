"""Integrated Grad-CAM against the equation step by step in float64, closed forms, and what it does not promise."""

from __future__ import annotations

from itertools import pairwise
from typing import Any

import numpy as np
import pytest
import torch
from paths import Saturated, each, visited
from pydantic import ValidationError
from slow import close, linear, network, pictures
from torch import nn

import seewhy
from seewhy import (
    Classes,
    GradCAM,
    IntegratedGradCAM,
    LayerIntegratedGradients,
    Network,
    Preprocess,
    RSIGradCAM,
    Top,
)
from seewhy.errors import InputError
from seewhy.explainers.base import Workload
from seewhy.explainers.baseline import Noise, baseline, baselines
from seewhy.explainers.integrated_gradients import quadrature
from seewhy.explainers.stieltjes import Stretch

HEADS = ["pooled linear", "flattened linear", "bias-free relu", "convolutions"]
PREPROCESS = Preprocess(resize=(16, 16), mean=(0.5, 0.4, 0.3), std=(0.25, 0.25, 0.5))
BLACK = torch.tensor([-2.0, -1.6, -0.6])[:, None, None].expand(3, 16, 16)


def igc(preset: str | None = None, **settings: Any) -> IntegratedGradCAM:
    """The method at the layer that `pairs` reads."""
    settings = {"layer": "features", **settings}
    return IntegratedGradCAM.from_preset(preset, **settings) if preset else IntegratedGradCAM(**settings)


def slow_map(net, image, begin, points, weights, subtract=True, rectify=True, score: int = 2) -> np.ndarray:
    """The figure's rule, step by step and cell by cell."""
    activation, gradient, _ = visited(net, begin, image, points, score)
    start = visited(net, begin, image, [0.0], score)[0][0] if subtract else 0
    total = 0.0
    for a, g, weight in zip(activation, gradient, weights, strict=True):
        found = np.einsum("k,kij->ij", g.mean((1, 2)), a - start)
        total = total + weight * (np.maximum(found, 0) if rectify else found)
    return total


@pytest.mark.parametrize("head", HEADS)
def test_the_paper_s_rule_is_the_figure_s_in_float64(head):
    net, images = network(head), pictures()
    found = igc("paper", steps=7)(Network(net, preprocess=PREPROCESS), images, target=2)
    points = [i / 7 for i in range(1, 8)]
    close(found.values[:, 0], each(images, lambda image: slow_map(net, image, BLACK, points, [1] * 7)))


@pytest.mark.parametrize("head", HEADS)
def test_the_signed_rule_subtracts_the_baseline_averages_and_does_not_rectify(head):
    net, images = network(head), pictures()
    points, weights = quadrature("midpoint", 6)
    found = igc("signed", steps=6, tolerance=None)(net, images, target=2)
    zero = torch.zeros(3, 16, 16)
    expected = each(
        images, lambda image: slow_map(net, image, zero, points.tolist(), weights.tolist(), rectify=False)
    )
    close(found.values[:, 0], expected)
    assert (found.values < 0).any()


@pytest.mark.parametrize("rule", ["left", "right", "midpoint", "trapezoid", "gauss-legendre"])
def test_every_rule_weighs_its_points_as_the_quadrature_says(rule):
    net, images = network("convolutions"), pictures(2)
    points, weights = quadrature(rule, 5)
    zero = torch.zeros(3, 16, 16)
    for scale, factor in (("mean", 1.0), ("sum", 1 / float(weights.max()))):
        found = igc(steps=5, rule=rule, scale=scale)(net, images, target=2)
        expected = each(images, lambda image: slow_map(net, image, zero, points.tolist(), weights.tolist()))
        close(found.values[:, 0], factor * expected)


def notebook(net: nn.Module, image: torch.Tensor, target: int, steps: int) -> torch.Tensor:
    """The released notebook's rule with the kernels of this package, in float32 and in one batch.

    Pictures i / m of the way to the input, Grad-CAM of each without a baseline, rectified, added up.
    """
    stack = torch.stack([image * (i / steps) for i in range(steps)])
    leaf = net.features(stack).detach().requires_grad_()
    (gradient,) = torch.autograd.grad(net.head(leaf)[:, target].sum(), leaf)
    maps = torch.einsum("wstk,wskij->wstij", gradient.mean((2, 3))[None, :, None], leaf.detach()[None])
    return maps.clamp_min(0).double().sum(1)[0, 0].float()


@pytest.mark.parametrize("head", HEADS)
def test_the_reference_preset_is_the_notebook_s_rule_to_the_bit(head):
    net, images = network(head), pictures()
    # In one chunk, as other batches round otherwise.
    found = igc("reference", steps=16)(net, images, target=1)
    for image, values in zip(images, found.values[:, 0], strict=True):
        assert torch.equal(values, notebook(net, image, 1, 16))


def test_the_notebook_never_looks_at_the_picture_itself_and_the_paper_does():
    net, images = network("convolutions"), pictures()
    reference, paper = (
        igc(name, baseline="zero", steps=1)(net, images, target=1) for name in ("reference", "paper")
    )
    assert torch.equal(reference.values[0], reference.values[1])  # both are of the same empty picture
    assert not torch.equal(paper.values[0], paper.values[1])


def test_one_step_to_the_right_over_silent_baseline_features_is_grad_cam():
    net, images = network("convolutions"), pictures()
    with torch.no_grad():
        for module in net.features:
            if isinstance(module, nn.Conv2d):
                module.bias.zero_()
    plain = GradCAM(layer="features")(net, images, target=1).values
    one = igc(steps=1, rule="right", rectify=False)(net, images, target=1).values
    close(one, plain, 1e-6)
    close(igc(steps=1, rule="right")(net, images, target=1).values, plain.clamp_min(0), 1e-6)


def test_on_a_pooled_linear_head_the_last_term_sums_to_the_change_exactly():
    net, images = network("pooled linear"), pictures()
    for image in images:
        activation, gradient, score = visited(net, torch.zeros_like(image), image, [0.0, 1.0])
        stretch = Stretch(*(torch.from_numpy(a)[None, 1:] for a in (activation, gradient[:, None])))
        term = igc(rectify=False).step(stretch, torch.from_numpy(activation)[None, :1])
        assert float(term.sum()) == pytest.approx(score[1] - score[0], rel=1e-12)


def test_on_a_pooled_linear_head_the_map_is_the_class_s_weights_on_the_mean_difference():
    net, images = network("pooled linear"), pictures()
    points = quadrature("midpoint", 9)[0].tolist()

    def closed(image):
        activation = visited(net, torch.zeros_like(image), image, [0.0, *points])[0]
        weights = linear(net).weight[2].detach().double().numpy() / 25
        return np.einsum("k,kij->ij", weights, (activation[1:] - activation[0]).mean(0))

    found = igc(steps=9, rectify=False)(net, images, target=2)
    close(found.values[:, 0], each(images, closed))


def test_where_the_score_saturates_grad_cam_fades_and_the_integrals_do_not():
    net, two = Saturated(), torch.full((1, 1, 4, 4), 2.0)
    asked = {"images": two, "target": 0}
    assert not GradCAM(layer="features")(net, **asked).values.any()
    # The gradient is 1 up to the middle of the way, where a is 2 t: the mean of 2 t below 1/2 is 1/4.
    found = igc(steps=8)(net, **asked)
    assert float(found.values.sum()) == pytest.approx(0.25, rel=1e-6)
    for complete in (RSIGradCAM, LayerIntegratedGradients):
        whole = complete(layer="features", steps=64)(net, **asked)
        assert float(whole.values.sum()) == pytest.approx(1, abs=0.02)


def test_the_signed_map_does_not_sum_to_the_change_of_the_score_where_the_head_is_not_pooled():
    net, images = network("bias-free relu"), pictures()
    found = igc("signed", steps=200, tolerance=None)(net, images, target=2)
    change = (found.scores - net(torch.zeros(1, 3, 16, 16))[:, 2]).detach().flatten()
    total = found.values.sum((1, 2, 3))
    assert ((total - change).abs() > 0.2 * change.abs()).all()
    complete = RSIGradCAM(layer="features", steps=200)(net, images, target=2).values.sum((1, 2, 3))
    close(complete, change, 0.02)


def test_a_picture_that_is_its_own_baseline_has_a_zero_map_and_says_so():
    net, images = network("convolutions"), pictures(2)
    images[1] = 0
    found = igc(steps=3)(net, images, target=1)
    assert not found.values[1].any()
    assert any("its own baseline" in note for note in found.notes[1])
    assert not any("its own baseline" in note for note in found.notes[0])


def test_one_sided_rules_approach_the_middle_one_as_steps_grow():
    net, images = network("convolutions"), pictures(2)

    def apart(rule: str, steps: int) -> float:
        one, other = (
            igc(steps=steps, rule=each)(net, images, target=1).values for each in (rule, "midpoint")
        )
        return float((one - other).abs().max() / other.abs().max())

    for rule in ("left", "right"):
        distances = [apart(rule, steps) for steps in (10, 40, 160)]
        assert all(2.5 < a / b < 6 for a, b in pairwise(distances)), distances


def test_sixteen_gauss_legendre_nodes_are_within_one_percent_on_a_smooth_network():
    torch.manual_seed(0)
    net = nn.Sequential(
        nn.Conv2d(3, 8, 3, stride=2), nn.SiLU(), nn.Conv2d(8, 6, 3), nn.SiLU(), nn.Flatten(), nn.Linear(150, 12),
        nn.SiLU(), nn.Linear(12, 4),
    )  # fmt: skip
    images = pictures(2)
    nodes = igc(layer="3", steps=16, rule="gauss-legendre")(net, images, target=1)
    many = igc(layer="3", steps=2000)(net, images, target=1)
    close(nodes.values, many.values, 0.01)


def test_all_targets_and_pictures_together_are_what_each_is_alone():
    net, images = network("convolutions"), pictures()
    method = igc(steps=33)
    together = method(net, images, Classes([0, 3]))
    for row in range(3):
        for place, target in enumerate((0, 3)):
            alone = method(net, images[row : row + 1], target)
            close(together.values[row, place], alone.values[0, 0], 1e-6)
    assert torch.equal(method(net, images[1:2], Classes([0, 3])).values[0], together.values[1])
    close(method(net, images, Classes([0, 3]), chunk=1).values, together.values, 1e-6)
    close(method(net, images, Classes([3, 0])).values.flip(1), together.values, 1e-6)


def test_fifty_steps_take_fifty_two_forwards_without_a_graph_before_the_layer(monkeypatch):
    net, images = network("convolutions"), pictures(2)
    method = igc()
    method(net, images, Top(2))
    ran, differentiated, grad = [], [], torch.autograd.grad

    def trunk(_module, _inputs, output):
        assert not output.requires_grad
        ran.append(len(output))

    def counting(outputs, inputs, *args, **kwargs):
        differentiated.extend(tuple(each.shape[1:]) for each in inputs)
        return grad(outputs, inputs, *args, **kwargs)

    handle = net.features[0].register_forward_hook(trunk)
    monkeypatch.setattr(torch.autograd, "grad", counting)
    found = method(net, images, Top(2))
    handle.remove()
    assert sum(ran) == found.cost.forwards == 2 * 52
    assert found.cost.backwards == 2 * 50 * 2
    assert (found.cost.replays, found.cost.setup) == (0, 0)
    assert set(differentiated) == {(6, 5, 5)}
    assert max(ran) <= 16


def test_steps_are_doubled_until_the_tolerance_is_kept_where_it_is_not():
    net, images = network("convolutions", seed=3), pictures(4)
    first, tolerance = 2, 0.01
    method = igc(steps=first, tolerance=tolerance, rule="trapezoid")
    found = method(net, images, Classes([0, 1, 2]))
    used = set()
    for row, image in enumerate(images):
        for target in range(3):
            steps = first
            while slow_gap(net, image, steps, target) > tolerance:
                steps *= 2
            used.add(steps)
            fixed = igc(steps=steps, rule="trapezoid")(net, images[row : row + 1], target)
            close(found.values[row, target], fixed.values[0, 0], 1e-5)
    assert len(used) > 1, "all need the same steps"
    assert found.cost.within(method.plan(Workload(4, 3, ((16, 16),)), Network(net)))


def slow_gap(net: nn.Module, image: torch.Tensor, steps: int, target: int) -> float:
    """By how much the Riemann-Stieltjes sum misses the change, in shares of its magnitudes."""
    points = [i / steps for i in range(steps + 1)]
    a, g, y = visited(net, torch.zeros_like(image), image, points, target)
    total = ((g[1:] + g[:-1]) / 2 * (a[1:] - a[:-1])).sum(0)
    return float(abs(total.sum() - (y[-1] - y[0])) / np.abs(total).sum())


class Cliff(nn.Module):
    """A score that jumps in one small part of the way."""

    def __init__(self) -> None:
        super().__init__()
        self.features = nn.Conv2d(1, 1, 1, bias=False)
        nn.init.ones_(self.features.weight)

    def forward(self, images):
        mean = self.features(images).mean((1, 2, 3))
        return torch.stack([torch.sigmoid(40 * (mean - 0.9)), mean], 1)


def test_too_few_steps_for_a_steep_score_are_noted_and_enough_are_not():
    image = torch.ones(1, 1, 4, 4)
    for method in (IntegratedGradCAM, RSIGradCAM, LayerIntegratedGradients):
        few = method(layer="features", steps=4)(Cliff(), image, target=0)
        assert any("more steps would help" in note for note in few.notes[0]), method
        ((said,),) = method(layer="features", steps=400)(Cliff(), image, target=0).notes
        assert said.endswith("misses the change of the score by 0.00% of its magnitudes"), method
        chosen = method(layer="features", steps=4, tolerance=0.02)(Cliff(), image, target=0)
        ((said,),) = chosen.notes
        assert "more steps" not in said
        assert chosen.cost.backwards > few.cost.backwards


@pytest.mark.parametrize("kind", ["zero", "black", "mean", "blur"])
def test_the_way_begins_where_the_baseline_says(kind):
    net, images = network("convolutions"), pictures(2)
    prepared = Network(net, preprocess=PREPROCESS)
    begins = baseline(prepared, images, kind)
    found = igc(steps=4, baseline=kind)(prepared, images, target=2)
    points, weights = ([0.125, 0.375, 0.625, 0.875], [0.25] * 4)
    expected = [slow_map(net, i, b, points, weights) for i, b in zip(images, begins, strict=True)]
    close(found.values[:, 0], np.stack(expected))


def test_black_is_what_black_pixels_become_and_needs_the_preprocess(tmp_path):
    from PIL import Image

    path = tmp_path / "black.png"
    Image.new("RGB", (16, 16)).save(path)
    net, images = Network(network("convolutions"), preprocess=PREPROCESS), pictures(1)
    black = baseline(net, images, "black")
    torch.testing.assert_close(black[0], BLACK)
    torch.testing.assert_close(black, net.read(path).pixels)
    with pytest.raises(InputError, match=r"came without a preprocess.*take the baseline `zero`"):
        igc("paper")(net.module, images)
    with pytest.raises(InputError, match="other channels"):
        baseline(net, images[:, :1], "black")


def test_noise_is_averaged_over_draws_that_belong_to_the_picture():
    net, images = network("convolutions"), pictures(2)
    noise = Noise(draws=3, seed=5)
    begins = baselines(Network(net), images, noise)
    assert begins.shape == (2, 3, 3, 16, 16)
    assert torch.equal(begins[1:], baselines(Network(net), images[1:], noise))
    assert not torch.equal(begins, baselines(Network(net), images, Noise(draws=3, seed=6)))
    points, weights = ([0.25, 0.75], [0.5, 0.5])
    found = igc(steps=2, baseline=noise)(net, images, target=2)
    expected = [
        np.mean([slow_map(net, image, begin, points, weights) for begin in own], 0)
        for image, own in zip(images, begins, strict=True)
    ]
    close(found.values[:, 0], np.stack(expected))
    assert seewhy.make("integrated-grad-cam:baseline=noise").baseline == Noise()


@pytest.mark.parametrize(
    "settings", [{"steps": 0}, {"tolerance": 0.0}, {"baseline": {"draws": 0}}, {"rule": "up"}]
)
def test_settings_that_mean_nothing_are_refused(settings):
    with pytest.raises(ValidationError):
        igc(**settings)
