"""Real photographs and real weights: the map lies where the object is that was asked for."""

import os
from pathlib import Path

import pytest
import torch

import seewhy

DATA = Path(os.environ.get("SEEWHY_DATA", "../shared/data"))
WEIGHTS = DATA / "weights/imagenet_torchvision_mobilenet_v2.safetensors"
PICTURE = DATA / "peer-examples/grad-cam-pytorch__cat_dog.png"

pytestmark = pytest.mark.skipif(
    not WEIGHTS.is_file() or not PICTURE.is_file(),
    reason="needs real weights and pictures in the folder that SEEWHY_DATA names",
)


@pytest.fixture(scope="module")
def network() -> seewhy.Network:
    return seewhy.load("torchvision:mobilenet_v2", weights=WEIGHTS)


@pytest.mark.parametrize("method", ["cam", "grad-cam", "grad-cam++", "x-grad-cam", "hires-cam", "layer-cam"])
def test_asked_for_the_dog_the_map_lies_on_the_dog_and_for_the_cat_on_the_cat(network, method) -> None:
    images = network.read(PICTURE)

    result = seewhy.make(method)(network, images, target=seewhy.Classes(["bull mastiff", "tabby"]))
    maps, seen = result.original(0)

    # The dog sits in the upper half of the picture, the cat lies in the lower half.
    upper = maps[:, : maps.shape[1] // 2].sum((1, 2)) / maps.sum((1, 2))
    assert upper[0] > 0.5 > upper[1]
    assert maps.shape[1:] == seen.shape == images.frames[0].original
    assert 0.7 < seen.float().mean() < 0.8
    assert torch.equal(maps[:, ~seen], torch.zeros_like(maps[:, ~seen]))


def test_the_contrast_of_two_classes_changes_sign_between_their_objects(network) -> None:
    images = network.read(PICTURE)

    values = seewhy.HiResCAM()(network, images, target=seewhy.Contrast("bull mastiff", "tabby")).values[0, 0]

    assert values[:4].sum() > 0 > values[4:].sum()
