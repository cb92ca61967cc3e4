"""Linear imputation: against a dense solve, and on pictures whose missing pixels are known."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from seewhy.evaluation.imputation import imputed


def dense(picture: np.ndarray, missing: np.ndarray) -> np.ndarray:
    """One equation per missing pixel, written down and solved in float64."""
    height, width = missing.shape
    places = [(y, x) for y in range(height) for x in range(width) if missing[y, x]]
    number = {place: row for row, place in enumerate(places)}
    matrix, right = np.zeros((len(places),) * 2), np.zeros((len(places), len(picture)))
    for (y, x), row in number.items():
        for down in (-1, 0, 1):
            for across in (-1, 0, 1):
                there = (y + down, x + across)
                if (down, across) == (0, 0) or not (0 <= there[0] < height and 0 <= there[1] < width):
                    continue
                weight = 1 / 12 if down and across else 1 / 6
                matrix[row, row] += weight
                if there in number:
                    matrix[row, number[there]] -= weight
                else:
                    right[row] += weight * picture[:, *there]
    filled = picture.astype(np.float64)
    for (y, x), values in zip(places, np.linalg.solve(matrix, right), strict=True):
        filled[:, y, x] = values
    return filled


@pytest.mark.parametrize("share", [0.1, 0.5, 0.9, 0.99])
def test_conjugate_gradients_find_what_a_direct_solve_finds(share) -> None:
    draws = torch.Generator().manual_seed(0)
    pictures = torch.randn(4, 3, 17, 22, generator=draws)
    missing = torch.rand(4, 17, 22, generator=draws) < share
    missing[1] = False
    missing[1, 2:15, 4:20] = True  # a hole, whose middle is far from all that is known
    missing[2] = True
    missing[2, 16, 21] = False  # a corner alone
    found = imputed(pictures, missing)
    for row in range(4):
        expected = dense(pictures[row].numpy(), missing[row].numpy())
        np.testing.assert_allclose(found[row].numpy(), expected, atol=1e-4)


def test_a_constant_picture_is_reproduced() -> None:
    missing = torch.rand(1, 20, 20, generator=torch.Generator().manual_seed(1)) < 0.9
    found = imputed(torch.full((1, 3, 20, 20), 0.7), missing)
    torch.testing.assert_close(found, torch.full((1, 3, 20, 20), 0.7), atol=1e-5, rtol=0)


def test_a_ramp_is_reproduced_where_no_missing_pixel_touches_the_border() -> None:
    y, x = torch.meshgrid(torch.arange(16.0), torch.arange(16.0), indexing="ij")
    ramp = (0.1 * y - 0.05 * x)[None, None]
    missing = torch.zeros(1, 16, 16, dtype=torch.bool)
    missing[:, 1:-1, 1:-1] = True
    torch.testing.assert_close(imputed(ramp, missing), ramp, atol=1e-4, rtol=0)
    missing[:, 0] = True
    assert (imputed(ramp, missing) - ramp).abs().max() > 0.05


def test_what_is_known_stays_and_where_nothing_is_known_nothing_can_be_filled_in() -> None:
    pictures = torch.randn(3, 2, 5, 6, generator=torch.Generator().manual_seed(2))
    missing = torch.zeros(3, 5, 6, dtype=torch.bool)
    missing[1] = True
    missing[2, 1:3] = True
    found = imputed(pictures, missing)
    assert torch.equal(found[0], pictures[0])
    assert torch.isnan(found[1]).all()
    assert torch.equal(found[2, :, 3:], pictures[2, :, 3:])
    assert torch.isfinite(found[2]).all()


def test_a_picture_s_solution_does_not_depend_on_what_is_solved_beside_it() -> None:
    draws = torch.Generator().manual_seed(3)
    pictures = torch.randn(5, 3, 16, 16, generator=draws)
    missing = torch.rand(5, 16, 16, generator=draws) < torch.tensor([0.1, 0.3, 0.5, 0.8, 0.95])[:, None, None]
    alone = torch.cat([imputed(pictures[[row]], missing[[row]]) for row in range(5)])
    torch.testing.assert_close(imputed(pictures, missing), alone, atol=1e-6, rtol=0)
