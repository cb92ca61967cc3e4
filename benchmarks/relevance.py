"""The speed of relevance propagation, beside a gradient: `python -m benchmarks relevance`.

`python -m benchmarks.relevance NETWORK COMPOSITE` prints what a process of its own grows by.
"""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path

import torch
from torch import Tensor, nn

from benchmarks import peers
from benchmarks.rows import Row, at_least, at_most
from benchmarks.timing import THREADS, interleaved
from seewhy import LRP, Network, load
from seewhy.relevance.composites import CompositeName

BATCH, SIZE = 8, 224
PLAIN = "vgg11"  # a chain of layers
NETWORKS = (PLAIN, "resnet18")
YARDSTICK = "forward + input gradient"
MEMORY = 1.5
_BOUNDS: dict[CompositeName, float] = {
    "epsilon-plus": 2.0,
    "epsilon-gamma-box": 2.0,
    "epsilon-alpha2-beta1": 3.0,
}


def rows(remarks: list[str]) -> Iterator[Row]:
    """All measurements; how quiet the machine was goes to `remarks`."""
    for name in NETWORKS:
        yield from speed(name, remarks)
        for composite in _BOUNDS:
            yield peak(name, composite)
    yield beside_captum(remarks)


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


def beside_captum(remarks: list[str]) -> Row:
    """The epsilon rule everywhere on a plain chain, where captum's relevance is right; sums of branches it refuses."""
    network, images = _setting(PLAIN)
    rule = f"epsilon:epsilon={peers.CAPTUM_EPSILON}"
    ours = LRP.checked({"rules": {"convolution": rule, "linear": rule}})
    with peers.captum_relevance(network.module) as theirs:
        times = interleaved(
            {peers.CAPTUM: lambda: theirs(images, 3), "ours": lambda: ours(network, images, 3)}, rounds=5
        )
        expected = theirs(images, 3)
    difference = (ours(network, images, 3).values[:, 0] - expected).abs().max() / expected.abs().max()
    remarks.append(
        f"lrp beside captum: {times}; the maps differ by {float(difference):.1e} of the largest value"
    )
    name = f"lrp by the epsilon rule, {PLAIN}, {BATCH} pictures"
    return at_least(name, peers.titled(peers.CAPTUM), times, peers.CAPTUM, "ours", 1.0)


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


def _gigabytes(line: str) -> float:
    """What Linux says of this process: VmRSS, what it holds now, or VmHWM, the most it held."""
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(int(each.split()[1]) for each in lines if each.startswith(line)) * 1024 / 1e9


def main(arguments: list[str]) -> None:
    torch.set_num_threads(THREADS)
    name, what = arguments
    network, images = _setting(name)
    _gradient(network.module, images[:1])()  # what libraries set aside when they are first used
    before = _gigabytes("VmRSS")
    Path("/proc/self/clear_refs").write_text("5")  # forgets the most it held, as while loading
    if what == "gradient":
        _gradient(network.module, images)()
    else:
        LRP.checked({"composite": what})(network, images, 3)
    print(_gigabytes("VmHWM") - before)


if __name__ == "__main__":
    main(sys.argv[1:])
