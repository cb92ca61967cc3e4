"""Context-aware saliency, against a slow computation, closed cases and what it is blind to."""

import numpy as np
import pytest
import torch
from slow_saliency import raw, slow_lab, slow_saliency, slow_smiler, stretched

import seewhy
from seewhy.errors import InputError
from seewhy.evaluation.similarity import spearman
from seewhy.saliency import ContextAwareSaliency

SMALL = {"longest_side": None, "scales": (1, 0.5)}


def draws(*shape: int, seed: int = 0) -> torch.Tensor:
    return torch.rand(*shape, generator=torch.Generator().manual_seed(seed))


def scene(size: int = 40) -> torch.Tensor:
    """A drawn picture of little size (1, 3, H, W)."""
    pixels = torch.from_numpy(seewhy.Scenes(3, seed=5)[1].pixels).permute(2, 0, 1)[None] / 255
    return torch.nn.functional.interpolate(pixels, (size, size + 6), mode="area")


def slow_channels(picture: torch.Tensor) -> np.ndarray:
    found = slow_lab(picture[0].permute(1, 2, 0).double().numpy())
    return np.stack([stretched(each) for each in np.moveaxis(found, 2, 0)], 2)


@pytest.mark.parametrize("nearest", [5, 64])
def test_it_is_what_a_loop_over_patches_finds(nearest) -> None:
    picture = scene()
    found = ContextAwareSaliency(**SMALL, nearest=nearest)(picture)
    expected = slow_saliency(slow_channels(picture), SMALL["scales"], nearest=nearest)
    assert found.notes == ((),)
    assert np.abs(found.values[0].numpy() - expected).max() <= 1e-6


def test_relevance_is_compared_by_the_root_mean_square_of_one_channel() -> None:
    relevance = draws(1, 3, 33, 40) - 0.3
    relevance[:, :, 10:20, 12:30] += 1
    found = ContextAwareSaliency.from_preset("relevance", longest_side=None, scales=(1,))(relevance)
    channel = stretched(relevance.double().sum(1)[0].clamp_min(0).numpy())[:, :, None]
    expected = slow_saliency(channel, (1,), factor=1 / 7)
    assert np.abs(found.values[0].numpy() - expected).max() <= 1e-6


def test_the_smiler_preset_is_that_code_restated() -> None:
    picture = scene(50)
    found = ContextAwareSaliency.from_preset("cas-smiler", longest_side=None)(picture).values[0]
    expected = torch.from_numpy(slow_smiler(slow_channels(picture))).to(found)
    torch.testing.assert_close(found, expected, atol=2e-6, rtol=0)
    ours = ContextAwareSaliency(longest_side=None)(picture).values[0]
    assert 0.5 < spearman(ours.flatten(), expected.flatten()) < 0.95


def test_a_constant_picture_has_no_saliency_and_says_so() -> None:
    pictures = torch.full((3, 3, 30, 44), 0.3)
    pictures[1] = scene(30)[:, :, :, :36].repeat(1, 1, 1, 2)[0, :, :, :44]
    found = ContextAwareSaliency(**SMALL)(pictures)
    assert torch.equal(found.values[[0, 2]], torch.zeros(2, 30, 44))
    assert [len(notes) for notes in found.notes] == [1, 0, 1]
    assert found.notes[0][0].startswith("constant")
    assert found.values[1].max() > 0.5


def test_greys_have_no_colour_that_rounding_could_make_salient() -> None:
    grey = scene().mean(1, keepdim=True)
    lightness = torch.from_numpy(slow_lab(grey.expand(-1, 3, -1, -1)[0].permute(1, 2, 0).double().numpy()))
    colored = ContextAwareSaliency(**SMALL)(grey.expand(-1, 3, -1, -1)).values
    alone = ContextAwareSaliency(**SMALL)(lightness[None, None, :, :, 0] / 100).values
    torch.testing.assert_close(colored, alone, atol=1e-6, rtol=0)


@pytest.mark.parametrize("mode", ["picture", "relevance"])
def test_the_negative_of_one_channel_has_the_same_map(mode) -> None:
    values = scene().mean(1)
    method = ContextAwareSaliency(**SMALL, mode=mode)
    torch.testing.assert_close(method(values).values, method(1 - values).values, atol=2e-6, rtol=0)


