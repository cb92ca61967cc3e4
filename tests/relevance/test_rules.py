"""Every rule on every kind of affine layer, against dense matrices in float64."""

from __future__ import annotations

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from dense import Called, matrix, propagated, sent_back
from pydantic import ValidationError
from torch import nn

from seewhy.errors import InputError
from seewhy.relevance.rules import (
    AlphaBeta,
    Epsilon,
    Flat,
    Gamma,
    WSquare,
    ZBox,
    ZPlus,
    rule,
)

CLOSE = 1e-10  # float64, sums of some hundred terms

RULES = [
    Epsilon(),
    Epsilon(epsilon=0.3),
    Epsilon(bias="ignore"),
    ZPlus(),
    ZPlus(bias="ignore"),
    AlphaBeta(),
    AlphaBeta(alpha=1.5, beta=0.5),
    AlphaBeta(alpha=1, beta=0),
    Gamma(),
    Gamma(gamma=3.0),
    Flat(),
    WSquare(),
    ZBox(low=(-2.0, -3.0, -2.5, -4.0), high=(2.0, 2.5, 3.0, 2.2)),
]


def normed(layer: nn.Module, channels: int) -> nn.Sequential:
    """A layer and a batch norm with statistics of its own, to be folded into it."""
    norm = nn.BatchNorm1d(channels) if isinstance(layer, nn.Linear) else nn.BatchNorm2d(channels)
    for each in (norm.running_mean, norm.weight, norm.bias):
        nn.init.normal_(each)
    nn.init.uniform_(norm.running_var, 0.5, 2)
    return nn.Sequential(layer, norm)


LAYERS = {
    "convolution": lambda: nn.Conv2d(4, 3, 3, padding=1),
    "strided": lambda: nn.Conv2d(4, 3, 3, stride=2, dilation=2, padding=2),
    "padded alike": lambda: nn.Conv2d(4, 3, 3, padding="same"),
    "grouped": lambda: nn.Conv2d(4, 6, 3, groups=2),
    "depthwise": lambda: nn.Conv2d(4, 4, 3, groups=4, bias=False),
    "transposed": lambda: nn.ConvTranspose2d(4, 3, 3, stride=2),
    "convolution with batch norm": lambda: normed(nn.Conv2d(4, 3, 3, bias=False), 3),
    "biased convolution with batch norm": lambda: normed(nn.Conv2d(4, 3, 3), 3),
    "grouped convolution with batch norm": lambda: normed(nn.Conv2d(4, 6, 3, groups=2), 6),
    "transposed convolution with batch norm": lambda: normed(nn.ConvTranspose2d(4, 3, 3), 3),
    "in one dimension": lambda: nn.Sequential(nn.Flatten(2), nn.Conv1d(4, 3, 5)),
    "linear": lambda: nn.Sequential(nn.Flatten(), nn.Linear(100, 7)),
    "linear on the last axis": lambda: nn.Linear(5, 7),
    "linear with batch norm": lambda: nn.Sequential(nn.Flatten(), *normed(nn.Linear(100, 7), 7)),
    "matrix product": lambda: Called((5, 6), lambda x, w: x @ w),
    "matrix product from the left": lambda: Called((6, 5), lambda x, w: w @ x),
    "einsum": lambda: Called((6, 4), lambda x, w: torch.einsum("kc,bchw->bkhw", w, x)),
    "addmm": lambda: Called((100, 6), lambda x, w: torch.addmm(w[0], x.flatten(1), w)),
}


FLATTENED = ("linear", "linear with batch norm", "addmm")
"""Layers that see one axis of inputs, so that a box has one pair of bounds for all of them."""


def made(kind: str, sign: str = "either") -> tuple[nn.Module, torch.Tensor]:
    torch.manual_seed(len(kind))
    layer = LAYERS[kind]().double().eval()
    images = torch.randn(2, 4, 5, 5, dtype=torch.float64)
    return layer, images.clamp_min(0) if sign == "positive" else images


