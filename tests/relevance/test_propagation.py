"""Relevance through whole networks: where it is conserved, what is refused, and that nothing is left behind."""

from __future__ import annotations

import copy
import gc

import pytest
import torch
import torch.nn.functional as F
from dense import Called, sent_back
from torch import nn

from seewhy import LRP, Classes, Contrast, InputXGradient, Network
from seewhy.errors import InputError, LayerError, NotApplicableError
from seewhy.network.kept_weights import _kept
from seewhy.relevance.affine import Affine
from seewhy.relevance.composites import Composite
from seewhy.relevance.propagate import trace
from seewhy.relevance.rules import Constant, Epsilon, Flat, Gamma, Halves, Pass, Unpool, WSquare, ZBox, ZPlus

COMPOSITES = [
    "epsilon-plus",
    "epsilon-plus-flat",
    "epsilon-gamma-box",
    "epsilon-alpha2-beta1",
    "epsilon-alpha2-beta1-flat",
]
EXACT = 1e-10  # float64


class Functional(nn.Module):
    """A residual network of functions: shortcuts in place, a gate, a concatenation, no modules but weights."""

    def __init__(self, bias: bool = True) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.one = nn.Parameter(torch.randn(6, 3, 3, 3) / 5)
        self.two = nn.Parameter(torch.randn(6, 6, 3, 3) / 7)
        self.squeeze = nn.Parameter(torch.randn(6, 6) / 2)
        self.head = nn.Parameter(torch.randn(12, 4) / 3)
        self.bias = nn.Parameter(torch.randn(6) / 5 if bias else torch.zeros(6))

    def forward(self, x):
        x = F.conv2d(x, self.one, self.bias, padding=1)
        x.relu_()  # nothing takes its result: the tensor itself has changed
        x = F.max_pool2d(x, 3, 2)
        out = F.conv2d(x, self.two, self.bias, padding=1)
        out += x
        gate = torch.sigmoid(out.mean((2, 3)) @ self.squeeze)[:, :, None, None]
        out = F.relu(out * gate)
        out = torch.cat([out, x[:, :3].relu(), 2.0 * x[:, 3:]], 1)
        return F.adaptive_avg_pool2d(out, 1).flatten(1) @ self.head


class Normalised(nn.Module):
    """Norm, ReLU, convolution, as DenseNet has them; layer and group norm; smooth activations."""

    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(1)
        self.stem = nn.Conv2d(3, 8, 3, bias=False)
        self.norms = nn.ModuleList([nn.BatchNorm2d(8), nn.GroupNorm(2, 8), nn.LayerNorm([8, 10, 10])])
        for each in self.norms[0].running_mean, self.norms[0].bias, self.norms[1].bias, self.norms[2].bias:
            nn.init.normal_(each)
        self.convs = nn.ModuleList(nn.Conv2d(8, 8, 3, padding=1) for _ in range(3))
        self.head = nn.Linear(8, 4)

    def forward(self, x):
        x = self.stem(x) + 0.1
        for norm, conv, act in zip(self.norms, self.convs, (F.relu, F.gelu, F.silu), strict=True):
            x = x + conv(act(norm(x)))
        return self.head(F.hardswish(x).mean((2, 3)))


NETWORKS = {"functional": Functional, "normalised": Normalised}


def pictures(count: int = 3, size: int = 12) -> torch.Tensor:
    return torch.randn(count, 3, size, size, generator=torch.Generator().manual_seed(5), dtype=torch.float64)


@pytest.mark.parametrize("composite", COMPOSITES)
@pytest.mark.parametrize("name", NETWORKS)
def test_all_relevance_is_at_the_pixels_in_biases_or_in_stabilisers(name, composite):
    net = NETWORKS[name]().double().eval()
    books = LRP(composite=composite).conservation(net, pictures(), Classes([0, 2]))
    assert books.error.max() < EXACT
    assert books.bias.abs().max() > 0
    torch.testing.assert_close(books.started, net(pictures())[:, [0, 2]].detach(), rtol=1e-6, atol=0)


