"""Filters of any activation and head: formulas against steps, and what must not change them."""

from __future__ import annotations

import math

import pytest
import torch
from torch import nn

from seewhy.errors import InputError, NotApplicableError
from seewhy.explainers.attention_filter.filters import Search, attention_filter
from seewhy.explainers.attention_filter.objectives import sees_averages

PICTURES, CHANNELS, OUTPUTS = 3, 8, 60


def drawn(*shape, seed=0):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def activation(grid=(4, 5), seed=0):
    return drawn(PICTURES, CHANNELS, *grid, seed=seed).clamp_min(0)


def frozen(*layers):
    torch.manual_seed(3)
    for layer in layers:
        if isinstance(layer, nn.Linear):
            layer.reset_parameters()  # the same weights, whatever was drawn before
    return nn.Sequential(*layers).double().requires_grad_(False)


def pooled(outputs=OUTPUTS):
    return frozen(nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(CHANNELS, outputs))


def two_layers(after):
    return frozen(nn.Flatten(), nn.Linear(CHANNELS * 20, 40), after, nn.Linear(40, OUTPUTS))


def above_all(classes=(1, 4)):
    """Each class above all others, for every picture."""
    found = -torch.ones(PICTURES, len(classes), OUTPUTS, dtype=torch.float64)
    for place, each in enumerate(classes):
        found[:, place, each] = 1
    return found


def cosines(one, other):
    return torch.cosine_similarity(one.values.flatten(2), other.values.flatten(2), dim=2)


@pytest.mark.parametrize("constraint", ["sphere", "non-negative"])
@pytest.mark.parametrize("coefficients", [None, above_all()], ids=["oblivious", "class"])
def test_the_formula_is_where_ten_starts_end(constraint, coefficients):
    shown, head = activation(), pooled()
    formula = attention_filter(shown, head, coefficients, search=Search(constraint))
    assert formula.solver == "closed-form"
    assert float(formula.residual.max()) < 1e-10
    count = PICTURES * (1 if coefficients is None else 2)
    for seed in range(10):
        search = Search(constraint, solver="riemannian", tolerance=1e-9)
        steps = attention_filter(
            shown, head, coefficients, search=search, starts=drawn(count, 1, 20, seed=seed)
        )
        assert float(steps.residual.max()) <= 1e-6
        assert float(cosines(formula, steps).min()) >= 1 - 1e-8


def test_the_class_formula_is_the_class_map_less_the_others():
    shown, head = activation(), pooled()
    maps = torch.einsum("dk,bkij->bdij", head[2].weight, shown)
    for place, label in enumerate((1, 4)):
        direction = 2 * maps[:, label] - maps.sum(1)
        found = attention_filter(shown, head, above_all(), search=Search("sphere", rho=3.0)).values[:, place]
        expected = 3 * direction / direction.flatten(1).norm(dim=1)[:, None, None]
        assert torch.allclose(found, expected, atol=1e-10)
        found = attention_filter(shown, head, above_all()).values[:, place]
        expected = direction.clamp_min(0) / direction.clamp_min(0).flatten(1).norm(dim=1)[:, None, None]
        assert torch.allclose(found, expected, atol=1e-10)


def test_on_the_simplex_the_class_lies_at_one_position():
    shown, head = activation(), pooled()
    maps = torch.einsum("dk,bkij->bdij", head[2].weight, shown)
    best = (2 * maps[:, 1] - maps.sum(1)).flatten(1).argmax(1)
    found = attention_filter(shown, head, above_all((1,)), search=Search("simplex"))
    assert torch.equal(found.values.flatten(1).argmax(1), best)
    assert torch.equal(found.values.amax((-2, -1)), torch.ones(PICTURES, 1, dtype=torch.float64))


@pytest.mark.parametrize("constraint", ["simplex", "box"])
def test_on_a_convex_set_no_drawn_filter_keeps_the_output_better(constraint):
    shown, head = activation(), pooled()
    found = attention_filter(shown, head, search=Search(constraint, area=0.4))
    assert float(found.residual.max()) < 1e-6
    noise = drawn(3000, 1, 4, 5, seed=2).abs()
    others = noise / noise.sum((-2, -1), keepdim=True)
    if constraint == "box":
        others = (others * 8).clamp_max(1)
    outputs = head(shown)
    for row in range(PICTURES):
        losses = (head(others * shown[row]) - outputs[row]).square().mean(1)
        assert float(found.loss[row, 0]) <= float(losses.min())


