"""Sets of filters: nearest and furthest points against points drawn at random, and optima that are none."""

from __future__ import annotations

import math

import pytest
import torch

from seewhy.explainers.attention_filter.gaussian import Gaussian
from seewhy.explainers.attention_filter.objectives import Linear, Quadratic
from seewhy.explainers.attention_filter.regions import Box, NonNegativeSphere, Simplex, Sphere
from seewhy.explainers.attention_filter.solver import projected

POSITIONS = 5
REGIONS = [Sphere(1.7), NonNegativeSphere(1.7), Simplex(1.7), Box(area=0.3)]


def drawn(*shape, seed=0):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def members(region, count=4000):
    """Points of the set, drawn without its projection."""
    noise = drawn(count, 1, POSITIONS, seed=1)
    if isinstance(region, Box):
        points = noise.abs().clamp_max(1)
        total = points.sum(-1, keepdim=True)
        return points * (region.area * POSITIONS / total).clamp_max(1)
    if isinstance(region, Simplex):
        return region.rho * noise.softmax(-1)
    points = noise.abs() if isinstance(region, NonNegativeSphere) else noise
    return region.rho * points / points.norm(dim=-1, keepdim=True)


def inside(region, points):
    if isinstance(region, Box):
        fits = points.sum(-1) <= region.area * POSITIONS + 1e-9
        return bool(((points >= 0) & (points <= 1)).all() and fits.all())
    size = points.sum(-1) if isinstance(region, Simplex) else points.norm(dim=-1)
    signs = type(region) is Sphere or bool((points >= 0).all())
    return signs and bool(((size - region.rho).abs() < 1e-9).all())


@pytest.mark.parametrize("region", REGIONS, ids=lambda each: type(each).__name__)
def test_no_point_of_the_set_is_nearer_than_the_projection(region):
    points = torch.cat([drawn(20, 1, POSITIONS), -drawn(20, 1, POSITIONS).abs(), 5 * drawn(20, 1, POSITIONS)])
    found = region.project(points)
    assert inside(region, found)
    others = torch.cdist(points[:, 0], members(region)[:, 0]).amin(1)
    assert ((points - found)[:, 0].norm(dim=1) <= others + 1e-9).all()


@pytest.mark.parametrize("region", REGIONS, ids=lambda each: type(each).__name__)
def test_no_point_of_the_set_is_further_in_a_direction(region):
    direction = torch.cat([drawn(20, 1, POSITIONS), -drawn(20, 1, POSITIONS).abs()])
    found = region.furthest(direction)
    assert inside(region, found)
    reached = (direction * found).sum((1, 2))
    assert (reached >= (direction[:, 0] @ members(region)[:, 0].mT).amax(1) - 1e-9).all()
    assert (region.residual(found, -direction) < 1e-12).all()


@pytest.mark.parametrize("region", REGIONS, ids=lambda each: type(each).__name__)
def test_a_filter_that_is_no_optimum_has_a_residual(region):
    points = members(region, 20)
    other = region.furthest(drawn(20, 1, POSITIONS, seed=5))
    apart = (points - other).flatten(1).norm(dim=1) > 1e-3
    assert apart.sum() > 10
    assert (region.residual(points, -drawn(20, 1, POSITIONS, seed=5))[apart] > 1e-3).all()


def test_without_a_positive_entry_the_furthest_non_negative_filter_is_one_position():
    found = NonNegativeSphere(2.0).furthest(torch.tensor([[[-3.0, -1.0, -2.0]]], dtype=torch.float64))
    assert found.tolist() == [[[0.0, 2.0, 0.0]]]


def test_a_box_is_filled_from_the_best_position_on_up_to_its_area():
    direction = torch.tensor([[[1.0, 5.0, -1.0, 3.0, 2.0]]], dtype=torch.float64)
    assert Box(area=0.5).furthest(direction).tolist() == [[[0.0, 1.0, 0.0, 1.0, 0.5]]]
    assert Box(area=0.95).furthest(direction).tolist() == [[[1.0, 1.0, 0.0, 1.0, 1.0]]]


@pytest.mark.parametrize("grid", [(9,), (5, 6), (3, 3, 4)])
def test_a_gaussian_is_found_again_with_its_mean_and_covariance(grid):
    region = Gaussian(1.0, grid)
    axes = len(grid)
    mean = [0.6 * (n - 1) / max(grid) for n in grid]
    factor = [5.0 if row == column else 1.5 for row in range(axes) for column in range(row + 1)]
    diagonal = [row == column for row in range(axes) for column in range(row + 1)]
    entries = [math.log(each) if on else each for each, on in zip(factor, diagonal, strict=True)]
    truth = torch.tensor([[mean + entries]], dtype=torch.float64)
    wanted = region.filters(truth)
    places = wanted.shape[-1]
    gram = torch.eye(places, dtype=torch.float64)[None]

    class Nearest(Quadratic):
        def __call__(self, filters, rows):
            return super().__call__(filters - wanted + 1, rows)

    start = region.starts(-wanted)
    found = projected(Nearest(gram), region, start, 600, 1e-7, 1e-15, torch.zeros(1, dtype=torch.float64))
    assert float((found.filters - wanted).abs().max()) < 1e-4


def test_a_gaussian_is_written_as_its_density():
    region = Gaussian(2.0, (4, 5))
    point = torch.tensor([[[0.3, 0.5, 0.7, -0.4, 0.2]]], dtype=torch.float64)
    factor = torch.tensor([[math.exp(0.7), 0.0], [-0.4, math.exp(0.2)]], dtype=torch.float64)
    inverse = factor @ factor.mT
    expected = torch.zeros(4, 5, dtype=torch.float64)
    for row in range(4):
        for column in range(5):
            apart = torch.tensor([row / 5 - 0.3, column / 5 - 0.5], dtype=torch.float64)
            expected[row, column] = torch.exp(-apart @ inverse @ apart / 2)
    expected = 2 * expected / expected.norm()
    assert torch.allclose(region.filters(point).view(4, 5), expected, atol=1e-12)


def test_a_gaussian_for_one_bright_spot_lies_there():
    region = Gaussian(1.0, (7, 7))
    direction = torch.zeros(1, 1, 49, dtype=torch.float64)
    direction[0, 0, 3 * 7 + 5] = 1
    linear = Linear(direction, torch.zeros(1, dtype=torch.float64))
    nothing = torch.zeros(1, dtype=torch.float64)
    found = projected(linear, region, region.starts(-direction), 300, 1e-6, 1e-15, nothing)
    assert int(found.filters.argmax()) == 3 * 7 + 5
    assert float(found.filters.max()) > 0.98
