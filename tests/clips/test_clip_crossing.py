"""A real sequence through a real encoder."""

import os
from pathlib import Path

import pytest
import torch
from torch import nn

import seewhy
from seewhy.clips import ClipAttention, FrameAverage, read_clips

DATA = Path(os.environ.get("SEEWHY_DATA", "../shared/data"))
FRAMES = DATA / "tracking" / "Crossing" / "img"
WEIGHTS = DATA / "weights" / "imagenet_torchvision_mobilenet_v2.safetensors"

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(
        not (FRAMES.is_dir() and WEIGHTS.is_file()), reason="needs the folder that SEEWHY_DATA names"
    ),
]


def test_frames_of_a_crossing_that_are_averaged_count_alike_and_black_ones_do_not() -> None:
    network = seewhy.load("torchvision:mobilenet_v2", weights=WEIGHTS, offline=True)
    network.module.classifier = nn.Identity()
    (footage,) = read_clips(FRAMES, network.preprocess, length=4, every=10, most=1)
    assert footage.names == ("0001.jpg", "0011.jpg", "0021.jpg", "0031.jpg")
    black = footage.pixels.clone()
    black[2] = black.amin()

    found = ClipAttention()(FrameAverage(network.module), torch.stack([footage.pixels, black]))

    assert (found.layer, found.order, found.values.shape) == ("network.features", "(BF)", (2, 4, 7, 7))
    assert (found.weights[0] - 0.25).abs().max() < 0.05
    assert found.weights[1, 2] < 0.5 * found.weights[1, [0, 1, 3]].min()
    assert found.notes[0][-1].startswith("closed-form")