@pytest.mark.parametrize("constraint", ["sphere", "non-negative"])
def test_a_norm_that_allows_the_uniform_filter_gives_it(constraint):
    found = attention_filter(activation(), pooled(), search=Search(constraint, rho=math.sqrt(20)))
    assert torch.allclose(found.values, torch.ones_like(found.values), atol=1e-6)
    assert float(found.loss.max()) <= 1e-12


def test_a_small_norm_gives_the_self_similarity():
    shown, head = activation(), pooled()
    rows = torch.einsum("dk,bkij->bdij", head[2].weight, shown).flatten(2)
    expected = torch.einsum("bds,bd->bs", rows, rows.sum(2))
    found = attention_filter(shown, head, search=Search("sphere", rho=1e-5))
    assert float(torch.cosine_similarity(found.values.flatten(1), expected).min()) > 1 - 1e-8


@pytest.mark.parametrize("after", [nn.Tanh(), nn.SiLU()], ids=["tanh", "silu"])
@pytest.mark.parametrize("coefficients", [None, above_all()], ids=["oblivious", "class"])
def test_on_a_curved_head_the_filter_is_stationary_and_no_worse_than_a_long_descent(after, coefficients):
    shown, head = activation(), two_layers(after)
    found = attention_filter(shown, head, coefficients)
    assert found.solver == "riemannian"
    assert float(found.residual.max()) <= 1e-6
    outputs = head(shown)
    for row in range(PICTURES):
        variable = torch.ones(20, dtype=torch.float64, requires_grad=True)
        optimizer = torch.optim.Adam([variable], lr=0.02)
        for turn in range(600):
            optimizer.param_groups[0]["lr"] = 0.02 * (1 - turn / 600)
            shape = variable.abs() / variable.norm()
            after_filter = head(shape.view(1, 1, 4, 5) * shown[row : row + 1])[0]
            if coefficients is None:
                loss = (after_filter - outputs[row]).square().mean()
            else:
                loss = -(coefficients[row, 0] * after_filter).sum()
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
        assert float(found.loss[row, 0]) <= loss.item() + 1e-6 * abs(loss.item())


@pytest.mark.parametrize("head", [pooled(), two_layers(nn.Tanh())], ids=["formula", "steps"])
@pytest.mark.parametrize("coefficients", [None, above_all()], ids=["oblivious", "class"])
def test_a_picture_s_filter_is_the_same_alone(head, coefficients):
    shown = activation()
    together = attention_filter(shown, head, coefficients)
    for row in range(PICTURES):
        own = None if coefficients is None else coefficients[row : row + 1]
        alone = attention_filter(shown[row : row + 1], head, own)
        assert torch.allclose(alone.values[0], together.values[row], atol=1e-7)


@pytest.mark.parametrize("factor", [1e-4, 1e4])
def test_outputs_at_another_scale_have_the_same_filter(factor):
    class Scaled(nn.Module):
        def __init__(self, head):
            super().__init__()
            self.head = head

        def forward(self, shown):
            return factor * self.head(shown)

    for head in (pooled(), two_layers(nn.Tanh())):
        plain, scaled = (attention_filter(activation(), each) for each in (head, Scaled(head)))
        assert torch.allclose(plain.values, scaled.values, atol=1e-6)


@pytest.mark.parametrize("solver", ["auto", "riemannian"])
def test_positions_exchanged_are_exchanged_in_the_filter_of_a_pooled_head(solver):
    order = torch.randperm(20, generator=torch.Generator().manual_seed(1))
    shown = activation()
    moved = shown.flatten(2)[:, :, order].view_as(shown)
    search = Search(solver=solver, tolerance=1e-9)
    plain, other = (attention_filter(each, pooled(), search=search) for each in (shown, moved))
    assert torch.allclose(plain.values.flatten(2)[:, :, order], other.values.flatten(2), atol=1e-8)


def test_the_identity_filter_gives_the_outputs_to_the_bit():
    shown, head = activation(), two_layers(nn.ReLU())
    assert torch.equal(head(torch.ones(1, 1, 4, 5, dtype=torch.float64) * shown), head(shown))


