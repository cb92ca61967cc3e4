from __future__ import annotations

import math

import pytest
import torch
import torch.nn.functional as F
from slow import close, network, pictures
from torch import nn

from seewhy import RISE
from seewhy.explainers.draws import generator, picture_keys
from seewhy.explainers.rise import random_masks


def slow_mask(key, number, cells, keep, size, seed=0):
    """Petsiuk et al. 2018: a random grid, enlarged by one cell, shifted, cropped; one mask, step by step."""
    draws = torch.rand(cells * cells + 2, generator=generator(key, seed, number))
    grid = (draws[:-2] < keep).float().view(1, 1, cells, cells)
    cell = [math.ceil(side / cells) for side in size]
    large = F.interpolate(grid, [(cells + 1) * each for each in cell], mode="bilinear", align_corners=False)
    top, left = int(draws[-2] * cell[0]), int(draws[-1] * cell[1])
    return large[0, 0, top : top + size[0], left : left + size[1]]


@pytest.mark.parametrize("size", [(16, 16), (17, 23), (5, 30)])
def test_masks_are_grids_enlarged_shifted_and_cropped(size):
    key = picture_keys(pictures(1))[0]
    made = random_masks([key] * 20, list(range(20)), 0, 4, 0.3, size)
    for number, mask in enumerate(made):
        torch.testing.assert_close(mask, slow_mask(key, number, 4, 0.3, size), atol=1e-6, rtol=0)


def test_masks_keep_as_much_as_they_should_everywhere():
    count = 4000
    made = random_masks([b"a picture"] * count, list(range(count)), 3, 7, 0.5, (21, 21))
    error = made.std(0) / math.sqrt(count)
    assert ((made.mean(0) - 0.5).abs() < 5 * error).all()


@pytest.mark.parametrize("norm", ["expected", "empirical"])
@pytest.mark.parametrize("centre", [False, True])
def test_values_are_the_sum_over_masks_worked_out_one_by_one(norm, centre):
    net, images = network("convolutions"), pictures(2)
    settings = {"masks": 40, "cells": 4, "keep": 0.4, "norm": norm, "centre": centre, "precision": "float32"}
    found = RISE(**settings)(net, images, target=1).values[:, 0]
    slow = net.double()
    for row, key in enumerate(picture_keys(images)):
        masks = torch.stack([slow_mask(key, n, 4, 0.4, (16, 16)) for n in range(40)]).double()
        with torch.no_grad():
            scores = slow(images[row].double() * masks[:, None]).softmax(1)[:, 1]
        scores = scores - scores.mean() if centre else scores
        total = torch.einsum("n,nhw->hw", scores, masks)
        expected = total / masks.sum(0) if norm == "empirical" else total / (0.4 * 40)
        close(found[row], expected, 1e-4)


class _Linear(nn.Module):
    """A score that is linear in the picture, and no class."""

    def __init__(self, weight):
        super().__init__()
        self.weight = nn.Parameter(weight)

    def forward(self, x):
        return (x * self.weight).sum((1, 2, 3))[:, None]


def test_on_a_linear_score_it_is_the_blurred_product_of_weight_and_picture():
    torch.manual_seed(1)
    size, cells = (32, 32), 4
    weight = F.interpolate(torch.randn(1, 1, 5, 5), size, mode="bicubic")[0].expand(3, -1, -1).clone()
    images = pictures(1, size=32)
    found = RISE(masks=20_000, cells=cells, score="target", precision="float32")(
        _Linear(weight), images, target=lambda outputs: outputs[:, 0]
    )
    # E[map] = 1/q sum_m a_m x_m Cov(M_m, M_l), estimated from other masks than those of the map.
    masks = random_masks([b"other"] * 20_000, list(range(20_000)), 9, cells, 0.5, size).flatten(1)
    masks = masks - masks.mean(0)
    product = (weight * images[0]).sum(0).flatten()
    expected = (masks.T @ (masks @ product)) / len(masks) / 0.5
    pair = torch.stack([found.values.flatten(), expected])
    assert torch.corrcoef(pair)[0, 1] > 0.99


def test_every_picture_has_masks_of_its_own_that_follow_it():
    keys = picture_keys(pictures(3))
    assert len(set(keys)) == 3
    assert picture_keys(pictures(3).flip(0)) == keys[::-1]
    one, other = (random_masks([key], [0], 0, 7, 0.5, (16, 16)) for key in keys[:2])
    assert not torch.equal(one, other)


def test_a_score_that_no_mask_changes_gives_no_evidence():
    blind, images = _Linear(torch.zeros(3, 16, 16)), pictures(2)
    found = RISE(masks=16, precision="float32")(blind, images, target=0)
    assert not found.values.any()
    assert all("no evidence: the map is zero everywhere" in notes for notes in found.notes)
    paper = RISE.from_preset("paper", masks=16, precision="float32")(blind, images, target=1)
    masks = random_masks([picture_keys(images)[0]] * 16, list(range(16)), 0, 7, 0.5, (16, 16))
    close(paper.values[0, 0], masks.sum(0) * 0.5 / 8, 1e-5)  # a logit of 0 is a probability of one half


def test_where_no_mask_keeps_a_pixel_the_empirical_norm_gives_zero():
    images = pictures(2)
    found = RISE(masks=2, keep=0.05, norm="empirical", precision="float32")(network("convolutions"), images)
    for key, values in zip(picture_keys(images), found.values[:, 0], strict=True):
        uncovered = random_masks([key] * 2, [0, 1], 0, 7, 0.05, (16, 16)).sum(0) == 0
        assert uncovered.any()
        assert not values[uncovered].any()
