"""The search for nearest patches, against sorting all distances in double precision."""

import numpy as np
import pytest
import torch

import seewhy
from seewhy.saliency import nearest
from seewhy.saliency.nearest import mean_of_nearest
from seewhy.saliency.patches import Patches, PatchGrid, around_pixels, sampled


def setting(batch=2, h=9, w=11, count=900, length=20, noise=1.0, seed=0):
    """Patches around a few centres: the less noise, the more of them are nearly equal."""
    generator = torch.Generator().manual_seed(seed)

    def draw(*shape: int) -> torch.Tensor:
        return torch.rand(*shape, generator=generator)

    centres = 3 * draw(4, length)
    queries, others = (
        centres[torch.randint(4, (batch, n), generator=generator)] + noise * draw(batch, n, length)
        for n in (h * w, count)
    )
    return PatchGrid(queries, draw(h), draw(w)), Patches(others, draw(count), draw(count))


def slow(queries: PatchGrid, others: Patches, k: int, position: float) -> torch.Tensor:
    values, database = queries.values.double(), others.values.double()
    found = (values[:, :, None] - database[:, None]).square().sum(3).sqrt()
    y, x = torch.meshgrid(queries.y.double(), queries.x.double(), indexing="ij")
    apart = torch.hypot(y.reshape(-1, 1) - others.y.double(), x.reshape(-1, 1) - others.x.double())
    found = (found / (1 + position * apart)).sort(2).values[:, :, :k].mean(2)
    return found.view(len(values), len(queries.y), len(queries.x))


@pytest.mark.parametrize("noise", [1.0, 1e-2, 1e-4, 0.0])
@pytest.mark.parametrize("k", [1, 10, 64])
def test_it_is_the_mean_of_the_sorted_distances(noise, k) -> None:
    queries, others = setting(noise=noise)
    found = mean_of_nearest(queries, others, k, 3.0)
    torch.testing.assert_close(found.double(), slow(queries, others, k, 3.0), atol=1e-6, rtol=0)


@pytest.mark.parametrize("count", [1, 7, 64, 80, 81, 647])
def test_any_number_of_others_will_do(count) -> None:
    queries, others = setting(count=count)
    found = mean_of_nearest(queries, others, 64, 3.0)
    torch.testing.assert_close(found.double(), slow(queries, others, 64, 3.0), atol=1e-6, rtol=0)


@pytest.mark.parametrize("chunk", [1, 2, 4, 9, 100])
def test_the_size_of_chunks_changes_nothing(chunk) -> None:
    queries, others = setting(noise=1e-2)
    whole, parts = mean_of_nearest(queries, others, 64, 3.0), mean_of_nearest(queries, others, 64, 3.0, chunk)
    torch.testing.assert_close(parts, whole, atol=5e-7, rtol=0)


def test_single_precision_alone_would_leave_nearer_patches_out(monkeypatch) -> None:
    """Where thousands of patches are nearly equal, the bound sees that products cannot tell which are nearest."""
    queries, others = setting(noise=1e-4, count=3000)
    expected = slow(queries, others, 10, 3.0)
    monkeypatch.setattr(nearest, "_TOLERANCE", float("inf"))
    unproven = (mean_of_nearest(queries, others, 10, 3.0).double() - expected).abs().max()
    monkeypatch.undo()
    assert unproven > 1e-6
    assert (mean_of_nearest(queries, others, 10, 3.0).double() - expected).abs().max() <= 1e-6


@pytest.mark.parametrize("noise", [1.0, 1e-2])
def test_reduced_patches_keep_their_norms_and_are_never_farther_apart(noise) -> None:
    values = setting(noise=noise)[1].values.double()
    axes = torch.linalg.qr(torch.randn(2, 20, 5, dtype=torch.float64)).Q
    less = nearest._reduced(values, axes)
    assert less.shape == (2, 900, 6)
    torch.testing.assert_close(less.norm(dim=2), values.norm(dim=2), rtol=1e-12, atol=0)
    apart, before = (
        torch.cdist(each, each, compute_mode="donot_use_mm_for_euclid_dist") for each in (less, values)
    )
    assert (apart <= before + 1e-7).all()


@pytest.mark.parametrize(("rest", "least", "most"), [(nearest._REST, 0, 0.01), (0.1, 0.1, 0.9)])
def test_what_reduced_patches_do_not_settle_is_searched_for_with_whole_ones(
    rest, least, most, monkeypatch
) -> None:
    picture = seewhy.Scenes(1, seed=3)[0].image.resize((96, 96))
    pixels = torch.from_numpy(np.array(picture)).permute(2, 0, 1)[None] / 255
    queries, others = around_pixels(pixels, (1, 1), 7, 1), sampled([pixels], (1, 1), 7, 2)
    asked, call = [], nearest._Search.__call__

    def counting(self, chosen, *rest):
        asked.append((self.axes is None, chosen.shape[1]))
        return call(self, chosen, *rest)

    monkeypatch.setattr(nearest, "_REST", rest)
    monkeypatch.setattr(nearest._Search, "__call__", counting)
    found = mean_of_nearest(queries, others, 64, 3.0)
    monkeypatch.undo()
    whole = sum(count for is_whole, count in asked if is_whole)
    assert sum(count for is_whole, count in asked if not is_whole) == 96 * 96
    assert least <= whole / 96**2 <= most
    few = PatchGrid(queries.values.view(1, 96, -1, 147)[:, ::24].flatten(1, 2), queries.y[::24], queries.x)
    torch.testing.assert_close(found.double()[:, ::24], slow(few, others, 64, 3.0), atol=1e-6, rtol=0)


def test_lower_precision_asked_for_elsewhere_does_not_reach_the_search() -> None:
    queries, others = setting()
    expected = mean_of_nearest(queries, others, 64, 3.0)
    before = torch.get_float32_matmul_precision()
    try:
        torch.set_float32_matmul_precision("medium")
        with torch.autocast("cpu", torch.bfloat16):
            found = mean_of_nearest(queries, others, 64, 3.0)
    finally:
        torch.set_float32_matmul_precision(before)
    torch.testing.assert_close(found, expected, atol=1e-6, rtol=0)


def test_memory_that_runs_out_makes_smaller_chunks(monkeypatch) -> None:
    queries, others = setting()
    expected, bmm = mean_of_nearest(queries, others, 64, 3.0), torch.bmm

    def cramped(first, second):
        if first.shape[1] > 30:
            raise RuntimeError("out of memory")
        return bmm(first, second)

    monkeypatch.setattr(torch, "bmm", cramped)
    torch.testing.assert_close(mean_of_nearest(queries, others, 64, 3.0), expected, atol=5e-7, rtol=0)
