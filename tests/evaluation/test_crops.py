"""Maps and truth are compared on what the network saw of a picture, not beyond the crop."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch
from PIL import Image

import seewhy
from seewhy.network.preprocess import Frame
from seewhy.truth import Box, Object, Part, Truth
from small_dataset import CLASSES, Quarters

METRICS = (
    seewhy.EnergyPointingGame(),
    seewhy.BboxShare(),
    seewhy.PointingGame(),
    seewhy.MaxBoxAcc(),
    seewhy.PxAP(),
)
CROP = seewhy.Preprocess(resize=None, crop=(32, 32), mean=(0.0,) * 3, std=(1.0,) * 3)


def explained(tmp_path, box: Box, map_: torch.Tensor) -> dict[str, seewhy.Result]:
    """A picture of 96 x 32 pixels, of which the middle third is seen, its map (32, 32) and its object."""
    Image.new("RGB", (96, 32), (200, 30, 30)).save(tmp_path / "wide.png")
    net = seewhy.Network(Quarters().eval(), preprocess=CROP, classes=CLASSES)
    images = net.read([tmp_path / "wide.png"])
    explanation = seewhy.GradCAM()(net, images, target=0)
    explanation = replace(explanation, maps=dict.fromkeys(explanation.maps, map_[None, None]))
    truth = Truth((32, 96), (Object("ant", box),))
    return {each.name: each(net, images, explanation, [truth]) for each in METRICS}


def test_a_constant_map_has_the_share_of_what_was_seen(tmp_path) -> None:
    found = explained(tmp_path, Box(20, 0, 40, 32), torch.ones(32, 32))  # 8 of the 32 columns that were seen
    energy = found["energy-pointing-game"]
    assert energy.value == pytest.approx(0.25)
    assert energy.details["area"] == pytest.approx(0.25)
    assert energy.details["gain"] == pytest.approx(0, abs=1e-7)


def test_a_map_on_all_that_was_seen_of_an_object_is_perfect(tmp_path) -> None:
    indicator = torch.zeros(32, 32)
    indicator[:, :8] = 1
    found = explained(tmp_path, Box(20, 0, 40, 32), indicator)
    for name in ("energy-pointing-game", "bbox-share", "pointing-game", "max-box-acc", "px-ap"):
        assert found[name].value == pytest.approx(1, abs=1e-3), name


def test_an_object_that_was_not_seen_is_no_miss_but_undefined(tmp_path) -> None:
    for result in explained(tmp_path, Box(0, 0, 20, 32), torch.rand(32, 32)).values():
        assert result.undefined == 1
        assert list(result.remarks.values()) == ["nothing of 'ant' is visible"]


@pytest.mark.parametrize(
    "crop", [(0, 0, 20, 30), (3, 7, 9, 11), (-4, -2, 40, 40), (15, 25, 20, 20), (50, 0, 4, 4)]
)
def test_the_window_is_where_pixels_are_visible(crop) -> None:
    frame = Frame((33, 47), (20, 30), crop)
    mask = torch.zeros(33, 47, dtype=torch.bool)
    mask[frame.window] = True
    assert torch.equal(mask, frame.visible())


def test_a_truth_within_some_pixels_is_what_lies_there() -> None:
    mask = np.arange(48).reshape(6, 8) % 5 == 0
    thing = Object("ant", Box(1, 2, 7, 5), mask, (Part("leg", ~mask),), {"pose": "left"})
    found = Truth((6, 8), (thing, thing), "an ant", mask).within(slice(2, 6), slice(3, 8))
    assert (found.size, found.caption, len(found.objects), found.label) == ((4, 5), "an ant", 2, "ant")
    first = found.objects[0]
    assert (first.box, first.attributes) == (Box(-2, 0, 4, 3), {"pose": "left"})
    for part, whole in ((first.mask, mask), (first.parts[0].mask, ~mask), (found.shortcut, mask)):
        np.testing.assert_array_equal(part, whole[2:6, 3:8])
