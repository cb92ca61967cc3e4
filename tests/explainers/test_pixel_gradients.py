"""Gradient, input x gradient, integrated gradients, SmoothGrad: closed forms on linear and quadratic scores."""

from __future__ import annotations

import copy
import math

import pytest
import torch
from pydantic import ValidationError
from slow import close, network, pictures
from torch import nn

import seewhy
from seewhy import Classes, Gradient, InputXGradient, IntegratedGradients, SmoothGrad, Top
from seewhy.explainers.integrated_gradients import quadrature


class Quadratic(nn.Module):
    """One half x'Qx with a symmetric Q, and <a, x>."""

    def __init__(self, size: int = 4) -> None:
        super().__init__()
        generator = torch.Generator().manual_seed(2)
        matrix = torch.randn(3 * size * size, 3 * size * size, generator=generator)
        self.matrix = nn.Parameter((matrix + matrix.T) / 10)
        self.vector = nn.Parameter(torch.randn(3 * size * size, generator=generator))

    def forward(self, x):
        flat = x.flatten(1)
        return torch.stack([(flat @ self.matrix * flat).sum(1) / 2, flat @ self.vector], 1)


def slow_gradient(net, images, target):
    slow = copy.deepcopy(net).double()
    leaf = images.double().requires_grad_()
    slow(leaf)[:, target].sum().backward()
    return leaf.grad


QUADRATIC, LINEAR = 0, 1
SMALL = pictures(2, size=4)


@pytest.mark.parametrize("head", ["pooled linear", "bias-free relu", "convolutions"])
def test_the_gradient_is_autograd_s_in_float64(head):
    net, images = network(head), pictures()
    found = Gradient()(net, images, target=2)
    assert found.values.shape == (3, 1, 3, 16, 16)
    close(found.values[:, 0], slow_gradient(net, images, 2), 1e-4)


@pytest.mark.parametrize("reduce", ["sum", "abs-sum", "abs-max"])
def test_evidence_joins_the_colours_as_asked(reduce):
    net, images = network("convolutions"), pictures()
    found = Gradient(reduce=reduce)(net, images, target=2)
    values = found.values
    joined = {"sum": values.sum(2), "abs-sum": values.abs().sum(2), "abs-max": values.abs().amax(2)}[reduce]
    torch.testing.assert_close(found.evidence(), joined.clamp_min(0))
    assert found.heatmaps().shape == (3, 1, 16, 16)
    assert found.in_original()[0][0].shape == (1, 16, 16)


def test_without_biases_input_times_gradient_sums_to_the_score():
    net, images = network("bias-free relu"), pictures()
    with torch.no_grad():
        for module in net.modules():
            if isinstance(module, nn.Conv2d):
                module.bias.zero_()
    found = InputXGradient()(net, images, Classes([0, 1, 2, 3]))
    close(found.values.flatten(2).sum(2), found.scores, 1e-4)


@pytest.mark.parametrize("rule", ["midpoint", "left", "right", "trapezoid", "gauss-legendre"])
@pytest.mark.parametrize("steps", [1, 5, 16])
def test_quadrature_weights_sum_to_one_and_integrate_a_line_unless_one_sided(rule, steps):
    points, weights = quadrature(rule, steps)
    assert float(weights.sum()) == pytest.approx(1, abs=1e-6)
    assert ((points >= 0) & (points <= 1)).all()
    exact = float((points * weights).sum())
    one_sided = {"left": -0.5 / steps, "right": 0.5 / steps}.get(rule, 0.0)
    assert exact == pytest.approx(0.5 + one_sided, abs=1e-6)


@pytest.mark.parametrize("steps", [1, 2, 5])
def test_gauss_s_nodes_integrate_powers_up_to_twice_their_number_and_no_further(steps):
    points, weights = (each.double() for each in quadrature("gauss-legendre", steps))
    for power in range(2 * steps):
        assert float((weights * points**power).sum()) == pytest.approx(1 / (power + 1), abs=1e-6)
    assert abs(float((weights * points ** (2 * steps)).sum()) - 1 / (2 * steps + 1)) > 1e-6


@pytest.mark.parametrize(("rule", "error"), [("trapezoid", 1 / 6), ("midpoint", -1 / 12)])
def test_of_a_square_each_rule_has_its_own_error(rule, error):
    points, weights = quadrature(rule, 5)
    assert float((weights * points.square()).sum()) == pytest.approx(1 / 3 + error / 25, abs=1e-6)


@pytest.mark.parametrize("rule", ["midpoint", "left", "right", "trapezoid", "gauss-legendre"])
def test_on_a_linear_score_one_step_of_any_rule_gives_input_times_weight(rule):
    net = Quadratic()
    found = IntegratedGradients(steps=1, rule=rule)(net, SMALL, target=LINEAR)
    close(found.values[:, 0].flatten(1), (SMALL.flatten(1) * net.vector.detach()), 1e-5)


@pytest.mark.parametrize("rule", ["midpoint", "trapezoid"])
def test_on_a_quadratic_score_one_step_is_exact_and_complete(rule):
    net = Quadratic()
    found = IntegratedGradients(steps=1, rule=rule)(net, SMALL, target=QUADRATIC)
    close(found.values.flatten(2).sum(2), found.scores, 1e-4)
    assert all(note.endswith("misses the change of the score by 0.0%") for (note,) in found.notes)


def test_a_one_sided_rule_misses_on_a_quadratic_score_and_says_so():
    found = IntegratedGradients(steps=1, rule="left")(Quadratic(), SMALL, target=QUADRATIC)
    assert all(
        "misses the change of the score by 100.0%; more steps would help" in notes[-1]
        for notes in found.notes
    )