def expected(layer, images, rule, direction):
    """Per picture the dense rule's answer."""
    weights, biases = matrix(layer, images[:1])
    low = high = None
    if rule.name == "z-box":
        low, high = (np.repeat(np.array(each), 100 // len(each)) for each in (rule.low, rule.high))
    answers = []
    for image in images:
        with torch.no_grad():
            relevance = (layer(image[None])[0] * direction).flatten().numpy()
        answers.append(propagated(rule, weights, biases, image.flatten().numpy(), relevance, low, high))
    return np.stack(answers).reshape(images.shape)


def direction_for(layer, images):
    with torch.no_grad():
        return torch.randn_like(layer(images)[:1])[0]


@pytest.mark.parametrize("rule", RULES, ids=lambda each: f"{each.name}-{each.epsilon:g}-{each.bias}")
@pytest.mark.parametrize("kind", LAYERS)
def test_a_rule_is_its_formula_on_the_dense_matrix(kind, rule):
    layer, images = made(kind)
    if rule.name == "z-box" and kind in FLATTENED:
        rule = ZBox(low=(-4.0,), high=(4.0,))
    direction = direction_for(layer, images)
    found, _ = sent_back(layer, images, {"first": rule}, direction)
    wanted = expected(layer, images, rule, direction)
    np.testing.assert_allclose(found.numpy(), wanted, atol=CLOSE * np.abs(wanted).max())


@pytest.mark.parametrize("rule", RULES, ids=lambda each: f"{each.name}-{each.epsilon:g}-{each.bias}")
@pytest.mark.parametrize("kind", ["convolution", "linear", "convolution with batch norm"])
def test_a_rule_on_inputs_that_are_not_negative_is_its_formula_too(kind, rule):
    layer, images = made(kind, "positive")
    if rule.name == "z-box" and kind in FLATTENED:
        rule = ZBox(low=(0.0,), high=(4.0,))
    direction = direction_for(layer, images)
    found, _ = sent_back(layer, images, {"first": rule}, direction)
    wanted = expected(layer, images, rule, direction)
    np.testing.assert_allclose(found.numpy(), wanted, atol=CLOSE * np.abs(wanted).max())


AVERAGES = {
    "average pool": lambda x: F.avg_pool2d(x, 3, 2, 1),
    "adaptive average pool": lambda x: F.adaptive_avg_pool2d(x, 2),
    "mean": lambda x: x.mean((2, 3)),
    "sum": lambda x: x.sum(1),
    "interpolation": lambda x: F.interpolate(x, scale_factor=2.0, mode="bilinear"),
}


@pytest.mark.parametrize("rule", [Epsilon(epsilon=0.1), ZPlus(), AlphaBeta()], ids=lambda each: each.name)
@pytest.mark.parametrize("kind", AVERAGES)
def test_an_average_is_a_layer_of_fixed_weights(kind, rule):
    layer, images = Called(1, lambda x, _: AVERAGES[kind](x)).double(), made("linear")[1]
    direction = direction_for(layer, images)
    found, _ = sent_back(layer, images, {"average pool": rule}, direction)
    wanted = expected(layer, images, rule, direction)
    np.testing.assert_allclose(found.numpy(), wanted, atol=CLOSE * np.abs(wanted).max())


@pytest.mark.parametrize(
    "rule", [*RULES[:8], Gamma()], ids=lambda each: f"{each.name}-{each.epsilon:g}-{each.bias}"
)
def test_a_batch_norm_with_nothing_to_fold_it_into_is_a_layer_of_its_own(rule):
    torch.manual_seed(0)
    layer = normed(nn.Identity(), 4).double().eval()
    images = made("linear")[1]
    direction = direction_for(layer, images)
    found, _ = sent_back(layer, images, {"batch norm": rule}, direction)
    wanted = expected(layer, images, rule, direction)
    np.testing.assert_allclose(found.numpy(), wanted, atol=CLOSE * np.abs(wanted).max())


@pytest.mark.parametrize(
    "rule", [Epsilon(epsilon=0.2), ZPlus(), AlphaBeta(), Gamma()], ids=lambda each: each.name
)
@pytest.mark.parametrize("kind", ["convolution", "linear", "convolution with batch norm", "strided"])
def test_a_bias_that_is_distributed_gives_equal_parts_to_the_inputs_of_each_output(kind, rule):
    layer, images = made(kind)
    spread = rule.model_copy(update={"bias": "distribute"})
    direction = direction_for(layer, images)
    found, ledger = sent_back(layer, images, {"first": spread}, direction)
    absorbed, _ = sent_back(layer, images, {"first": rule}, direction)
    weights, biases = matrix(layer, images[:1])
    for row, image in enumerate(images):
        with torch.no_grad():
            output = layer(image[None])[0]
        relevance = (output * direction).flatten().numpy()
        received = np.zeros(100)
        for weight, bias, given in zip(weights, biases, relevance, strict=True):
            # What the inputs do not get where the bias takes its part, but for the stabiliser's.
            products = image.flatten().numpy() * weight
            one = propagated(rule, weight[None], np.array([bias]), image.flatten().numpy(), np.array([given]))
            received += _of_bias(rule, products, bias, given) * (weight != 0) / (weight != 0).sum()
            assert np.isfinite(one).all()
        wanted = absorbed[row].flatten().numpy() + received
        np.testing.assert_allclose(found[row].flatten().numpy(), wanted, atol=1e-9 * np.abs(wanted).max())
    assert not ledger.biases


def _of_bias(rule, products, bias, given):
    """What a bias takes of one output's relevance."""
    rising, falling = products.clip(0), products.clip(max=0)

    def share(contributions, part):
        total = contributions.sum() + part
        return given * part / (total + (rule.epsilon if total >= 0 else -rule.epsilon))

    if rule.name == "epsilon":
        return share(products, bias)
    if rule.name == "gamma":
        above = products.sum() + bias > 0
        more, extra = (rising, max(bias, 0)) if above else (falling, min(bias, 0))
        return share(products + rule.gamma * more, bias + rule.gamma * extra)
    if rule.name == "z-plus":
        return share(rising, max(bias, 0))
    return rule.alpha * share(rising, max(bias, 0)) - rule.beta * share(falling, min(bias, 0))


def test_alpha_beta_is_equation_60_of_bach_with_an_absorbing_bias():
    layer = nn.Conv2d(2, 1, 1).double()
    with torch.no_grad():
        layer.weight.copy_(torch.tensor([1.0, -1.0]).reshape(1, 2, 1, 1))
        layer.bias.fill_(-1.0)
    # The output is -1, and so is the relevance that it starts with.
    found, _ = sent_back(
        layer, torch.ones(1, 2, 1, 1).double(), {"first": AlphaBeta(epsilon=0)}, torch.ones(())
    )
    assert found.flatten().tolist() == [-2.0, 0.5]


def test_the_z_box_of_two_by_two_is_worked_out_by_hand():
    layer = nn.Sequential(nn.Flatten(), nn.Linear(2, 2, bias=False)).double()
    with torch.no_grad():
        layer[1].weight.copy_(torch.tensor([[1.0, -2.0], [0.5, 1.0]]))
    box = ZBox(low=(0.0,), high=(1.0,), epsilon=0)
    found, _ = sent_back(
        layer, torch.tensor([[[[1.0, 0.5]]]]).double(), {"first": box}, torch.tensor([0.0, 1.0])
    )
    # Outputs 0 and 1; of the second, x w - l w+ - h w- is 0.5 and 0.5.
    torch.testing.assert_close(found.flatten(), torch.tensor([0.5, 0.5]).double())
    found, _ = sent_back(
        layer, torch.tensor([[[[1.0, 0.25]]]]).double(), {"first": box}, torch.tensor([1.0, 0.0])
    )
    # The first output is 0.5: 1 and -0.5 + 2 = 1.5, together 2.5.
    torch.testing.assert_close(found.flatten(), torch.tensor([0.2, 0.3]).double())


def test_a_stabiliser_without_bounds_takes_everything():
    layer, images = made("convolution")
    found, ledger = sent_back(layer, images, {"first": Epsilon(epsilon=1e12)}, direction_for(layer, images))
    assert found.abs().max() < 1e-9
    taken = sum(each for _, each in ledger.stabilisers)
    torch.testing.assert_close(taken, ledger.started[0], rtol=1e-9, atol=1e-12)


@pytest.mark.parametrize("rule", RULES, ids=lambda each: f"{each.name}-{each.epsilon:g}-{each.bias}")
def test_a_black_picture_gives_finite_relevance(rule):
    layer, images = made("convolution")
    found, _ = sent_back(layer, torch.zeros_like(images), {"first": rule}, torch.ones(()))
    assert torch.isfinite(found).all()


def test_alpha_and_beta_that_do_not_conserve_are_refused():
    with pytest.raises(ValidationError, match="alpha - beta must be 1"):
        AlphaBeta(alpha=2, beta=2)


@pytest.mark.parametrize(
    ("text", "made"),
    [
        ("gamma", Gamma()),
        ("gamma:gamma=0.5", Gamma(gamma=0.5)),
        ("alpha-beta:alpha=3,beta=2", AlphaBeta(alpha=3, beta=2)),
    ],
)
def test_a_rule_is_made_from_its_name_and_settings(text, made):
    assert rule(text) == made


def test_an_unknown_rule_is_refused_with_those_that_exist():
    with pytest.raises(InputError, match=r"no rule is called 'gama'; there are epsilon, z-plus"):
        rule("gama")
