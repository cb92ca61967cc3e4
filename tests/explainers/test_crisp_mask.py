from __future__ import annotations

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from slow import network, pictures
from torch import nn

from seewhy import CrispMask
from seewhy.explainers.baseline import blurred
from seewhy.explainers.perturbation.game import moved
from seewhy.explainers.perturbation.terms import Weights, asked

FREE = Weights(sparsity=0.3, variation=0.0, binary=0.0)
EASY = {
    "smooth_weights": Weights(sparsity=0.05, variation=0.01, binary=0.0),
    "sharp_weights": Weights(sparsity=0.05, variation=0.1, binary=0.1),
}
"""Networks with random weights find little that costs more than it brings."""
ROUNDED = 1e-9  # of masks in [0, 1], in float64
PLAIN = {"score": "target", "scale": "none", "jitter": 0, "tolerance": 0.0, "baseline": "zero"}


class Linear(nn.Module):
    """The score is the sum over channels and pixels of weight times picture."""

    def __init__(self, size=12, seed=0):
        super().__init__()
        generator = torch.Generator().manual_seed(seed)
        self.weight = nn.Parameter(torch.randn(3, size, size, generator=generator))

    def forward(self, images):
        score = (images * self.weight).sum((1, 2, 3))
        return torch.stack([score, -score], 1)


def test_a_linear_score_is_perturbed_exactly_where_that_pays():
    net, images = Linear(), pictures(2, size=12)
    method = CrispMask(**PLAIN, smooth=0, sharp=200, sharp_weights=FREE)
    found = method(net, images, target=0).values[:, 0]
    gained = (net.weight.detach() * images).sum(1)
    # Perturbing a pixel takes its share off the score and costs lambda_1 / N.
    expected = (gained > FREE.sparsity / 144).float()
    assert 0.2 < float(expected.mean()) < 0.8
    assert torch.equal(found, expected)


def test_preservation_keeps_what_deletion_takes_of_a_linear_score():
    net, images = Linear(), pictures(2, size=12)
    method = CrispMask(**PLAIN, smooth=0, sharp=200, sharp_weights=FREE)
    deleted = method(net, images, target=0).values
    kept = method.model_copy(update={"game": "preservation"})(net, images, target=0).values
    assert torch.equal(deleted, kept)


class Corner(nn.Module):
    """Reads nothing but the upper left quarter."""

    def forward(self, images):
        seen = images[:, :, :12, :12].square().mean((1, 2, 3))
        return torch.stack([seen, -seen], 1)


def test_what_the_network_does_not_see_is_left_alone():
    images = pictures(2, size=24) + 1
    method = CrispMask(smooth=60, sharp=40, baseline="zero", jitter=0)
    found = method(Corner(), images, target=0).values[:, 0]
    # The coarse stage's blur reaches over the border by two pixels.
    assert float(found[:, 15:].max()) < 0.05
    assert float(found[:, :, 15:].max()) < 0.05
    assert float(found[:, :10, :10].mean()) > 0.3


@pytest.mark.parametrize("settings", [{"game": "deletion"}, {"game": "hybrid"}, {"area": 0.2}, {"jitter": 0}])
def test_a_batch_gives_what_its_pictures_give(settings):
    net, images = network("convolutions").double(), pictures(3, size=24).double()
    method = CrispMask(smooth=30, sharp=20, tolerance=0.0, **EASY, **settings)
    together = method(net, images, target=1).values
    alone = torch.cat([method(net, each[None], target=1).values for each in images])
    assert float((together - alone).abs().max()) < ROUNDED
    assert float(together.std()) > 0.01


def test_pictures_that_are_done_leave_the_batch_and_change_nothing_for_others():
    net, images = network("convolutions").double(), pictures(3, size=24).double()
    images[0] = 0  # nothing to be found: done at once
    method = CrispMask(smooth=80, sharp=40, jitter=0, tolerance=0.01, **EASY)
    together = method(net, images, target=1)
    alone = [method(net, each[None], target=1) for each in images]
    steps = [each.cost.backwards for each in alone]
    assert len(set(steps)) > 1
    assert together.cost.backwards == sum(steps)
    assert sum(steps) < 3 * 120
    for row, each in enumerate(alone):
        assert float((together.values[row] - each.values[0]).abs().max()) < ROUNDED


def test_the_gradient_goes_back_through_the_blur():
    method = CrispMask(blur=2.0)
    generator = torch.Generator().manual_seed(0)
    values = torch.rand(2, 4, 5, dtype=torch.float64, generator=generator).requires_grad_()
    weights = torch.randn(2, 33, 40, dtype=torch.float64, generator=generator)

    def loss(mask):
        paid = asked(mask, Weights(sparsity=0.5, variation=0.1, binary=0.3))
        large = method._enlarging((4, 5), (33, 40), mask)(mask)
        return ((large * weights).sum((1, 2)) ** 2 + paid).sum()

    assert torch.autograd.gradcheck(loss, [values], eps=1e-6, atol=1e-7)