def test_with_no_more_patches_than_k_the_mean_is_over_all() -> None:
    picture = draws(1, 1, 16, 16)
    method = ContextAwareSaliency(longest_side=None, scales=(1,), position=0)
    everything = [method.model_copy(update={"nearest": count})(picture).values for count in (17, 64, 500)]
    patches = picture[0, 0].unfold(0, 7, 3).unfold(1, 7, 3).reshape(-1, 49)
    smaller = torch.nn.functional.interpolate(
        picture, scale_factor=0.5, mode="bilinear", antialias=True
    )  # 8 x 8: one patch, a row and a column are left over
    patches = torch.cat([patches, smaller[0, 0, :7, :7].reshape(1, 49)])
    assert len(patches) == 17
    padded = torch.nn.functional.pad(picture, [3] * 4, mode="reflect")[0, 0]
    around = padded.unfold(0, 7, 1).unfold(1, 7, 1).reshape(-1, 49)
    expected = (1 - torch.exp(-torch.cdist(around, patches).mean(1))).view(16, 16)
    torch.testing.assert_close(everything[0], everything[1])
    torch.testing.assert_close(everything[1], everything[2])
    found = stretched(expected.double().numpy())
    assert spearman(everything[0].flatten(), torch.from_numpy(found).flatten()) > 0.9


def odd_one_out() -> torch.Tensor:
    """36 squares on grey, of which the one in the third row and fifth column is green."""
    picture = torch.full((1, 3, 120, 120), 0.5)
    for row in range(6):
        for column in range(6):
            color = (0.0, 0.8, 0.0) if (row, column) == (2, 4) else (0.8, 0.0, 0.0)
            square = picture[0, :, 20 * row + 5 : 20 * row + 15, 20 * column + 5 : 20 * column + 15]
            square[:] = torch.tensor(color)[:, None, None]
    return picture


def test_the_odd_one_out_is_where_the_peak_is() -> None:
    found = ContextAwareSaliency(query_stride=2)(odd_one_out()).values[0]
    row, column = divmod(int(found.argmax()), 120)
    assert 45 <= row < 55
    assert 85 <= column < 95
    inside = torch.zeros(120, 120, dtype=torch.bool)
    inside[45:55, 85:95] = True
    assert found[inside].mean() > 4 * found[~inside].mean()


@pytest.mark.parametrize("turns", [1, 2, 3])
def test_a_turned_picture_has_a_turned_map(turns) -> None:
    picture = scene(47)
    method = ContextAwareSaliency(longest_side=None)
    turned = method(picture.rot90(turns, (2, 3))).values
    torch.testing.assert_close(turned, method(picture).values.rot90(turns, (1, 2)), atol=2e-6, rtol=0)


def block(side: int) -> torch.Tensor:
    """A map (1, 100, 100) that is one in the middle and zero around it."""
    relevance, first = torch.zeros(1, 100, 100), 50 - side // 2
    relevance[:, first : first + side, first : first + side] = 1
    return relevance


def test_at_one_scale_the_inside_of_an_even_block_is_not_salient_but_its_edge_is() -> None:
    relevance = block(40)
    found = ContextAwareSaliency(mode="relevance", longest_side=None, scales=(1,))(relevance).values[0]
    assert found[45:55, 45:55].max() == found[:8, :8].max() == 0
    assert found[30, 30:70].min() > 0.5


def test_scales_at_which_a_block_is_hardly_a_patch_see_its_inside() -> None:
    """That the centre is zero holds of blocks that have K equal patches at every scale; others only have a hole."""
    method = ContextAwareSaliency(mode="relevance", longest_side=None)
    small, large = (method(block(side)).values[0] for side in (40, 80))
    assert 0.2 < small[50, 50] < 0.7 * small.max()
    assert large[50, 50] < small[50, 50]


def test_a_batch_is_its_pictures() -> None:
    pictures = torch.cat([scene(), draws(1, 3, 40, 46), torch.zeros(1, 3, 40, 46)])
    method = ContextAwareSaliency(**SMALL)
    together, alone = method(pictures), [method(each[None]) for each in pictures]
    torch.testing.assert_close(together.values, torch.cat([each.values for each in alone]), atol=2e-6, rtol=0)
    assert together.notes == tuple(each.notes[0] for each in alone)