@pytest.mark.parametrize("composite", ["epsilon-plus", "epsilon-plus-flat", "epsilon-gamma-box"])
def test_without_biases_the_pixels_sum_to_the_score(composite):
    net = Functional(bias=False).double()
    tiny = {
        "linear": Epsilon(epsilon=1e-14),
        "add": Epsilon(epsilon=1e-14),
        "average pool": Epsilon(epsilon=1e-14),
    }
    books = LRP(composite=composite, rules=tiny).conservation(net, pictures(), 1)
    torch.testing.assert_close(books.arrived, books.started, rtol=1e-7, atol=0)


@pytest.mark.parametrize("bias", ["ignore", "distribute"])
def test_biases_that_are_ignored_or_distributed_take_nothing(bias):
    books = LRP(bias=bias).conservation(Functional().double(), pictures(), 1)
    assert not books.bias.any()
    assert books.error.max() < EXACT


def bias_free() -> nn.Sequential:
    torch.manual_seed(2)
    return nn.Sequential(
        nn.Conv2d(3, 6, 3, bias=False), nn.ReLU(inplace=True), nn.MaxPool2d(3, 2), nn.Conv2d(6, 5, 3, bias=False),
        nn.ReLU(), nn.AvgPool2d(2, 1), nn.Flatten(), nn.LazyLinear(4, bias=False),
    )  # fmt: skip


def test_lrp_0_on_a_relu_network_without_biases_is_input_times_gradient():
    net = bias_free().double()
    net(pictures())
    zero = Epsilon(epsilon=0)
    keys = ("convolution", "linear", "average pool")
    found = LRP(rules=dict.fromkeys(keys, zero))(net, pictures(), 2).values
    torch.testing.assert_close(found, InputXGradient()(net, pictures(), 2).values, rtol=1e-5, atol=1e-8)


def test_overlapping_pooling_keeps_its_relevance_by_routing_and_loses_it_by_unpooling():
    pool = Called(1, lambda x, _: F.max_pool2d(x, 3, 2).flatten(1)).double()
    bright = pictures().abs()
    ones = torch.ones((), dtype=torch.float64)
    score = pool(bright).sum(1)
    routed, _ = sent_back(pool, bright, {}, ones)
    torch.testing.assert_close(routed.flatten(1).sum(1), score)
    unpooled, _ = sent_back(pool, bright, {"max pool": Unpool()}, ones)
    assert (unpooled.flatten(1).sum(1) < 0.9 * score).all()
    apart = Called(1, lambda x, _: F.max_pool2d(x, 2).flatten(1)).double()
    kept, _ = sent_back(apart, bright, {"max pool": Unpool()}, ones)
    torch.testing.assert_close(kept.flatten(1).sum(1), apart(bright).sum(1))


def test_the_reference_says_itself_what_its_unpooling_loses():
    found = LRP.from_preset("reference")(bias_free_with_shapes(), pictures().float())
    assert all(any(note.startswith("not conserved") for note in notes) for notes in found.notes)
    kept = LRP()(bias_free_with_shapes(), pictures().float())
    assert not any(note.startswith("not conserved") for notes in kept.notes for note in notes)


def test_the_note_of_every_map_says_the_relative_error_whatever_it_is():
    net, images = bias_free_with_shapes(), pictures().float()
    for method in (LRP(), LRP.from_preset("reference")):
        errors = method.conservation(net, images).error
        for notes, error in zip(method(net, images).notes, errors, strict=True):
            (books,) = (note for note in notes if note.startswith("relevance "))
            # Of one digit; of errors that are rounding only the size is the same from one pass to the next.
            assert float(books.rpartition(", relative error ")[2]) == pytest.approx(float(error), 0.06, 1e-6)


