"""Whether relevance is conserved, network by network and composite by composite, and what takes it.

`python -m benchmarks.relevance_page conservation --write` writes what it finds into docs/relevance-maps.md.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import get_args

import torch
from torch import Tensor

from benchmarks.hand_written import hand_written, timm_mobilenet
from benchmarks.subjects import data, trained
from seewhy import LRP, Network, load
from seewhy.check.toys import blobs
from seewhy.errors import NotApplicableError
from seewhy.network.inputs import Arguments
from seewhy.network.reinitialise import recompute_statistics
from seewhy.relevance.composites import CompositeName
from seewhy.relevance.conservation import BOUND
from seewhy.render.markdown import markdown_table

PUBLIC: CompositeName = "reference-sr"
COMPOSITES: tuple[CompositeName, ...] = tuple(
    each for each in get_args(CompositeName) if each != PUBLIC and not each.endswith("1-flat")
)
ARCHITECTURES = (
    *(f"torchvision:{name}" for name in ("alexnet", "vgg16", "resnet50", "resnext50_32x4d", "densenet121")),
    *(f"torchvision:{name}" for name in ("mobilenet_v3_large", "efficientnet_b0", "convnext_tiny", "swin_t")),
    *(f"torchvision:{name}" for name in ("inception_v3", "regnet_y_400mf", "squeezenet1_0", "googlenet")),
    *(f"timm:{name}" for name in ("resnet18", "ghostnet_100", "vit_tiny_patch16_224")),
)
ATTENTION = {"matrix product": "halves", "softmax": "constant"}
_OVERLAPPING = "torchvision:alexnet"
_SIDE, _BLOBS, _PICTURES, _SMALL = 224, 4, 2, 32


@dataclass(frozen=True)
class Books:
    """What became of the score of one network's pictures under one composite.

    Attributes:
        pixels, biases, stabilisers: shares of the score's magnitude, means over the pictures.
        error: the largest share that is unaccounted for.
        attention: whether its weights were taken as constants.
    """

    pixels: float
    biases: float
    stabilisers: float
    error: float
    attention: bool = False

    def __str__(self) -> str:
        return f"{self.biases:.3g} · {self.stabilisers:.1g} · {self.error:.0e}"


def books(network: Network, images: Tensor, method: LRP) -> Books:
    """The books of one network; attention, which has no rule by itself, gets one."""
    attention = False
    try:
        found = method.conservation(network, images)
    except NotApplicableError:
        attention = True
        rules = {**dict(method.rules), **ATTENTION}
        found = LRP.checked({**method.model_dump(), "rules": rules}).conservation(network, images)
    size = found.magnitude.clamp_min(torch.finfo(torch.float64).tiny)
    pixels, biases, stabilisers = (
        float((each / size).mean()) for each in (found.arrived, found.bias, found.stabiliser)
    )
    return Books(pixels, biases, stabilisers, float(found.error.max()), attention)


def untrained(name: str) -> tuple[Network, Tensor]:
    """An architecture with random weights, and a picture of blobs.

    Batch norms get the statistics of such pictures: with those that they begin with, signals fade layer by layer,
    down to scores that stabilisers take whole.
    """
    torch.manual_seed(0)
    network = load(name, weights="random", offline=True)
    inputs = Arguments.of(blobs(_BLOBS, 3, _SIDE, _SIDE), network.device, network.dtype)
    recompute_statistics(network, inputs)
    return network, blobs(1, 3, _SIDE, _SIDE)


def trained_networks() -> Iterator[tuple[Network, Tensor]]:
    """All trained networks at hand with real pictures of their kind.

    Raises:
        FileNotFoundError: the folder of weights and pictures is not where SEEWHY_DATA says.
    """
    for subject in trained(_PICTURES):
        yield Network(subject.module, name=f"{subject.title} in torchvision, trained"), subject.images
        if subject.title == "MobileNetV2":
            yield timm_mobilenet(subject.network), subject.images
    for network in hand_written(data() / "weights").values():
        assert network.preprocess is not None
        small = network.preprocess.input_size == (_SMALL, _SMALL)
        folder = data() / ("cifar10-test/bird" if small else "photos")
        paths = sorted(str(path) for path in folder.iterdir() if path.suffix in (".jpg", ".JPEG"))
        yield network, network.read(paths[1 : 1 + _PICTURES]).pixels


def text() -> Iterator[str]:
    """What the comparison says, by paragraphs."""
    yield (
        "Shares of the score that biases and stabilisers take, and the largest relative error, what is unaccounted "
        f"for: {len(ARCHITECTURES)} architectures with random weights, the statistics of their batch norms "
        f"recomputed, and a drawn picture; and trained networks with {_PICTURES} photographs, each for its predicted "
        f"class, in float32. The error may be {BOUND:g}; * marks attention whose weights are taken as constants. "
        "CIFAR ResNets and the MobileNetV2 of birds are written by hand in `benchmarks/hand_written.py`, the latter "
        "as functions of folded weights. Shares above 1 and below 0 are of rules that give relevance both signs."
    )
    rows, worst = [], 0.0
    for network, images in (*map(untrained, ARCHITECTURES), *trained_networks()):
        found = [books(network, images, LRP(composite=composite)) for composite in COMPOSITES]
        worst = max(worst, *(each.error for each in found))
        rows.append(
            [network.name + (" *" if any(each.attention for each in found) else ""), *map(str, found)]
        )
        print(rows[-1], flush=True)
    yield markdown_table(["network", *(f"{name}: biases · stabilisers · error" for name in COMPOSITES)], rows)
    yield f"The largest error of all is {worst:.1e}."
    yield "### Overlapping pooling"
    yield (
        "AlexNet pools windows of three pixels every two. Max-unpooling, which public code uses, lets windows that "
        "share their maximum overwrite each other; routing along the gradient, as all other composites do, does not."
    )
    network, images = untrained(_OVERLAPPING)
    pools = {
        "max-unpooling": LRP(composite=PUBLIC),
        "routing": LRP.checked({"composite": PUBLIC, "rules": {"max pool": "route"}}),
    }
    table = []
    for name, method in pools.items():
        own = books(network, images, method)
        table.append(
            [f"`{PUBLIC}`, {name}", *(f"{each:.3f}" for each in (own.pixels, own.biases, own.error))]
        )
    yield markdown_table(["AlexNet, random weights", "at the pixels", "in biases", "unaccounted for"], table)