@pytest.mark.parametrize("mode", ["picture", "relevance", "quantised"])
def test_noise_has_a_map_without_nan(mode) -> None:
    found = ContextAwareSaliency(**SMALL, mode=mode)(draws(2, 3, 40, 40))
    assert torch.isfinite(found.values).all()
    assert 0 <= found.values.min() < found.values.max() <= 1


def test_patches_of_one_pixel_have_no_border() -> None:
    found = ContextAwareSaliency(**SMALL, patch=(1,), variant="cas-smiler")(scene()).values
    assert found[0, 0].max() > 0


def test_patches_that_are_all_far_apart_are_said_to_saturate() -> None:
    noise = torch.cat([(draws(1, 3, 40, 40) > 0.5).float(), scene(40)[..., :40]])
    first, second = ContextAwareSaliency(**SMALL)(noise).notes
    assert first[0].startswith("saturated")
    assert second == ()
    assert ContextAwareSaliency(**SMALL, distance="rms")(noise).notes == ((), ())


def test_every_second_patch_gives_nearly_the_same_map() -> None:
    picture = scene(90)
    every, second = (ContextAwareSaliency(longest_side=None, query_stride=n)(picture).values for n in (1, 2))
    assert every.shape == second.shape == (1, 90, 96)
    assert spearman(every.flatten(), second.flatten()) > 0.97
    assert (every - second).abs().max() > 1e-3


def test_the_reference_is_the_saliency_of_the_quantised_magnitude() -> None:
    relevance = draws(1, 3, 40, 40) - 0.5
    magnitude = relevance.abs()
    stretched_ = (magnitude - magnitude.min()) / (magnitude.max() - magnitude.min())
    expected = ContextAwareSaliency(**SMALL)((stretched_.double() * 255).round() / 255)
    found = ContextAwareSaliency.from_preset("reference", **SMALL)
    torch.testing.assert_close(found(relevance).values, expected.values, atol=1e-5, rtol=0)
    torch.testing.assert_close(found(-relevance).values, found(relevance).values)
    compressed = ContextAwareSaliency.from_preset("reference", **SMALL, jpeg=50)(relevance).values
    assert (compressed - expected.values).abs().max() > 0.05


def test_a_map_has_the_size_of_its_picture() -> None:
    picture = scene(40)
    assert ContextAwareSaliency(longest_side=30, scales=(1,))(picture).values.shape == (1, 40, 46)


@pytest.mark.parametrize(
    ("given", "settings", "message"),
    [
        (torch.randn(1, 3, 20, 20), {}, r"sRGB in \[0, 1\], these reach from"),
        (torch.rand(1, 4, 20, 20), {}, "1 or 3 channels, got 4; maps are for mode='relevance'"),
        (torch.full((1, 20, 20), float("nan")), {}, "NaN"),
        (torch.rand(1, 1, 250, 5), {}, "patches of 7 pixels do not fit"),
        (torch.rand(1, 2, 20, 20), {"mode": "quantised"}, "1 or 3 channels of relevance, got 2"),
    ],
)
def test_what_cannot_be_compared_is_refused(given, settings, message) -> None:
    with pytest.raises(InputError, match=message):
        ContextAwareSaliency(**settings)(given)


@pytest.mark.parametrize(
    "wrong", [{"patch": (6,)}, {"patch": (7, 5)}, {"scales": (2,)}, {"stride": (0,)}, {"patches": 3}]
)
def test_wrong_settings_are_refused(wrong) -> None:
    with pytest.raises(InputError):
        ContextAwareSaliency.checked(wrong)


def test_the_slow_computation_knows_the_closed_case_of_two_halves() -> None:
    """Both sides are made of enough equal patches, so that only the seam is salient."""
    halves = np.zeros((40, 40, 1))
    halves[:, 20:] = 1
    found = raw(halves, 1, nearest=5)
    assert found[:, :8].max() == found[:, -8:].max() == 0
    assert found[:, 19:21].min() > 0
