"""Least squares on a sphere against searches that know nothing of eigenvectors."""

from __future__ import annotations

import itertools
import math

import numpy as np
import pytest
import torch

from seewhy.explainers.attention_filter.closed_form import kept


def rows(count=3, outputs=9, positions=6, seed=0, offset=0.2):
    """M of some pictures."""
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(count, outputs, positions, generator=generator, dtype=torch.float64) + offset


def gram_of(found):
    return found.mT @ found


def secular(gram, free, rho):
    """(G + l) f = G 1 on the free positions, l by halving an interval, one linear system after the other."""
    gram = gram.numpy()
    inner, right = gram[np.ix_(free, free)], gram.sum(1)[free]
    lowest = np.linalg.eigvalsh(inner)[0]
    low, high = -lowest, np.linalg.norm(right) / rho + 1

    def solved(multiplier):
        return np.linalg.solve(inner + multiplier * np.eye(len(free)), right)

    for _ in range(200):
        middle = (low + high) / 2
        low, high = (middle, high) if np.linalg.norm(solved(middle)) > rho else (low, middle)
    found = np.zeros(len(gram))
    found[free] = solved(high)
    return found


def loss(matrix, found):
    return float((matrix @ (torch.as_tensor(found) - 1)).square().sum())


@pytest.mark.parametrize("rho", [0.1, 1.0, 2.0])
def test_the_signed_optimum_solves_the_secular_equation(rho):
    matrices = rows()
    found, unique = kept(gram_of(matrices), rho, nonnegative=False)
    for matrix, each in zip(matrices, found, strict=True):
        expected = secular(gram_of(matrix), list(range(6)), rho)
        np.testing.assert_allclose(each.numpy(), expected, atol=1e-10)
    assert unique.all()


@pytest.mark.parametrize("rho", [0.1, 0.5])
@pytest.mark.parametrize("seed", range(3))
def test_the_non_negative_optimum_is_the_best_of_all_choices_of_zeros(rho, seed):
    matrices = rows(6, seed=seed, offset=0.0)
    found, _ = kept(gram_of(matrices), rho, nonnegative=True)
    some_at_zero = False
    for matrix, each in zip(matrices, found, strict=True):
        best = math.inf
        for size in range(1, 7):
            for free in itertools.combinations(range(6), size):
                other = secular(gram_of(matrix), list(free), rho)
                if (other >= -1e-12).all() and abs(np.linalg.norm(other) - rho) < 1e-9:
                    best = min(best, loss(matrix, other))
        assert float(each.norm()) == pytest.approx(rho, abs=1e-12)
        assert (each >= 0).all()
        assert loss(matrix, each) == pytest.approx(best, rel=1e-9)
        some_at_zero |= bool((each == 0).any())
    assert some_at_zero, "zeros are what makes this harder than the sphere"


@pytest.mark.parametrize("nonnegative", [False, True])
def test_a_norm_that_allows_ones_gives_ones(nonnegative):
    matrices = rows()
    found, _ = kept(gram_of(matrices), math.sqrt(6), nonnegative)
    assert (found - 1).abs().max() < 1e-9
    assert all(loss(matrix, each) <= 1e-12 for matrix, each in zip(matrices, found, strict=True))


def test_a_small_norm_gives_what_every_position_has_in_common_with_the_output():
    gram = gram_of(rows())
    found, _ = kept(gram, 1e-6, nonnegative=False)
    assert (torch.cosine_similarity(found, gram.sum(2)) > 1 - 1e-10).all()


@pytest.mark.parametrize("nonnegative", [False, True])
def test_fewer_outputs_than_positions_are_kept_exactly_and_the_filter_is_said_to_be_one_of_many(nonnegative):
    matrices = rows(outputs=2)
    found, unique = kept(gram_of(matrices), 2.2, nonnegative)
    assert not unique.any()
    for matrix, each in zip(matrices, found, strict=True):
        assert loss(matrix, each) < 1e-12
        assert float(each.norm()) == pytest.approx(2.2, abs=1e-12)
        assert not nonnegative or (each >= 0).all()


def test_beyond_the_norm_of_ones_the_signed_optimum_is_longer_than_ones():
    matrices = rows(outputs=20)
    found, _ = kept(gram_of(matrices), 4.0, nonnegative=False)
    for matrix, each in zip(matrices, found, strict=True):
        np.testing.assert_allclose(each.numpy(), secular(gram_of(matrix), list(range(6)), 4.0), atol=1e-9)


def test_a_picture_s_filter_does_not_depend_on_the_others():
    gram = gram_of(rows(8))
    together, _ = kept(gram, 1.0, nonnegative=True)
    for each, alone in zip(together, gram, strict=True):
        assert torch.allclose(kept(alone[None], 1.0, nonnegative=True)[0][0], each, atol=1e-14)


@pytest.mark.parametrize(("outputs", "rho"), [(100, 0.3), (100, 3.0), (30, 1.0), (30, 6.0), (1000, 1.0)])
def test_on_grids_as_they_are_the_non_negative_optimum_is_certified(outputs, rho):
    gram = gram_of(rows(16, outputs, 49, offset=0.0))
    found, unique = kept(gram, rho, nonnegative=True)
    gradient = torch.einsum("nst,nt->ns", gram, found - 1)
    scale = gram.sum(2).norm(dim=1)
    multiplier = -(gradient * found).sum(1, keepdim=True) / rho**2
    slope = gradient + multiplier * found
    free = found > 0
    assert (torch.where(free, slope, slope.clamp_max(0)).norm(dim=1) <= 1e-9 * scale).all()
    assert (multiplier[:, 0] >= -1e-9 * scale).all(), (
        "without it this is the best on the sphere, not in the ball"
    )
    assert (~free).any() or not unique.all() or outputs == 1000