def test_a_note_says_where_stabilisers_leave_nothing_for_the_pixels() -> None:
    torch.manual_seed(0)
    faint = nn.Sequential(nn.Conv2d(3, 4, 3), nn.ReLU(), nn.Flatten(), nn.Linear(4 * 36, 2))
    pictures = torch.rand(2, 3, 8, 8)
    assert not any("hardly any" in note for notes in LRP()(Network(faint), pictures).notes for note in notes)
    for parameter in faint.parameters():
        parameter.data.mul_(1e-9)
    for notes in LRP()(Network(faint), pictures).notes:
        assert any(note.startswith("hardly any relevance arrives") for note in notes)


def bias_free_with_shapes() -> nn.Sequential:
    net = bias_free()
    net(pictures().float())
    return net


def test_an_addition_is_shared_in_proportion_and_constants_take_their_part():
    added = Called(1, lambda x, _: (x[:, :1] - 2 * x[:, 1:2] + 0.5).flatten(1)).double()
    image = torch.tensor([3.0, -1.0, 7.0]).double().reshape(1, 3, 1, 1)
    found, ledger = sent_back(added, image, {}, torch.ones(()))
    torch.testing.assert_close(found.flatten(), torch.tensor([3.0, 2.0, 0.0]).double(), rtol=1e-8, atol=0)
    torch.testing.assert_close(
        sum(each for _, each in ledger.biases), torch.tensor([0.5]).double(), rtol=1e-8, atol=0
    )


@pytest.mark.parametrize(("gate", "shares"), [(torch.sigmoid, (1, 0)), (torch.relu, (0.5, 0.5))])
def test_of_a_product_the_signal_gets_all_and_two_signals_get_halves(gate, shares):
    gated = Called(1, lambda x, _: (x[:, :1] * gate(x[:, 1:2])).flatten(1)).double()
    image = torch.tensor([3.0, 1.0, 7.0]).double().reshape(1, 3, 1, 1)
    found, _ = sent_back(gated, image, {}, torch.ones(()))
    score = float(gated(image))
    torch.testing.assert_close(found.flatten(), torch.tensor([*shares, 0]).double() * score)


DIVISIONS = {
    "operator": lambda x: x[:, :1] / x[:, 1:2],
    "function": lambda x: torch.div(x[:, :1], other=x[:, 1:2]),
    "in place": lambda x: x[:, :1].clone().div_(x[:, 1:2]),
}


@pytest.mark.parametrize("division", DIVISIONS.values(), ids=DIVISIONS)
def test_a_denominator_that_carries_relevance_is_refused_and_can_be_taken_as_constant(division):
    divided = Called(1, lambda x, _: division(x).flatten(1)).double()
    image = torch.tensor([3.0, 2.0, 7.0]).double().reshape(1, 3, 1, 1)
    with pytest.raises(NotApplicableError, match=r"LRP\(rules=\{'division': \.\.\.\}\): 'constant'"):
        sent_back(divided, image, {}, torch.ones(()))
    found, _ = sent_back(divided, image, {"division": Constant()}, torch.ones(()))
    assert found.flatten().tolist() == [1.5, 0, 0]


@pytest.mark.parametrize("in_place", [False, True])
def test_a_constant_over_a_constant_denominator_counts_as_a_bias(in_place):
    def reciprocal(x, _):
        one = torch.ones_like(x[:, :1])
        over = one.div_(x[:, 1:2]) if in_place else one.div(x[:, 1:2])
        return (x[:, :1] + (one if in_place else over)).flatten(1)

    net = Called(1, reciprocal).double()
    image = torch.tensor([3.0, 2.0, 7.0]).double().reshape(1, 3, 1, 1)
    books = LRP(rules={"division": "constant"}).conservation(net, image, 0)
    assert books.bias.item() == pytest.approx(0.5)
    assert books.arrived.item() == pytest.approx(3)