def test_behind_a_relu_the_non_negative_filter_is_found_and_the_signed_one_is_said_to_be_deaf():
    """DenseNet's head: of a ReLU, pooling, and a linear layer; the layer itself takes either sign."""
    shown = drawn(PICTURES, CHANNELS, 4, 5)
    head = frozen(nn.ReLU(), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(CHANNELS, OUTPUTS))
    maps = torch.einsum("dk,bkij->bdij", head[3].weight, shown.clamp_min(0))
    direction = (2 * maps[:, 1] - maps.sum(1)).flatten(1)
    expected = direction.clamp_min(0) / direction.clamp_min(0).norm(dim=1, keepdim=True)
    found = attention_filter(shown, head, above_all((1,)))
    assert torch.allclose(found.values.flatten(1), expected, atol=1e-6)
    one_sided = frozen(nn.Flatten(), nn.ReLU(), nn.Linear(CHANNELS * 20, OUTPUTS))
    signed = attention_filter(shown.clamp_min(0), one_sided, above_all((1,)), search=Search("sphere"))
    assert int(signed.dark.min()) > 0
    assert not attention_filter(shown, head, above_all((1,))).dark.any()


def test_behind_a_relu_each_entry_of_the_signed_filter_goes_to_the_side_that_raises_more():
    shown = drawn(PICTURES, CHANNELS, 4, 5)
    head = frozen(nn.ReLU(), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(CHANNELS, OUTPUTS))
    weight = 2 * head[3].weight[1] - head[3].weight.sum(0)
    above, below = (torch.einsum("k,bkij->bij", weight, each.relu()).flatten(1) for each in (shown, -shown))
    best = torch.where(above >= below, above.clamp_min(0), -below.clamp_min(0))
    expected = best / best.norm(dim=1, keepdim=True)
    found = attention_filter(shown, head, above_all((1,)), search=Search("sphere"))
    assert (expected < 0).any(1).all()
    assert torch.allclose(found.values.flatten(1), expected, atol=1e-6)


def test_a_head_that_sees_only_averages_is_given_averages_and_the_filter_is_the_same():
    shown = activation()
    layers = nn.Linear(CHANNELS, 40), nn.Tanh(), nn.Linear(40, OUTPUTS)
    head = frozen(nn.AdaptiveAvgPool2d(1), nn.Flatten(), *layers)

    def of_whole_grids(maps):
        if maps.shape[2:] != shown.shape[2:]:
            raise RuntimeError("a window of a fixed size")
        return head(maps)

    for coefficients in (None, above_all()):
        found, slow = (attention_filter(shown, each, coefficients) for each in (head, of_whole_grids))
        assert torch.allclose(found.values, slow.values, atol=1e-6)


@pytest.mark.parametrize(
    ("head", "averages"),
    [
        (lambda maps: torch.tanh(maps.mean((2, 3))), True),
        (lambda maps: nn.functional.normalize(maps.mean((2, 3)), dim=1), True),
        (lambda maps: maps.relu().mean((2, 3)), False),
        (lambda maps: maps.amax((2, 3)), False),
        (lambda maps: maps.flatten(1), False),
        (lambda maps: nn.functional.avg_pool2d(maps, (4, 5)).flatten(1), False),
    ],
)
def test_whether_a_head_sees_only_averages_is_measured(head, averages):
    assert sees_averages(lambda maps, _pictures: head(maps), activation()) is averages


def test_a_normalised_head_keeps_its_output_under_the_uniform_filter_and_says_so():
    class Normalised(nn.Module):
        def forward(self, shown):
            return nn.functional.normalize(shown.mean((2, 3)), dim=1)

    found = attention_filter(activation(), Normalised())
    assert found.even.all()
    assert torch.allclose(found.values, torch.full_like(found.values, 1 / math.sqrt(20)), atol=1e-9)
    assert not attention_filter(activation(), pooled()).even.any()


def test_nothing_speaks_for_a_class_that_every_position_lowers():
    shown, head = activation(), pooled()
    against = torch.zeros(PICTURES, 1, OUTPUTS, dtype=torch.float64)
    against[:, 0] = -head[2].weight.pinverse().mT @ torch.ones(CHANNELS, dtype=torch.float64)
    found = attention_filter(shown, head, against)
    assert not found.evidence.any()