def test_the_reference_gradient_goes_round_the_blur():
    values = torch.rand(1, 4, 4, dtype=torch.float64).requires_grad_()
    weights = torch.randn(1, 32, 32, dtype=torch.float64)
    large = CrispMask.from_preset("reference")._enlarging((4, 4), (32, 32), values)(values)
    (own,) = torch.autograd.grad((large * weights).sum(), values)
    plain = F.interpolate(values[:, None], (32, 32), mode="bilinear", align_corners=False)[:, 0]
    (expected,) = torch.autograd.grad((plain * weights).sum(), values)
    assert torch.allclose(own, expected)


@pytest.mark.parametrize(
    ("grid", "size", "blur"), [((4, 5), (33, 40), 2.0), ((28, 28), (224, 224), 5.0), ((3, 4), (9, 7), 0.0)]
)
def test_matrices_enlarge_and_blur_as_the_maps_would_be(grid, size, blur):
    values = torch.rand(2, *grid, dtype=torch.float64)
    sigma = min(blur, min(size) / 16)
    plain = F.interpolate(values[:, None], size, mode="bilinear", align_corners=False)
    expected = blurred(plain, sigma) if sigma else plain
    own = CrispMask(blur=blur)._enlarging(grid, size, values)(values)
    assert torch.allclose(own, expected[:, 0], rtol=0, atol=1e-12)


def test_a_moved_picture_is_blended_by_the_moved_mask():
    generator = torch.Generator().manual_seed(0)
    pictures, background = torch.rand(2, 3, 3, 9, 12, generator=generator)
    keep = torch.rand(3, 1, 9, 12, generator=generator)
    shifts = torch.tensor([[0, 0], [2, -3], [-4, 1]])
    whole = moved(torch.lerp(background, pictures, keep), shifts)
    parts = torch.lerp(moved(background, shifts), moved(pictures, shifts), moved(keep, shifts))
    assert torch.equal(whole, parts)
    padded = F.pad(pictures, (4, 4, 4, 4), mode="replicate")
    for row, (down, right) in enumerate(shifts.tolist()):
        expected = padded[row, :, 4 - down : 13 - down, 4 - right : 16 - right]
        assert torch.equal(moved(pictures, shifts)[row], expected)


def test_a_larger_binary_term_gives_crisper_masks():
    net, images = network("convolutions"), pictures(6, size=24)

    def grey(binary):
        weights = Weights(sparsity=0.1, variation=0.0, binary=binary)
        mask = CrispMask(smooth=20, sharp=40, jitter=0, **{**EASY, "sharp_weights": weights})(
            net, images, 1
        ).values
        return float((mask * (1 - mask)).mean())

    assert grey(2.0) < 0.5 * grey(0.0)


def test_the_area_is_what_was_asked_for():
    net, images = Linear(), pictures(3, size=12)
    weights = Weights(sparsity=2000.0, variation=0.0, binary=0.0)
    method = CrispMask(**PLAIN, smooth=0, sharp=300, sharp_weights=weights, area=0.25)
    found = method(net, images, target=0).values[:, 0]
    gained = (net.weight.detach() * images).sum(1).flatten(1)
    best = torch.zeros_like(gained).scatter_(1, gained.topk(36).indices, 1.0).view_as(found)
    # 36 of 144 pixels, which bring nearly what the best 36 would: Adam moves all that pay anything at one speed.
    assert float((found.mean((1, 2)) - 0.25).abs().max()) < 0.03
    assert float((found.flatten(1) * gained).sum() / (best.flatten(1) * gained).sum()) > 0.75


@pytest.mark.parametrize("preset", ["reference", "v1", "fong"])
def test_presets_run_and_reference_masks_are_stretched(preset):
    net, images = network("convolutions"), pictures(2, size=24)
    found = CrispMask.from_preset(preset, smooth=12, sharp=0)(net, images, target=1).values
    assert torch.allclose(found.amax((2, 3)), torch.ones(2, 1))  # 1 - (m - min m) / max m


def slow_reference(net, image, target, iterations):
    """The reference's smooth stage for one picture, in plain steps."""
    size, grid = image.shape[-1], image.shape[-1] // 8
    line = (torch.arange(grid, dtype=torch.float64) + 0.5) / grid * 2 - 1
    mask = (line[:, None] ** 2 + line**2 > 1).double()[None, None].requires_grad_()
    background = blurred(image[None], 10.0, 5, "reflect")
    optimizer = torch.optim.Adam([mask], lr=0.1)
    for _ in range(iterations):
        large = F.interpolate(mask, (size, size), mode="bilinear", align_corners=False)
        soft = large + (blurred(large, size / 16) - large).detach()
        shown = image[None] * soft + background * (1 - soft)
        down, right = mask.diff(dim=2).abs() ** 3, mask.diff(dim=3).abs() ** 3
        terms = 0.5 * (1 - mask).abs().mean() + 1e-2 * (down.mean() + right.mean())
        loss = net(shown).softmax(1)[0, target] + terms
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        mask.data.clamp_(0, 1)
    large = F.interpolate(mask.detach(), (size, size), mode="bilinear", align_corners=False)
    return 1 - blurred(large, size / 16)[0, 0]