class Attention(nn.Module):
    """One head over positions, with a class token and an output layer."""

    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(3)
        self.token = nn.Parameter(torch.randn(1, 1, 3))
        self.mix = nn.Linear(3, 9)
        self.out = nn.Linear(3, 4)

    def forward(self, x):
        x = x.flatten(2).transpose(1, 2)
        x = torch.cat([self.token.expand(len(x), -1, -1), x], 1)
        q, k, v = self.mix(x).chunk(3, -1)
        return self.out(((q @ k.transpose(1, 2)).softmax(-1) @ v + x).mean(1))


def test_attention_is_refused_by_name_and_conserves_by_rules_that_are_given():
    net = Attention().double()
    with pytest.raises(
        NotApplicableError, match=r"no rule for (matmul|__matmul__) \(matrix product\).*'halves'"
    ):
        LRP()(net, pictures(size=4))
    with pytest.raises(NotApplicableError, match="no rule for softmax"):
        LRP(rules={"matrix product": "halves"})(net, pictures(size=4))
    rules = {"matrix product": "halves", "softmax": "constant"}
    books = LRP(rules=rules).conservation(net, pictures(size=4), 1)
    assert books.error.max() < EXACT


def test_the_rules_for_attention_are_those_of_the_function_that_computes_it_whole():
    net = Called((3, 3), lambda x, w: F.scaled_dot_product_attention(*3 * [x.flatten(2).mT @ w]).mean(1))
    rules = {"matrix product": "halves", "softmax": "constant"}
    assert LRP(rules=rules).conservation(net.double(), pictures(size=4), 1).error.max() < EXACT


class Odd(nn.Module):
    """Takes a root, for which there is no rule."""

    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(4)
        self.body = nn.Conv2d(3, 4, 3)

    def forward(self, x):
        return torch.sqrt(self.body(x).relu() + 1).mean((2, 3))


def test_an_operation_without_a_rule_is_an_error_that_names_it_and_what_to_give():
    with pytest.raises(NotApplicableError, match=r"no rule for sqrt.*rules=\{'sqrt': \.\.\.\}.*'pass'"):
        LRP()(Odd(), pictures().float())
    assert LRP(rules={"sqrt": "pass"}).conservation(Odd().double(), pictures()).error.max() < EXACT


def test_an_autograd_function_of_the_network_s_own_is_refused():
    class Doubled(torch.autograd.Function):
        @staticmethod
        def forward(ctx, x):
            return 2 * x

        @staticmethod
        def backward(ctx, gradient):
            return 2 * gradient

    own = Called(1, lambda x, _: Doubled.apply(x).mean((2, 3)))
    with pytest.raises(NotApplicableError, match="no rule for Doubled"):
        LRP()(own, pictures().float())


def test_a_rule_by_layer_name_changes_that_layer_alone():
    net = bias_free().double()
    net(pictures())
    ones = torch.ones((), dtype=torch.float64)
    named, _ = sent_back(net, pictures(), {"3": Flat()}, ones)
    first, _ = sent_back(net, pictures(), {"0": WSquare()}, ones)
    by_kind, _ = sent_back(net, pictures(), {"convolution": Flat(), "first": ZPlus()}, ones)
    torch.testing.assert_close(named, by_kind)
    assert not torch.allclose(named, first)


def test_a_rule_for_what_does_not_exist_or_takes_no_such_rule_is_refused():
    net = bias_free_with_shapes()
    with pytest.raises(LayerError, match="is called 'nowhere'"):
        LRP(rules={"nowhere": "flat"})(net, pictures().float())
    with pytest.raises(LayerError, match="nothing that '2' computes takes the rule 'flat'"):
        LRP(rules={"2": "flat"})(net, pictures().float())
    with pytest.raises(InputError, match="'max pool' does not take the rule 'flat'; it takes route, unpool"):
        LRP(rules={"max pool": Flat()})(net, pictures().float())


