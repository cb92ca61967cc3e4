"""The networks and pictures that maps are compared on."""

from __future__ import annotations

import os
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn

from benchmarks import oracle, peers
from benchmarks.oracle import Array, Pair, normalised
from seewhy import Network, load, make

PICTURES = 8


@dataclass(frozen=True)
class Subject:
    """A network, the layer looked at, real pictures, and their predicted classes."""

    title: str
    network: Network
    layer: str
    images: Tensor
    classes: list[int]

    @property
    def module(self) -> nn.Module:
        return self.network.module

    @property
    def size(self) -> tuple[int, int]:
        return self.images.shape[-2], self.images.shape[-1]

    def pair(self) -> Pair:
        return oracle.pair(self.module, self.images, self.layer, self.classes)

    def ours(self, method: str) -> Array:
        """Our maps (B, h, w) before any ReLU."""
        explainer = make(
            method, layer=self.layer, **({"preset": "reference"} if method == "eigen-cam" else {})
        )
        return np.asarray(explainer(self.network, self.images, target=self.classes).values[:, 0].double())

    def theirs(self, method: str, peer: str) -> Array:
        """A peer's maps, rectified, at input size, stretched to [0, 1]."""
        if peer == peers.GRAD_CAM:
            return peers.PytorchGradCam(method, self.module, self.layer)(self.images, self.classes)
        if peer == peers.CAPTUM:
            return normalised(peers.Captum(self.module, self.layer)(self.images, self.classes), self.size)
        cam = peers.Torchcam(method, self.module, self.layer)
        try:
            return normalised(cam(self.images, self.classes), self.size)
        finally:
            cam.close()


def subjects() -> Iterator[Subject]:
    """MobileNetV2 and SqueezeNet with trained weights, ResNet-50 with random ones; the same photographs for each."""
    preprocess = None
    for subject in trained(PICTURES):
        preprocess = subject.network.preprocess
        yield subject
    torch.manual_seed(0)
    network = load("torchvision:resnet50", weights="random", preprocess=preprocess, offline=True)
    yield _subject("ResNet-50, random weights", network, "layer4", _photographs(PICTURES))


def trained(pictures: int) -> Iterator[Subject]:
    """MobileNetV2 and SqueezeNet with trained weights, and so many photographs.

    Raises:
        FileNotFoundError: the folder of weights and pictures is not where SEEWHY_DATA says.
    """
    paths = _photographs(pictures)
    for name, title in (("mobilenet_v2", "MobileNetV2"), ("squeezenet1_0", "SqueezeNet 1.0")):
        yield _subject(title, trained_network(name), "features", paths)


def trained_network(name: str = "mobilenet_v2") -> Network:
    """A network of torchvision's with the weights at hand, with their preprocessing."""
    weights = data() / "weights" / f"imagenet_torchvision_{name}.safetensors"
    return load(f"torchvision:{name}", weights=weights, offline=True)


def data() -> Path:
    """The folder of pictures and weights, which the environment names."""
    return Path(os.environ.get("SEEWHY_DATA", "../shared/data"))


def _photographs(count: int) -> list[str]:
    folder = data() / "imagenet-val" / "images"
    paths = sorted(str(path) for path in folder.glob("*.JPEG"))[:count]
    if len(paths) < count:
        raise FileNotFoundError(f"no {count} photographs in {folder}; set SEEWHY_DATA")
    return paths


def _subject(title: str, network: Network, layer: str, paths: list[str]) -> Subject:
    images = network.read(paths).pixels
    return Subject(title, network, layer, images, network(images).argmax(1).tolist())
