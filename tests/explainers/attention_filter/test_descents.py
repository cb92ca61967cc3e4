"""Steps towards the best filter: alone or together, at any scale, and as the reference takes them."""

from __future__ import annotations

import pytest
import torch

from seewhy.explainers.attention_filter.objectives import Linear, Quadratic
from seewhy.explainers.attention_filter.regions import NonNegativeSphere, Simplex, Sphere
from seewhy.explainers.attention_filter.solver import Descent, descended, projected

POSITIONS = 12


def drawn(*shape, seed=0):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


class Scaled(Quadratic):
    """The same loss, times a number."""

    factor = 1.0

    def __call__(self, filters, rows):
        loss, gradient = super().__call__(filters, rows)
        return self.factor * loss, self.factor * gradient


def quadratic(count=4, factor=1.0):
    matrices = drawn(count, 15, POSITIONS) + 0.3
    found = Scaled(matrices.mT @ matrices / 15)
    object.__setattr__(found, "factor", factor)
    return found


def solved(objective, region, start, count, tolerance=1e-9):
    return projected(objective, region, start, 500, tolerance, 1e-15, torch.zeros(count, dtype=torch.float64))


@pytest.mark.parametrize(
    "region", [Sphere(1.0), NonNegativeSphere(1.0), Simplex(1.0)], ids=lambda e: type(e).__name__
)
def test_ten_starts_end_at_one_optimum(region):
    objective = quadratic()
    losses = []
    for seed in range(10):
        found = solved(objective, region, drawn(4, 1, POSITIONS, seed=seed + 10), 4)
        assert float(found.residual.max()) <= 1e-6
        losses.append(found.loss)
    losses = torch.stack(losses)
    assert float((losses - losses[0]).abs().max()) <= 1e-9 * float(losses.max())


@pytest.mark.parametrize("factor", [1e-4, 1e4])
def test_the_scale_of_the_loss_changes_nothing(factor):
    start = drawn(4, 1, POSITIONS, seed=3)
    plain = solved(quadratic(), NonNegativeSphere(1.0), start, 4)
    scaled = solved(quadratic(factor=factor), NonNegativeSphere(1.0), start, 4)
    assert torch.allclose(plain.filters, scaled.filters, atol=1e-9)


def test_the_loop_of_the_reference_depends_on_the_scale_of_the_loss():
    how = Descent("sgd", 0.5, 1e-5, relative=False)
    start = torch.ones(4, 1, POSITIONS, dtype=torch.float64)
    plain = descended(quadratic(), Sphere(1.0), start, how, 1000, 1e-6)
    small = descended(quadratic(factor=1e-4), Sphere(1.0), start, how, 1000, 1e-6)
    assert float(torch.cosine_similarity(plain.filters[:, 0], small.filters[:, 0]).min()) < 0.999


def test_each_filter_stops_by_itself():
    objective, start = quadratic(6), drawn(6, 1, POSITIONS, seed=3)
    together = solved(objective, NonNegativeSphere(1.0), start, 6)
    for row in range(6):
        alone = solved(
            Quadratic(objective.gram[row : row + 1]), NonNegativeSphere(1.0), start[row : row + 1], 1
        )
        assert torch.allclose(alone.filters[0], together.filters[row], atol=1e-12)
        assert int(alone.iterations[0]) == int(together.iterations[row])
    assert len(set(together.iterations.tolist())) > 1


def test_a_filter_that_begins_at_the_optimum_stays():
    direction = drawn(3, 1, POSITIONS)
    linear = Linear(direction, torch.zeros(3, dtype=torch.float64))
    start = direction / direction.norm(dim=-1, keepdim=True)
    found = solved(linear, Sphere(1.0), start, 3)
    assert torch.equal(found.iterations, torch.ones(3, dtype=torch.long))
    assert torch.allclose(found.filters, start)


def loop(gram, start, optimizer, last, rate):
    """The public loop as it is described: one picture, torch's optimisers, a look every 50 iterations."""
    variable = start.clone().requires_grad_()
    stepper = optimizer([variable], lr=rate)
    before = float("inf")
    for turn in range(1000):
        shown = variable / variable.norm()
        value = ((shown - 1) @ gram @ (shown - 1)).sum()
        if turn % 50 == 0:
            if abs(value.item() - before) < 1e-6:
                break
            before = value.item()
        stepper.zero_grad()
        value.backward()
        stepper.param_groups[0]["lr"] = last + (rate - last) * (1 - turn / 1000)
        stepper.step()
    return (variable / variable.norm()).detach()


@pytest.mark.parametrize(
    ("rule", "optimizer", "last"), [("sgd", torch.optim.SGD, 1e-5), ("adam", torch.optim.Adam, 0.0)]
)
def test_the_descents_are_those_of_torch_s_optimisers_one_picture_at_a_time(rule, optimizer, last):
    objective, start = quadratic(), drawn(4, 1, POSITIONS, seed=7)
    found = descended(objective, Sphere(1.0), start, Descent(rule, 0.5, last, relative=False), 1000, 1e-6)
    for row in range(4):
        expected = loop(objective.gram[row], start[row, 0], optimizer, last, 0.5)
        assert torch.allclose(found.filters[row, 0], expected, atol=1e-9)