def test_a_rule_for_a_kind_that_is_not_there_is_refused_with_those_that_are():
    met = "kinds here are first, convolution, linear, average pool, max pool, relu$"
    with pytest.raises(LayerError, match=f"is called 'layer norm'; {met}"):
        LRP(rules={"layer norm": "pass"})(bias_free_with_shapes(), pictures().float())


def test_a_rule_for_batch_norms_that_are_all_folded_is_refused_and_one_is_kept_where_any_is_not():
    folded = nn.Sequential(nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4), nn.Flatten())
    with pytest.raises(LayerError, match="every batch norm here is folded into the convolution"):
        LRP(rules={"batch norm": "pass"})(folded, pictures().float())
    alone = nn.Sequential(nn.Conv2d(3, 4, 3), nn.ReLU(), nn.BatchNorm2d(4), nn.Flatten())
    assert LRP(rules={"batch norm": "pass"})(alone, pictures().float()).values.any()


def test_a_rule_that_the_composite_s_first_leaves_nothing_for_is_refused_and_one_of_the_user_s_own_is_not():
    only = nn.Sequential(nn.Conv2d(3, 4, 3), nn.Flatten())
    with pytest.raises(LayerError, match=r"every convolution here reads pictures.*give that"):
        LRP(composite="epsilon-plus-flat", rules={"convolution": "gamma"})(only, pictures().float())
    both = {"convolution": "gamma", "first": "w-square"}
    assert LRP(rules=both)(only, pictures().float()).values.any()


@pytest.mark.parametrize("name", NETWORKS)
def test_the_outputs_are_those_of_the_network(name):
    net = NETWORKS[name]().double().eval()
    scores = LRP()(net, pictures(), Classes([0, 1, 2, 3])).scores
    torch.testing.assert_close(scores, net(pictures()).detach().float())


def test_changed_weights_are_kept_until_the_weights_change():
    net = Functional()
    images = pictures().float()
    LRP()(net, images, 1)
    digest, entries = _kept[net]
    made = {key: value.data_ptr() for key, (_, value) in entries.items()}
    assert made
    LRP()(net, images[:1], 2)
    assert {key: value.data_ptr() for key, (_, value) in _kept[net][1].items()} == made
    with torch.no_grad():
        net.two.mul_(-1)
    again = LRP()(net, images, 1).values
    assert _kept[net][0] != digest
    torch.testing.assert_close(again, LRP()(copy.deepcopy(net), images, 1).values)


def test_relevance_at_a_layer_is_what_the_rest_of_the_network_sends_back_there():
    net = bias_free_with_shapes()
    found = LRP(layer=("pixels", "2", "4"))(net, pictures().float(), 1)
    middle = found.at("4")
    with torch.no_grad():
        activation = net[:5](pictures().float())
    from_there = LRP()(nn.Sequential(*net[5:]), activation, 1).values
    torch.testing.assert_close(middle, from_there, rtol=1e-5, atol=1e-7)
    for layer in ("2", "4"):  # cuts through the whole network, which has no biases
        torch.testing.assert_close(found.at(layer).flatten(2).sum(2), found.scores, rtol=1e-4, atol=1e-6)


def test_a_layer_that_a_batch_norm_is_folded_into_has_the_relevance_of_both():
    torch.manual_seed(0)
    net = nn.Sequential(
        nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4), nn.ReLU(), nn.AdaptiveAvgPool2d(1), nn.Flatten()
    )
    found = LRP(layer=("0", "1"))(net, pictures().float(), 1)
    assert found.at("0").any()
    torch.testing.assert_close(found.at("0"), found.at("1"))


