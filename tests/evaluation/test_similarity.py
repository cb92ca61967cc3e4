"""How alike maps are, against slower and simpler computations, SciPy, and scikit-image where it is installed."""

import math

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from metric_cases import slow_ranks

from seewhy.errors import InputError
from seewhy.evaluation.similarity import average_ranks, hog, pearson, spearman, ssim


def draws(*shape: int, seed: int = 0) -> torch.Tensor:
    return torch.rand(*shape, generator=torch.Generator().manual_seed(seed))


@given(st.lists(st.integers(-3, 3).map(float), min_size=1, max_size=12))
def test_ranks_of_equals_are_the_mean_of_theirs(values) -> None:
    assert average_ranks(torch.tensor(values)).tolist() == slow_ranks(values)


@pytest.mark.parametrize("levels", [3, 1000])
def test_spearman_is_scipy_s_with_and_without_ties(levels) -> None:
    stats = pytest.importorskip("scipy.stats")
    first, second = ((draws(2, 3, 40, seed=seed) * levels).floor() for seed in (0, 1))
    found = spearman(first, second)
    assert found.shape == (2, 3)
    for row in range(2):
        for column in range(3):
            expected = stats.spearmanr(first[row, column], second[row, column]).statistic
            assert found[row, column].item() == pytest.approx(expected, abs=1e-12)


def test_spearman_knows_order_only() -> None:
    values = draws(5, 30)
    torch.testing.assert_close(spearman(values, values**3), torch.ones(5).double())
    torch.testing.assert_close(spearman(values, -values), -torch.ones(5).double())


@pytest.mark.parametrize("other", [torch.full((4,), 0.1), torch.tensor([1, math.nan, 2, 3]), torch.zeros(4)])
def test_a_constant_or_broken_side_has_no_correlation(other) -> None:
    values = torch.tensor([1.0, 2.0, 4.0, 3.0])
    for correlation in (spearman, pearson):
        assert correlation(values, other).isnan()
        assert correlation(other, values).isnan()


@pytest.mark.parametrize("count", [0, 1])
def test_too_few_values_have_no_correlation(count) -> None:
    assert spearman(torch.ones(2, count), torch.ones(2, count)).isnan().all()


def test_pearson_is_numpy_s_at_any_scale() -> None:
    first, second = draws(50), draws(50, seed=1)
    expected = np.corrcoef(first.double(), second.double())[0, 1]
    assert pearson(first, second).item() == pytest.approx(expected, abs=1e-12)
    assert pearson(first * 1e-30, second * 1e30).item() == pytest.approx(expected, abs=1e-6)


def slow_ssim(a: np.ndarray, b: np.ndarray) -> float:
    """Wang et al., equations 13 to 16, window by window."""
    offset = np.arange(11) - 5
    window = np.exp(-(offset[:, None] ** 2 + offset**2) / (2 * 1.5**2))
    window /= window.sum()
    found = []
    for top in range(a.shape[0] - 10):
        for left in range(a.shape[1] - 10):
            x, y = (each[top : top + 11, left : left + 11] for each in (a, b))
            mx, my = (window * x).sum(), (window * y).sum()
            vx, vy = (window * (x - mx) ** 2).sum(), (window * (y - my) ** 2).sum()
            cov = (window * (x - mx) * (y - my)).sum()
            c1, c2 = 0.01**2, 0.03**2
            found.append((2 * mx * my + c1) * (2 * cov + c2) / ((mx**2 + my**2 + c1) * (vx + vy + c2)))
    return float(np.mean(found))


@pytest.mark.parametrize("size", [(11, 11), (20, 17)])
def test_ssim_is_the_paper_s_window_by_window(size) -> None:
    first = draws(2, 3, *size)
    second = (first + 0.3 * draws(2, 3, *size, seed=1)).clamp(0, 1)
    found = ssim(first, second)
    for row in range(2):
        for column in range(3):
            expected = slow_ssim(first[row, column].double().numpy(), second[row, column].double().numpy())
            assert found[row, column].item() == pytest.approx(expected, abs=1e-10)


def test_ssim_is_scikit_image_s() -> None:
    metrics = pytest.importorskip("skimage.metrics")
    first, second = draws(40, 33), draws(40, 33, seed=1)
    expected = metrics.structural_similarity(
        first.numpy(), second.numpy(), data_range=1, gaussian_weights=True, sigma=1.5, use_sample_covariance=False
    )  # fmt: skip
    assert ssim(first, second).item() == pytest.approx(expected, abs=1e-4)


def test_equal_maps_are_alike_and_small_ones_are_refused() -> None:
    maps = draws(2, 16, 16)
    torch.testing.assert_close(ssim(maps, maps), torch.ones(2).double())
    assert ssim(maps, 1 - maps).max() < 0
    with pytest.raises(InputError, match="11 pixels over maps; these are 10 x 16"):
        ssim(maps[:, :10], maps[:, :10])


def slow_hog(values: np.ndarray) -> list[float]:
    height, width = values.shape
    found = []
    for top in range(0, height - 15, 16):
        for left in range(0, width - 15, 16):
            cell = [0.0] * 8
            for i in range(top, top + 16):
                for j in range(left, left + 16):
                    dy = values[i + 1, j] - values[i - 1, j] if 0 < i < height - 1 else 0.0
                    dx = values[i, j + 1] - values[i, j - 1] if 0 < j < width - 1 else 0.0
                    angle = math.degrees(math.atan2(dy, dx)) % 180
                    cell[int(angle // 22.5) % 8] += math.hypot(dx, dy) / 256
            length = math.sqrt(sum(each**2 for each in cell) + 1e-10)
            found += [each / length for each in cell]
    return found


def test_hog_is_that_of_a_loop_over_pixels() -> None:
    maps = draws(2, 1, 37, 50).double()
    found = hog(maps)
    assert found.shape == (2, 1, 2 * 3 * 8)
    for row in range(2):
        np.testing.assert_allclose(found[row, 0].numpy(), slow_hog(maps[row, 0].numpy()), atol=1e-12)


def test_hog_tells_stripes_by_their_direction_not_by_their_contrast() -> None:
    stripes = torch.sin(torch.arange(32) / 2).expand(32, 32)
    upright, lying = hog(stripes), hog(stripes.T)
    assert upright.view(4, 8).argmax(1).tolist() == [0] * 4
    assert lying.view(4, 8).argmax(1).tolist() == [4] * 4
    assert pearson(upright, hog(stripes * 0.3)) == pytest.approx(1)


def test_a_map_smaller_than_a_cell_is_one_cell() -> None:
    assert hog(draws(12, 15)).shape == (8,)
