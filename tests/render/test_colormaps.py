from __future__ import annotations

import numpy as np
import pytest

from seewhy.errors import InputError
from seewhy.render import DIVERGING, INFERNO, colorize

# Machado, Oliveira, Fernandes 2009: full-strength deficiencies as matrices on linear RGB.
DEFICIENCIES = {
    "protanopia": "0.152286 1.052583 -0.204868 0.114503 0.786281 0.099216 -0.003882 -0.048116 1.051998",
    "deuteranopia": "0.367322 0.860646 -0.227968 0.280085 0.672501 0.047413 -0.011820 0.042940 0.968881",
    "tritanopia": "1.255528 -0.076749 -0.178779 -0.078411 0.930809 0.147602 0.004733 0.691367 0.303900",
}


def linear(colours):
    unit = np.asarray(colours, dtype=np.float64) / 255
    return np.where(unit <= 0.04045, unit / 12.92, ((unit + 0.055) / 1.055) ** 2.4)


def lab(linear_rgb):
    """CIELAB (D65) of linear sRGB."""
    to_xyz = np.array([[0.4124, 0.3576, 0.1805], [0.2126, 0.7152, 0.0722], [0.0193, 0.1192, 0.9505]])
    xyz = np.clip(linear_rgb, 0, 1) @ to_xyz.T / [0.9505, 1.0, 1.089]
    f = np.where(xyz > 0.008856, np.cbrt(xyz), 7.787 * xyz + 16 / 116)
    x, y, z = np.moveaxis(f, -1, 0)
    return np.stack([116 * y - 16, 500 * (x - y), 200 * (y - z)], axis=-1)


def test_inferno_is_matplotlibs_within_three_grey_levels():
    matplotlib = pytest.importorskip("matplotlib")
    theirs = np.array(matplotlib.colormaps["inferno"].colors) * 255
    assert INFERNO.table.shape == (256, 3)
    assert np.abs(INFERNO.table - theirs).max() <= 3


def test_the_lightness_of_inferno_only_rises():
    # Half a unit of L* is under what an eye can tell; rounding to 8 bits costs that much.
    assert np.diff(lab(linear(INFERNO.table))[:, 0]).min() > -0.5


def test_zero_is_exactly_the_neutral_colour_whatever_the_limits():
    zero = np.zeros((1, 1))
    for limits in [(-1.0, 1.0), (-0.3, 7.0), (-5e-9, 5e-9), (0.0, 0.0)]:
        assert (colorize(zero, limits=limits, colormap=DIVERGING) == DIVERGING.table[127]).all()
    assert np.ptp(DIVERGING.table[127].astype(int)) <= 6


def test_equal_strength_of_either_sign_is_equally_light():
    lightness = lab(linear(DIVERGING.table))[:, 0]
    # OKLab and CIELAB disagree by a few units on blue; the anchors are equal in OKLab.
    assert np.abs(lightness - lightness[::-1]).max() < 8


def test_lightness_falls_from_zero_to_both_ends():
    lightness = lab(linear(DIVERGING.table))[:, 0]
    assert np.diff(lightness[127:]).max() < 0.5
    assert np.diff(lightness[127::-1]).max() < 0.5


@pytest.mark.parametrize("deficiency", DEFICIENCIES)
def test_the_signs_stay_apart_for_colour_blind_eyes(deficiency):
    matrix = np.array(DEFICIENCIES[deficiency].split(), dtype=np.float64).reshape(3, 3)
    seen = lab(linear(DIVERGING.table) @ matrix.T)
    distance = np.linalg.norm(seen - seen[::-1], axis=1)
    # Ten CIELAB units are told apart at a glance; from a third of full strength on.
    assert distance[: 127 * 2 // 3].min() > 10


def test_a_centred_map_uses_one_unit_for_both_signs():
    colours = colorize(np.array([[-1.0, 1.0, 4.0]]), limits=(-1.0, 4.0), colormap=DIVERGING)
    weak_against, weak_for, strong_for = colours[0]
    quarter = round(127 / 4)
    assert (weak_against == DIVERGING.table[127 - quarter]).all()
    assert (weak_for == DIVERGING.table[127 + quarter]).all()
    assert (strong_for == DIVERGING.table[-1]).all()


def test_values_outside_the_limits_get_the_nearer_end():
    colours = colorize(np.array([[-3.0, 9.0]]), limits=(0.0, 1.0), colormap=INFERNO)
    assert (colours[0] == INFERNO.table[[0, -1]]).all()


def test_limits_that_no_float32_can_span_still_work():
    values = np.array([[-3e38, 3e38]], dtype=np.float32)
    colours = colorize(values, limits=(-3e38, 3e38), colormap=DIVERGING)
    assert (colours[0] == DIVERGING.table[[0, -1]]).all()


@pytest.mark.parametrize("wrong", [np.nan, np.inf])
def test_values_that_are_not_finite_are_refused(wrong):
    with pytest.raises(InputError, match="NaN or infinity"):
        colorize(np.array([[0.0, wrong]]), limits=(0.0, 1.0), colormap=INFERNO)


@pytest.mark.parametrize("limits", [(1.0, 0.0), (0.0, float("nan"))])
def test_limits_that_make_no_scale_are_refused(limits):
    with pytest.raises(InputError, match="limits"):
        colorize(np.zeros((1, 1)), limits=limits, colormap=INFERNO)


def test_the_tables_cannot_be_written():
    with pytest.raises(ValueError, match="read-only"):
        INFERNO.table[0] = 1
