"""The speed of the seven methods of the CAM family on ResNet-50, beside the public packages."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial

import torch
from torch import Tensor, nn

from benchmarks import peers
from benchmarks.counts import counted
from benchmarks.rows import Row, at_least, at_most
from benchmarks.timing import interleaved
from seewhy import Classes, GradCAM, Network, explain_all, load, make

BATCH, SIZE, LAYER = 8, 224, "layer4"
FIVE = ("grad-cam", "grad-cam++", "x-grad-cam", "hires-cam", "layer-cam")
METHODS = ("cam", "grad-cam", "grad-cam++", "x-grad-cam", "hires-cam", "layer-cam", "eigen-cam")
FORWARD = "one forward"


@dataclass(frozen=True)
class Setting:
    """ResNet-50 with random weights, eight pictures of noise, one class for each."""

    network: Network
    images: Tensor
    classes: list[int]

    @property
    def module(self) -> nn.Module:
        return self.network.module

    def forward(self, images: Tensor) -> Callable[[], Tensor]:
        """The yardstick: one float32 forward, NCHW, in eval mode, without a graph."""

        def run() -> Tensor:
            with torch.no_grad():
                output: Tensor = self.module(images)
            return output

        return run


def setting() -> Setting:
    torch.manual_seed(0)
    network = load("torchvision:resnet50", weights="random", offline=True)
    images = torch.randn(BATCH, 3, SIZE, SIZE)
    return Setting(network, images, [(37 * place) % 1000 for place in range(BATCH)])


def rows(of: Setting, remarks: list[str]) -> Iterator[Row]:
    """All measurements; how quiet the machine was goes to `remarks`."""
    yield from counts(of)
    yield from methods(of, remarks)
    yield from packages(of, remarks)
    yield from targets(of, remarks)


def counts(of: Setting) -> Iterator[Row]:
    """Pictures through the first and the last layer, and calls of the backward engine."""
    first, last = of.module.get_submodule("conv1"), of.module.get_submodule("fc")
    for names in [*[(name,) for name in METHODS], METHODS]:

        def run(names: tuple[str, ...] = names) -> object:
            return explain_all(of.network, of.images, names, of.classes)

        run()
        found = counted(run, first, last)
        expected = f"{BATCH} / {BATCH} / {0 if names == ('eigen-cam',) else 1}"
        title = names[0] if len(names) == 1 else "all seven together"
        name = f"{title}: pictures through trunk / head, backward calls"
        yield Row(name, "", "", str(found), "", expected, str(found) == expected)


def methods(of: Setting, remarks: list[str]) -> Iterator[Row]:
    """Every method, alone and together, in forwards of the same batch."""
    candidates: dict[str, Callable[[], object]] = {FORWARD: of.forward(of.images)}
    for name in METHODS:
        candidates[name] = partial(make(name), of.network, of.images, of.classes)
    candidates["five"] = lambda: explain_all(of.network, of.images, FIVE, of.classes)
    candidates["seven"] = lambda: explain_all(of.network, of.images, METHODS, of.classes)
    times = interleaved(candidates, patience=120)
    remarks.append(f"methods: {times}")
    bounds = {"grad-cam": 1.10, "eigen-cam": 1.05}
    for name in METHODS:
        yield at_most(name, FORWARD, times, name, bounds.get(name))
    yield at_most("five gradient methods together", "grad-cam", times, "five", 1.3)
    yield at_most("all seven together", FORWARD, times, "seven")


def packages(of: Setting, remarks: list[str]) -> Iterator[Row]:
    """Grad-CAM by each package, with the network as it comes and with its parameters frozen."""
    makers: dict[str, Callable[[], Callable[[Tensor, list[int]], object]]] = {
        peers.GRAD_CAM: lambda: peers.PytorchGradCam("grad-cam", of.module, LAYER),
        peers.TORCHCAM: lambda: peers.Torchcam("grad-cam", of.module, LAYER),
        peers.CAPTUM: lambda: peers.Captum(of.module, LAYER),
    }
    differentiable = of.images.clone().requires_grad_()  # without it a frozen network has no graph at all

    def ours() -> object:
        return GradCAM()(of.network, of.images, of.classes).heatmaps()

    for frozen in (False, True):
        of.module.requires_grad_(not frozen)
        images = differentiable if frozen else of.images
        called = {peer: build() for peer, build in makers.items()}
        candidates: dict[str, Callable[[], object]] = {"ours": ours}
        for peer, method in called.items():
            candidates[peer] = partial(method, images, of.classes)
        times = interleaved(candidates, rounds=5, warm_up=1, patience=60)
        remarks.append(f"packages, {'frozen' if frozen else 'as it comes'}: {times}")
        for peer, method in called.items():
            if isinstance(method, peers.Torchcam):
                method.close()
            name = f"grad-cam, network {'frozen' if frozen else 'as it comes'}"
            bound = 3.0 if peer == peers.GRAD_CAM else None
            yield at_least(name, peers.titled(peer), times, peer, "ours", bound)
    of.module.requires_grad_(True)


def targets(of: Setting, remarks: list[str]) -> Iterator[Row]:
    """Twenty classes of one picture."""
    one = of.images[:1]
    times = interleaved(
        {
            "one class": lambda: GradCAM()(of.network, one, Classes([3])),
            "twenty": lambda: GradCAM()(of.network, one, Classes(list(range(20)))),
            FORWARD: of.forward(one),
        },
        rounds=25,
        patience=90,
    )
    remarks.append(f"targets: {times}")
    yield at_most("grad-cam, 20 classes of one picture", "one class", times, "twenty", 1.5)
    yield at_most("grad-cam, one class of one picture", FORWARD, times, "one class")