def test_many_steps_are_complete_on_a_network_of_relus():
    net, images = network("convolutions"), pictures()
    found = IntegratedGradients(steps=256)(net, images, Top(2))
    with torch.no_grad():
        empty = net(torch.zeros_like(images))
    change = found.scores - torch.stack([empty.gather(1, net(images).topk(2).indices)])[0]
    close(found.values.flatten(2).sum(2), change, 1e-2)


def test_steps_that_are_chosen_double_for_those_pictures_and_targets_that_need_it():
    net, images = network("convolutions"), pictures()
    method = IntegratedGradients(steps="auto")
    found = method(net, images, Classes([0, 1, 2, 3]))
    used = set()
    for steps in (32, 64, 128, 256, 512):
        fixed = IntegratedGradients(steps=steps)(net, images, Classes([0, 1, 2, 3])).values
        used |= {(steps, *each) for each in (fixed == found.values).flatten(2).all(2).nonzero().tolist()}
    assert {(row, target) for _, row, target in used} == {
        (row, target) for row in range(3) for target in range(4)
    }
    assert len({steps for steps, _, _ in used}) > 1
    for row in range(3):
        alone = method(net, images[row : row + 1], 1).values
        close(alone[0, 0], found.values[row, 1], 1e-5)
    assert IntegratedGradients(steps=32)(net, images, 0).cost.forwards < found.cost.forwards


def test_the_way_begins_at_the_baseline_asked_for():
    net = Quadratic()
    flat = SMALL.mean((-2, -1), keepdim=True)
    found = IntegratedGradients(steps=2, baseline="mean")(net, SMALL, target=LINEAR)
    close(found.values[:, 0].flatten(1), (SMALL - flat).flatten(1) * net.vector.detach(), 1e-5)


def test_smoothing_a_linear_score_s_gradient_changes_nothing_and_it_has_no_variance():
    net = Quadratic()
    plain = Gradient()(net, SMALL, target=LINEAR).values
    close(SmoothGrad(samples=7)(net, SMALL, target=LINEAR).values, plain, 1e-5)
    variance = SmoothGrad(samples=7, statistic="variance")(net, SMALL, target=LINEAR).values
    assert float(variance.max()) < 1e-10 * float(plain.square().max())


def test_on_a_quadratic_score_mean_and_variance_are_those_of_the_noise():
    net, samples = Quadratic(), 2000
    sigma = 0.15 * (SMALL.amax((1, 2, 3)) - SMALL.amin((1, 2, 3)))
    mean = SmoothGrad(samples=samples)(net, SMALL, target=QUADRATIC).values[:, 0].flatten(1)
    variance = (
        SmoothGrad(samples=samples, statistic="variance")(net, SMALL, target=QUADRATIC)
        .values[:, 0]
        .flatten(1)
    )
    matrix = net.matrix.detach()
    spread = sigma[:, None] * matrix.square().sum(0).sqrt()  # of each entry of Q(x + e)
    assert ((mean - SMALL.flatten(1) @ matrix).abs() < 5 * spread / math.sqrt(samples)).all()
    assert ((variance / spread.square() - 1).abs() < 5 * math.sqrt(2 / samples)).all()


def test_the_mean_square_is_the_variance_plus_the_squared_mean():
    net, images = network("convolutions"), pictures(2)
    parts = {each: SmoothGrad(samples=6, statistic=each)(net, images, target=1).values
             for each in ("mean", "variance", "square")}  # fmt: skip
    close(parts["square"], parts["variance"] + parts["mean"].square(), 1e-5)


@pytest.mark.parametrize(
    "method",
    ["grad-cam", "layer-cam", "input-x-gradient", "guided-backprop", "integrated-grad-cam", "rsi-grad-cam"],
)
def test_any_gradient_method_is_smoothed_and_without_noise_stays_as_it_is(method):
    net, images = network("convolutions"), pictures(2)
    smooth = SmoothGrad(method=method, samples=3, noise=0)
    found = smooth(net, images, target=1)
    close(found.values, seewhy.make(method)(net, images, target=1).values, 1e-5)
    assert SmoothGrad.model_validate_json(smooth.model_dump_json()) == smooth


def test_the_set_up_of_a_smoothed_layer_method_is_counted_once():
    net, images = network("convolutions"), pictures(2)
    alone = seewhy.GradCAM()(network("convolutions"), images, target=1)
    assert SmoothGrad(method="grad-cam", samples=3)(net, images, target=1).cost.setup == alone.cost.setup > 0


def test_what_has_no_gradient_is_not_smoothed():
    with pytest.raises(ValidationError, match="eigen-cam is no method of gradients"):
        SmoothGrad(method="eigen-cam")


def test_the_question_of_noisy_copies_is_that_of_the_picture_itself():
    net, images = network("convolutions"), pictures(3)
    predicted = net(images).argmax(1).tolist()
    loud = {"samples": 4, "noise": 1.5}
    torch.testing.assert_close(
        SmoothGrad(**loud)(net, images).values, SmoothGrad(**loud)(net, images, predicted).values
    )


def test_the_variance_has_no_sign_and_neither_has_the_mean_square():
    signs = {each: SmoothGrad(samples=2, statistic=each).signed for each in ("mean", "variance", "square")}
    assert signs == {"mean": True, "variance": False, "square": False}
    assert not SmoothGrad(samples=2, statistic="variance")(
        network("convolutions"), pictures(), target=1
    ).signed


def test_the_number_format_of_a_method_within_a_method_is_recorded_as_it_was_used():
    found = SmoothGrad(method=seewhy.GradCAM(precision="auto"), samples=2)(
        network("convolutions"), pictures(), target=1
    )
    assert found.settings["method"]["precision"] in ("float32", "bfloat16")
