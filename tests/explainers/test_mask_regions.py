from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch
from torch import nn

from seewhy import CrispMask, GradCAM
from seewhy.errors import InputError
from seewhy.explainers.perturbation.regions import connected, convex_hull, mask_regions
from seewhy.truth import Box


class Two(nn.Module):
    """Sees two squares, the left one three times as strongly."""

    def forward(self, images):
        left, right = images[:, 0, 4:12, 2:10].mean((1, 2)), images[:, 0, 4:12, 20:28].mean((1, 2))
        score = 3 * left + right - 2
        return torch.stack([torch.zeros_like(score), score], 1)


def squares():
    images = torch.zeros(1, 3, 32, 32)
    images[0, 0, 4:12, 2:10] = images[0, 0, 4:12, 20:28] = 1
    return images


def test_regions_are_ranked_by_what_perturbing_each_alone_costs():
    found = CrispMask(smooth=1, sharp=1, baseline="zero", jitter=0)(Two(), squares(), 1)
    (site,) = found.maps
    found = replace(found, maps={site: squares()[:, None, :1].amax(2)})  # whole squares, to the pixel
    first, second = mask_regions(Two(), squares(), found, 1, background="zero")[0][0]
    assert (first.box, second.box) == (Box(2, 4, 10, 12), Box(20, 4, 28, 12))
    whole = torch.tensor(2.0).sigmoid()
    for each, left in ((first, -1.0), (second, 1.0)):
        after = torch.tensor(left).sigmoid()
        assert each.score == pytest.approx(float(1 - after), abs=1e-5)
        assert each.drop == pytest.approx(float((whole - after) / whole), abs=1e-5)


def test_the_masks_of_the_method_itself_have_both_squares_as_regions():
    found = CrispMask(smooth=40, sharp=40, baseline="zero", jitter=0, cell=4, blur=1.0)(Two(), squares(), 1)
    first, second = mask_regions(Two(), squares(), found, 1, background="zero")[0][0]
    assert first.box.x1 <= 12
    assert second.box.x0 >= 18
    assert first.score > second.score


def test_parts_touch_at_corners_and_small_ones_are_left_out():
    mask = np.zeros((20, 20))
    mask[2:6, 2:6] = mask[6:9, 6:9] = 1
    mask[15, 15] = 1
    parts = connected(mask, smallest=0.01)
    assert [int(part.sum()) for part in parts] == [25]
    assert len(connected(mask, smallest=0.0)) == 2


def test_hulls_hold_all_pixels_and_nothing_beyond_their_box():
    mask = np.zeros((9, 9), bool)
    mask[2:5, 3], mask[4, 3:8] = True, True
    corners = convex_hull(mask)
    assert set(corners) == {(3, 2), (4, 2), (8, 4), (8, 5), (3, 5)}


def test_maps_on_a_layers_grid_are_refused():
    net = nn.Sequential(
        nn.Conv2d(3, 4, 3, 2), nn.ReLU(), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(4, 2)
    )
    with pytest.raises(InputError, match="layer's grid"):
        mask_regions(net, squares(), GradCAM()(net, squares(), 1), 1)
