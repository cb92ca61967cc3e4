"""Relevance propagation: what it costs beside a gradient and a peer, and whether it conserves, network by network.

`python -m benchmarks.relevance` prints the table of conservation, `python -m benchmarks relevance` the speed.
"""

from __future__ import annotations

import resource
import subprocess
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial

import torch
from torch import Tensor, nn

from benchmarks.rows import Row, at_most
from benchmarks.subjects import trained
from benchmarks.timing import THREADS, interleaved
from seewhy import LRP, Network, load
from seewhy.check.toys import blobs
from seewhy.errors import NotApplicableError
from seewhy.relevance.composites import CompositeName
from seewhy.render.markdown import markdown_table

BATCH, SIZE = 8, 224
NETWORKS = ("vgg11", "resnet18")
YARDSTICK = "forward + input gradient"
MEMORY = 1.5
_BOUNDS: dict[CompositeName, float] = {
    "epsilon-plus": 2.0,
    "epsilon-gamma-box": 2.0,
    "epsilon-alpha2-beta1": 3.0,
}
_ARCHITECTURES = (
    *(f"torchvision:{name}" for name in ("alexnet", "vgg16", "resnet50", "resnext50_32x4d", "densenet121")),
    *(f"torchvision:{name}" for name in ("mobilenet_v3_large", "efficientnet_b0", "convnext_tiny", "swin_t")),
    *(f"torchvision:{name}" for name in ("inception_v3", "regnet_y_400mf", "squeezenet1_0", "googlenet")),
    *(f"timm:{name}" for name in ("resnet18", "ghostnet_100", "vit_tiny_patch16_224")),
)
ATTENTION = {"matrix product": "halves", "softmax": "constant"}
_SIDE = 224


@dataclass(frozen=True)
class Books:
    """What became of the score of one network's pictures.

    Attributes:
        network: its name.
        composite: the rules.
        shares: at the pixels, in biases and in stabilisers, of the score's magnitude; means over the pictures.
        error: the largest share that is unaccounted for.
    """

    network: str
    composite: str
    shares: tuple[float, float, float]
    error: float


def books(network: Network, images: Tensor, composite: CompositeName) -> Books:
    """The books of one network; attention, which has no rule by itself, gets one."""
    title: str = composite
    try:
        found = LRP(composite=composite).conservation(network, images)
    except NotApplicableError:
        method = LRP.checked({"composite": composite, "rules": ATTENTION})
        found, title = method.conservation(network, images), f"{composite}, attention constant"
    size = found.magnitude.clamp_min(torch.finfo(torch.float64).tiny)
    shares = tuple(float((each / size).mean()) for each in (found.arrived, found.bias, found.stabiliser))
    return Books(network.name, title, (shares[0], shares[1], shares[2]), float(found.error.max()))


def conserved(composite: CompositeName = "epsilon-plus") -> Iterator[Books]:
    """The books of architectures with random weights, and of the trained networks.

    Raises:
        FileNotFoundError: the folder of weights and pictures is not where SEEWHY_DATA says.
    """
    for name in _ARCHITECTURES:
        torch.manual_seed(0)
        yield books(load(name, weights="random", offline=True), blobs(2, 3, _SIDE, _SIDE), composite)
    for subject in trained(2):
        yield books(Network(subject.module, name=f"{subject.title}, trained"), subject.images, composite)


def rows(remarks: list[str]) -> Iterator[Row]:
    """All measurements; how quiet the machine was goes to `remarks`."""
    for name in NETWORKS:
        yield from speed(name, remarks)
        for composite in _BOUNDS:
            yield peak(name, composite)


def speed(name: str, remarks: list[str]) -> Iterator[Row]:
    """Whole calls, from the pictures to the maps, against what a gradient takes at least."""
    network, images = _setting(name)
    calls: dict[str, Callable[[], object]] = {
        composite: partial(LRP(composite=composite), network, images, 3) for composite in _BOUNDS
    }
    times = interleaved({YARDSTICK: _gradient(network.module, images), **calls}, rounds=7)
    remarks.append(f"{name}: {times}")
    for composite, bound in _BOUNDS.items():
        yield at_most(
            f"lrp:composite={composite}, {name}, {BATCH} pictures", YARDSTICK, times, composite, bound
        )


def peak(name: str, composite: str) -> Row:
    """What a process grows by while it does one thing, changed weights included."""
    least, ours = (_grown(name, each) for each in ("gradient", composite))
    return Row(
        f"lrp:composite={composite}, {name}: what the process grows by",
        YARDSTICK,
        f"{least:.2f} GB",
        f"{ours:.2f} GB",
        f"{ours / least:.2f}",
        f"<= {MEMORY}",
        ours <= MEMORY * least,
    )


def _grown(name: str, what: str) -> float:
    command = [sys.executable, "-m", "benchmarks.relevance", name, what]
    done = subprocess.run(command, check=True, capture_output=True, text=True)
    return float(done.stdout.split()[-1])


def _setting(name: str) -> tuple[Network, Tensor]:
    torch.manual_seed(0)
    network = load(f"torchvision:{name}", weights="random", offline=True)
    network.module.requires_grad_(False)
    return network, torch.randn(BATCH, 3, SIZE, SIZE)


def _gradient(module: nn.Module, images: Tensor) -> Callable[[], Tensor]:
    """The gradient of a score at the pixels, and nothing else."""

    def run() -> Tensor:
        leaf = images.clone().requires_grad_()
        return torch.autograd.grad(module(leaf)[:, 3].sum(), leaf)[0]

    return run


def _gigabytes() -> float:
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024 / 1e9


def main(arguments: list[str]) -> None:
    torch.set_num_threads(THREADS)
    if len(arguments) == 2:
        name, what = arguments
        network, images = _setting(name)
        _gradient(network.module, images[:1])()  # what libraries set aside when they are first used
        before = _gigabytes()
        if what == "gradient":
            _gradient(network.module, images)()
        else:
            LRP.checked({"composite": what})(network, images, 3)
        print(_gigabytes() - before)
        return
    cells = [
        [each.network, each.composite, *(f"{share:.3g}" for share in each.shares), f"{each.error:.1e}"]
        for each in conserved()
    ]
    print(markdown_table(["network", "composite", "pixels", "biases", "stabilisers", "error"], cells))


if __name__ == "__main__":
    main(sys.argv[1:])