def test_an_activation_of_zeros_gives_finite_numbers():
    for head in (pooled(), two_layers(nn.ReLU())):
        for constraint in ("non-negative", "sphere", "simplex", "box", "gaussian"):
            for coefficients in (None, above_all()):
                search = Search(constraint)
                found = attention_filter(0 * activation(), head, coefficients, search=search)
                assert all(
                    bool(torch.isfinite(each).all()) for each in (found.values, found.loss, found.residual)
                )


class Recurrent(nn.Module):
    """A recurrent retriever whose state takes in one frame only, as gates of trained ones may."""

    def __init__(self, frames, reads):
        super().__init__()
        torch.manual_seed(5)
        self.cell = nn.GRUCell(CHANNELS, 12)
        self.reads = reads

    def forward(self, clips):
        pooled = clips.mean((-2, -1))
        state = pooled.new_zeros((len(clips), 12))
        for frame in range(pooled.shape[2]):
            new = self.cell(pooled[:, :, frame], state)
            state = new if frame == self.reads else state
        return state


def clip():
    return drawn(PICTURES, CHANNELS, 5, 3, 4).abs()


def test_a_joint_filter_over_frames_lies_where_a_recurrent_head_reads():
    head = Recurrent(5, reads=3).double().requires_grad_(False)
    for coefficients in (None, head(clip())[:, None]):
        found = attention_filter(clip(), head, coefficients, search=Search(rho=math.sqrt(5)))
        mass = found.values.square().sum((-2, -1))[:, 0]
        assert float((mass[:, 3] / mass.sum(1)).min()) >= 0.99


def test_frames_with_filters_of_their_own_say_which_are_not_read():
    head = Recurrent(5, reads=3).double().requires_grad_(False)
    found = attention_filter(clip(), head, search=Search(separate=1))
    assert torch.allclose(
        found.values.flatten(3).norm(dim=3), torch.ones(PICTURES, 1, 5, dtype=torch.float64)
    )
    assert (found.sensitivity[:, 0, [0, 1, 2, 4]] == 0).all()
    assert (found.sensitivity[:, 0, 3] == 1).all()


def test_frames_with_filters_of_their_own_are_those_of_each_frame_where_the_head_adds_them_up():
    head = frozen(nn.AdaptiveAvgPool3d(1), nn.Flatten(), nn.Linear(CHANNELS, OUTPUTS))
    found = attention_filter(clip(), head, above_all((1,)), search=Search(separate=1))
    for frame in range(5):
        alone = attention_filter(clip()[:, :, frame], pooled_like(head), above_all((1,)))
        assert torch.allclose(found.values[:, :, frame], alone.values, atol=1e-9)


def pooled_like(head):
    return nn.Sequential(nn.AdaptiveAvgPool2d(1), nn.Flatten(), head[2])


@pytest.mark.parametrize(
    "pool", [nn.AdaptiveAvgPool2d(1), nn.AvgPool2d((4, 5))], ids=["any size", "fixed size"]
)
def test_pooled_heads_are_recognised_by_what_they_do(pool):
    shown = activation()
    plain = attention_filter(shown, pooled())
    found = attention_filter(shown, nn.Sequential(pool, *list(pooled())[1:]))
    assert found.solver == "closed-form"
    assert torch.allclose(found.values, plain.values, atol=1e-9)


def test_an_affine_head_that_is_not_pooled_has_a_formula_too():
    shown = activation()
    head = frozen(nn.Flatten(), nn.Linear(CHANNELS * 20, OUTPUTS))
    for coefficients in (None, above_all()):
        formula = attention_filter(shown, head, coefficients)
        steps = attention_filter(
            shown, head, coefficients, search=Search(solver="riemannian", tolerance=1e-9)
        )
        assert (formula.solver, steps.solver) == ("closed-form", "riemannian")
        assert float(cosines(formula, steps).min()) >= 1 - 1e-8


def test_what_cannot_be_is_refused():
    with pytest.raises(NotApplicableError, match="solver='auto'"):
        attention_filter(activation(), two_layers(nn.ReLU()), search=Search(solver="closed-form"))
    with pytest.raises(InputError, match="the grid has 2 axes"):
        attention_filter(activation(), pooled(), search=Search(separate=2))
    with pytest.raises(InputError, match="knows no box filters"):
        attention_filter(activation(), pooled(), search=Search("box", solver="sgd"))