def test_a_batch_norm_of_another_axis_than_the_layer_before_it_gives_out_is_not_folded():
    torch.manual_seed(0)
    net = nn.Sequential(nn.Flatten(2), nn.Linear(144, 3), nn.BatchNorm1d(3), nn.Flatten()).double().eval()
    nn.init.normal_(net[2].running_mean)
    nn.init.uniform_(net[2].weight, 0.5, 2)
    whole = LRP().conservation(net, pictures(), 1)
    assert whole.error.max() < EXACT
    middle = net[:2](pictures()).detach()
    behind, _ = sent_back(
        nn.Sequential(nn.Flatten(2), *net[2:]), middle[..., None], {}, torch.eye(9)[1].double()
    )
    relevance = (
        behind.reshape(middle.shape) / middle
    )  # what the linear layer's outputs were given, as factors of them
    wanted, _ = sent_back(net[:2], pictures(), {}, relevance)
    found, _ = sent_back(net, pictures(), {}, torch.eye(9)[1].double())
    torch.testing.assert_close(found, wanted, rtol=1e-9, atol=1e-12)


def test_the_box_is_black_and_white_and_wide_enough_for_every_picture():
    torch.manual_seed(0)
    net = nn.Sequential(nn.Conv2d(3, 4, 3, bias=False), nn.Flatten()).double()
    images, ones = pictures().clamp(-1, 1), torch.ones((), dtype=torch.float64)
    low, high = torch.full((3, 1, 1), -1.5), torch.full((3, 1, 1), 2.0)
    with Network(net).prepared(images) as arguments:
        found = trace(net, arguments, Composite.of("epsilon-gamma-box", {}, None), "", box=(low, high))
        (inside,), _, _ = found.back(found.outputs.sum())
    given, _ = sent_back(net, images, {"first": ZBox(low=(-1.5,) * 3, high=(2.0,) * 3)}, ones)
    torch.testing.assert_close(inside, given)
    with Network(net).prepared(3 * images) as arguments:
        found = trace(net, arguments, Composite.of("epsilon-gamma-box", {}, None), "", box=(low, high))
        (beyond,), _, _ = found.back(found.outputs.abs().sum())
    assert (beyond >= 0).all()


def test_contrastive_relevance_takes_from_all_others_what_the_target_has():
    net, images = Functional().double(), pictures()
    books = LRP(contrast=True).conservation(net, images, 1)
    scores = net(images)[:, 1].detach()
    torch.testing.assert_close(books.started[:, 0], torch.zeros(3).double(), atol=1e-12, rtol=0)
    torch.testing.assert_close(books.magnitude[:, 0], 2 * scores.abs())
    direction = torch.full((3, 4), -1 / 3).double() * scores[:, None] / net(images).detach()
    direction[:, 1] = 1
    wanted, _ = sent_back(net, images, {}, direction)
    found = LRP(contrast=True)(net, images, 1).values[:, 0]
    torch.testing.assert_close(found, wanted.float(), rtol=1e-4, atol=1e-6)


def test_the_contrast_of_two_classes_is_the_difference_of_their_relevance():
    net, images = Functional(), pictures().float()
    one, other = (LRP()(net, images, each).values for each in (1, 2))
    torch.testing.assert_close(LRP()(net, images, Contrast(1, 2)).values, one - other, rtol=1e-4, atol=1e-5)


def test_a_call_leaves_nothing_of_its_graph_in_memory():
    """Graphs that hold themselves through their steps are seen by no collector, so the steps alive are counted."""

    def alive() -> int:
        gc.collect()
        return sum(type(each) is Affine for each in gc.get_objects())

    before, module = alive(), Functional()
    LRP(layer="pixels")(module, torch.rand(2, 3, 15, 15), Classes([0, 1]))
    assert alive() == before


def test_settings_with_rules_survive_json_and_are_hashable():
    method = LRP(rules={"first": "gamma:gamma=0.5", "layer1": Pass(), "matrix product": Halves()})
    assert LRP.model_validate_json(method.model_dump_json()) == method
    assert hash(method) == hash(LRP.model_validate_json(method.model_dump_json()))
    assert dict(method.rules)["first"] == Gamma(gamma=0.5)