def test_the_smooth_stage_is_adam_on_the_papers_loss():
    net, images = network("convolutions").double(), pictures(2, size=48).double()
    method = CrispMask.from_preset("reference", smooth=25, sharp=0, handover="exact", normalise=False)
    found = method(net, images, target=1).values[:, 0]
    for row, image in enumerate(images):
        expected = slow_reference(net, image, 1, 25)
        assert float((found[row].double() - expected).abs().max()) < ROUNDED


def glyphs(count, seed):
    """Noise, and in one corner of half of the pictures a light square, which alone decides the class."""
    generator = torch.Generator().manual_seed(seed)
    images = torch.randn(count, 3, 32, 32, generator=generator) * 0.5
    labels, where = torch.arange(count) % 2, torch.zeros(32, 32, dtype=torch.bool)
    where[2:10, 2:10] = True
    images[labels == 1] += 2 * where
    return images, labels, where


def test_a_planted_glyph_is_found():
    torch.manual_seed(0)
    net = nn.Sequential(
        nn.Conv2d(3, 8, 3, padding=1), nn.ReLU(), nn.MaxPool2d(2), nn.Conv2d(8, 16, 3, padding=1), nn.ReLU(),
        nn.AdaptiveAvgPool2d(4), nn.Flatten(), nn.Linear(256, 2),
    )  # fmt: skip
    images, labels, _ = glyphs(256, 0)
    optimizer = torch.optim.Adam(net.parameters(), 3e-3)
    for _ in range(40):
        optimizer.zero_grad()
        F.cross_entropy(net(images), labels).backward()
        optimizer.step()
    images, labels, where = glyphs(8, 1)
    assert (net(images).argmax(1) == labels).all()
    found = CrispMask(smooth=60, sharp=40, baseline="zero")(net, images[labels == 1], target=1)
    masks = found.values[:, 0] > 0.5
    overlap = (masks & where).sum((1, 2)) / (masks | where).sum((1, 2))
    assert float(overlap.min()) > 0.5


def test_a_probability_near_one_hides_what_log_odds_show():
    """Where half of the evidence is enough, the logarithm of the probability is flat at the start."""
    net = nn.Sequential(nn.Flatten(), nn.Linear(3 * 144, 2))
    nn.init.constant_(net[1].weight, 0.0)
    net[1].weight.data[1, :144] = 1.0
    images = torch.zeros(1, 3, 12, 12)
    images[:, 0, :6, :6] = 0.8
    found = {
        score: CrispMask(score=score, smooth=0, sharp=60, baseline="zero", jitter=0)(net, images, 1).values
        for score in ("log-odds", "log-probability")
    }
    assert float(found["log-odds"][0, 0, :6, :6].mean()) > 0.5
    assert float(found["log-probability"].max()) < 0.1


def test_superpixels_give_one_value_each():
    pytest.importorskip("skimage")
    from seewhy.explainers.perturbation.superpixels import superpixels

    net, images = network("convolutions"), pictures(1, size=40)
    found = CrispMask(smooth=10, sharp=0, superpixel=10, jitter=0)(net, images, target=1).values[0, 0]
    pieces = superpixels(images[0])
    assert int(pieces.max()) > 20
    for number in range(int(pieces.max()) + 1):
        values = found[pieces == number]
        assert float(values.max() - values.min()) < 1e-6


def test_a_network_that_sees_nothing_gives_an_empty_mask_that_says_so():
    net, images = network("pooled linear"), pictures(2, size=24)
    for parameter in net.parameters():
        nn.init.zeros_(parameter)
    found = CrispMask(smooth=5, sharp=5)(net, images, target=1)
    assert not found.values.any()
    assert all("does not change the score" in " ".join(notes) for notes in found.notes)


def test_targets_are_one_batch_and_equal_single_ones():
    net, images = network("convolutions").double(), pictures(2, size=24).double()
    method = CrispMask(smooth=15, sharp=10, tolerance=0.0, **EASY)
    both = method(net, images, [[1, 3], [1, 3]]).values
    for column, target in enumerate((1, 3)):
        one = method(net, images, target).values
        assert float((both[:, column] - one[:, 0]).abs().max()) < ROUNDED


def test_settings_come_from_text():
    found = CrispMask.from_text("smooth=20,sharp=0,game=hybrid,area=0.1")
    assert (found.smooth, found.sharp, found.game, found.area) == (20, 0, "hybrid", 0.1)
    assert np.isclose(CrispMask.from_preset("v1").smooth_weights.variation, 1e-4)
