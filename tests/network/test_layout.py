from __future__ import annotations

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor, nn

from seewhy.network.layout import Layout, LayoutFinder

CONV, RELU, LINEAR = nn.Conv2d(1, 1, 1), nn.ReLU(), nn.Linear(1, 1)


def found(*shapes: tuple[nn.Module, tuple[int, ...]], size=(64, 64), axis=0, prefix=None) -> Layout | None:
    """The layout of the last of these outputs, seen in this order."""
    finder = LayoutFinder(size, prefix)
    return [finder.find(module, shape, axis) for module, shape in shapes][-1]


@pytest.mark.parametrize(
    ("module", "shape", "expected"),
    [
        (CONV, (1, 16, 8, 8), Layout("BKhw", (8, 8))),
        (RELU, (1, 16, 8, 8), Layout("BKhw", (8, 8))),
        (RELU, (1, 8, 8, 16), Layout("BhwK", (8, 8))),
        (RELU, (1, 8, 8, 8), Layout("BKhw", (8, 8))),
        (nn.LayerNorm(7), (1, 7, 7, 7), Layout("BhwK", (7, 7))),
        (LINEAR, (1, 7, 7, 7), Layout("BhwK", (7, 7))),
        (nn.LayerNorm([16, 8, 8]), (1, 16, 8, 8), Layout("BKhw", (8, 8))),
        (nn.BatchNorm2d(3), (1, 3, 4, 32), Layout("BKhw", (4, 32))),
        (RELU, (1, 512, 1, 1), Layout("BKhw", (1, 1))),
        (RELU, (1, 0, 8, 8), None),
        (RELU, (1, 16, 4, 8, 8), None),
        (RELU, (1, 10), None),
        (RELU, (1, 64, 16), None),
    ],
)
def test_four_axes_are_read_by_the_module_s_kind_and_the_picture_s_proportions(module, shape, expected):
    assert found((module, shape)) == expected


def test_wide_pictures_have_wide_grids():
    assert found((RELU, (1, 4, 8, 16)), size=(32, 64)) == Layout("BKhw", (8, 16))
    assert found((RELU, (1, 8, 16, 4)), size=(32, 64)) == Layout("BhwK", (8, 16))


def test_what_follows_a_convolution_of_unusual_stride_is_read_like_it():
    # Height is pooled eight times as much as width, as in networks that read text: (16, 4) looks square too.
    assert found((CONV, (1, 16, 4, 32)), (RELU, (1, 16, 4, 32))) == Layout("BKhw", (4, 32))


@pytest.mark.parametrize(
    ("count", "expected"),
    [
        (16, Layout("BNK", (4, 4))),
        (17, Layout("BNK", (4, 4), 1)),
        (21, Layout("BNK", (4, 4), 5)),
        (40, None),
        (15, None),
    ],
)
def test_tokens_are_the_grid_of_the_patch_embedding_after_class_and_register_tokens(count, expected):
    assert found((CONV, (1, 8, 4, 4)), (RELU, (1, count, 8))) == expected


def test_a_known_number_of_class_tokens_excludes_other_readings():
    assert found((CONV, (1, 8, 4, 4)), (RELU, (1, 17, 8)), prefix=1) == Layout("BNK", (4, 4), 1)
    assert found((CONV, (1, 8, 4, 4)), (RELU, (1, 17, 8)), prefix=2) is None


def test_merged_patches_are_the_grid_halved():
    assert found((CONV, (1, 8, 14, 14)), (RELU, (1, 49, 8))) == Layout("BNK", (7, 7))
    assert found((CONV, (1, 8, 7, 9)), (RELU, (1, 20, 8))) == Layout("BNK", (4, 5))


def test_tokens_before_the_batch_are_told_apart():
    assert found((CONV, (1, 8, 4, 4)), size=(64, 64)) is not None
    finder = LayoutFinder((64, 64))
    finder.find(CONV, (1, 8, 4, 4), 0)
    assert finder.find(RELU, (17, 1, 8), 1) == Layout("NBK", (4, 4), 1)


def test_states_of_recurrent_layers_are_no_positions():
    assert found((CONV, (1, 8, 4, 4)), (nn.LSTM(1, 1), (1, 16, 8))) is None


AXES = st.sampled_from(["BKhw", "BhwK", "BNK", "NBK"])


def output(layout: Layout, batch: int, channels: int, lead: tuple[int, ...] = ()) -> Tensor:
    h, w = layout.grid
    shape = {
        "BKhw": (batch, channels, h, w),
        "BhwK": (batch, h, w, channels),
        "BNK": (batch, layout.prefix + h * w, channels),
        "NBK": (layout.prefix + h * w, batch, channels),
    }[layout.axes]
    return torch.randn(*lead, *shape, generator=torch.Generator().manual_seed(0))


@given(AXES, st.integers(1, 3), st.integers(1, 4), st.integers(1, 4), st.integers(1, 4), st.integers(0, 5))
def test_maps_put_back_give_maps(axes, batch, channels, h, w, prefix):
    layout = Layout(axes, (h, w), prefix if axes in ("BNK", "NBK") else 0)
    before = output(layout, batch, channels)
    maps = torch.randn(batch, channels, h, w)
    replaced = layout.replace(before, maps)
    assert replaced.shape == before.shape
    assert torch.equal(layout.maps(replaced), maps)
    assert torch.equal(layout.replace(before, layout.maps(before)), before)


@given(AXES, st.integers(1, 3), st.integers(1, 4))
def test_axes_in_front_are_kept(axes, batch, targets):
    layout = Layout(axes, (2, 3), 1 if axes in ("BNK", "NBK") else 0)
    stacked = output(layout, batch, 4, (targets,))
    assert torch.equal(layout.maps(stacked), torch.stack([layout.maps(each) for each in stacked]))


def test_tokens_are_read_row_by_row():
    tokens = torch.arange(7.0)[None, :, None]  # one class token, then 0..5 at 2 x 3 positions
    assert Layout("BNK", (2, 3), 1).maps(tokens)[0, 0].tolist() == [[1, 2, 3], [4, 5, 6]]


def test_prefix_tokens_stay_when_positions_are_replaced():
    layout = Layout("NBK", (2, 2), 1)
    before = output(layout, 2, 3)
    assert torch.equal(layout.replace(before, torch.zeros(2, 3, 2, 2))[0], before[0])
