"""The speed of evaluating maps, beside loops as the public evaluators run them, and whether the numbers agree."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from typing import Literal

import numpy as np
import torch
from jaxtyping import Float
from numpy.typing import NDArray
from torch import Tensor, nn

from benchmarks import few_forwards, loops
from benchmarks.cam_family import LAYER, Setting
from benchmarks.counts import counted
from benchmarks.rows import Row, at_least
from benchmarks.subjects import trained
from benchmarks.timing import interleaved
from seewhy import AverageDrop, Explanation, GradCAM, InsertionDeletion, Network, Scenes, explain_all, load
from seewhy.evaluation.box_extractors import wsol

ROWS, THRESHOLDS = 8, 1000
TIMED, JUDGED, BOXED = 2, 16, 8  # pictures
# On a network that ends in pooling and a linear layer most others are Grad-CAM once more.
METHODS = ("grad-cam", "layer-cam", "eigen-cam", "input-x-gradient")
LOOP = "RISE's evaluator, a step at a time"
USUAL = f"OpenCV, {THRESHOLDS:,} thresholds"

Precision = Literal["float32", "bfloat16"]


@dataclass(frozen=True)
class Judged:
    """A trained network and pictures to judge methods on.

    Attributes:
        title: what they are called on the page.
        network: the network.
        images: its pictures.
    """

    title: str
    network: Network
    images: Float[Tensor, "B C H W"]


def rows(of: Setting, remarks: list[str]) -> Iterator[Row]:
    """All measurements; how quiet the machine was goes to `remarks`."""
    yield from few_forwards.rows(of, remarks)
    yield from curves(of, remarks)
    on = judged(JUDGED)
    yield from agreement(on)
    yield together(on)
    yield from boxes(of, remarks)


def judged(pictures: int) -> Judged:
    """MobileNetV2 and photographs where SEEWHY_DATA has them, else the bundled network and scenes."""
    try:
        subject = next(trained(pictures))
    except FileNotFoundError:
        network = load("demo")
        images = network.read([scene.image for scene in Scenes(pictures, seed=6)]).pixels
        return Judged(f"demo, {pictures} scenes", network, images)
    return Judged(f"{subject.title}, {pictures} photographs", subject.network, subject.images)


def curves(of: Setting, remarks: list[str]) -> Iterator[Row]:
    """Insertion and deletion of a few pictures."""
    images = of.images[:TIMED]
    explanation = distinct(GradCAM(layer=LAYER)(of.network, images))
    times = interleaved(
        {
            "float32": lambda: areas(of.network, images, explanation, "float32"),
            "bfloat16": lambda: areas(of.network, images, explanation, "bfloat16"),
            LOOP: lambda: looped(of.module, images, explanation),
        },
        rounds=3,
        warm_up=1,
        patience=120,
    )
    remarks.append(f"insertion and deletion: {times}")
    for precision, bound in (("float32", 1.4), ("bfloat16", 3.0)):
        name = f"insertion and deletion in {precision}, {TIMED} pictures, {ROWS} rows a step"
        yield at_least(name, LOOP, times, LOOP, precision, bound)


def agreement(on: Judged) -> Iterator[Row]:
    """Areas under the curves beside the loop's; what bfloat16 changes of them, and of how methods rank."""
    explained = explain_all(on.network, on.images, METHODS)
    maps = {method: distinct(explained[method]) for method in METHODS}
    exact, rough = (
        {method: areas(on.network, on.images, each, precision) for method, each in maps.items()}
        for precision in ("float32", "bfloat16")
    )
    theirs = {method: looped(on.network.module, on.images, each) for method, each in maps.items()}
    name = f"insertion and deletion, {on.title}, {len(METHODS)} methods"
    most = max(float(np.abs(exact[method] - theirs[method]).max()) for method in METHODS)
    yield Row(f"{name}: float32", LOOP, "", "", f"{most:.1e} apart at most", "<= 1e-3", most <= 1e-3)
    mean = float(np.mean([np.abs(exact[method] - rough[method]) for method in METHODS]))
    yield Row(f"{name}: bfloat16", "float32", "", "", f"{mean:.1e} apart on average", "<= 5e-3", mean <= 5e-3)
    before, after = ranked(exact), ranked(rough)
    yield Row(
        f"{name}: ranks in bfloat16",
        "in float32",
        " > ".join(before),
        " > ".join(after),
        "",
        "the same",
        before == after,
    )


def together(on: Judged) -> Row:
    """Forwards of several methods and metrics asked for together, and of each alone."""
    images, network = on.images[:TIMED], on.network
    metrics = InsertionDeletion(), AverageDrop()
    layers = list(network.module.modules())
    first = next(each for each in layers if isinstance(each, nn.Conv2d))
    last = next(each for each in reversed(layers) if isinstance(each, nn.Linear))

    def run(requests: Sequence[Sequence[str]]) -> None:
        for methods in requests:
            for explanation in explain_all(network, images, methods).values():
                for metric in metrics:
                    metric(network, images, explanation, ids=named(len(images)))

    run([METHODS])
    joint = counted(lambda: run([METHODS]), first, last)
    each = counted(lambda: run([[method] for method in METHODS]), first, last)
    return Row(
        f"{len(METHODS)} methods, insertion - deletion and average drop, {len(images)} pictures: forwards",
        "each method alone",
        f"{each.trunk:,}",
        f"{joint.trunk:,}",
        f"{joint.trunk / each.trunk:.3f}",
    )


def boxes(of: Setting, remarks: list[str]) -> Iterator[Row]:
    """Boxes of the public WSOL evaluation, at its thresholds and at those that differ."""
    found = GradCAM(layer=LAYER)(of.network, of.images[:BOXED]).heatmaps("minmax")
    maps = [np.asarray(each, np.float64) for each in found[:, 0]]
    thresholds = np.arange(0, 1, 1 / THRESHOLDS)

    def ours() -> list[NDArray[np.int64]]:
        return [wsol(each)[(thresholds * 255).astype(int)] for each in maps]

    def theirs() -> list[NDArray[np.int64]]:
        return [loops.boxes(each, thresholds) for each in maps]

    times = interleaved({"ours": ours, USUAL: theirs}, rounds=5, warm_up=1, patience=30)
    remarks.append(f"boxes: {times}")
    name = f"boxes of {len(maps)} maps at every threshold"
    yield at_least(name, USUAL, times, USUAL, "ours", 4.0)
    same = sum(int((one == other).all(1).sum()) for one, other in zip(ours(), theirs(), strict=True))
    total = len(maps) * THRESHOLDS
    yield Row(f"{name}: the same box", USUAL, f"{total:,}", f"{same:,}", "", "all", same == total)


def areas(
    network: Network, images: Float[Tensor, "B C H W"], explanation: Explanation, precision: Precision
) -> Float[np.ndarray, "2 B"]:
    """Our areas under insertion and under deletion."""
    metric = InsertionDeletion(rows=ROWS, precision=precision)
    details = metric(network, images, explanation, ids=named(len(images))).details
    both = (details[f"{kind}_curves"].numpy() for kind in ("insertion", "deletion"))
    return np.array([[loops.area(each) for each in curves] for curves in both])


def looped(
    module: nn.Module, images: Float[Tensor, "B C H W"], explanation: Explanation
) -> Float[np.ndarray, "2 B"]:
    """The loop's."""
    maps, step = explanation.evidence()[:, 0].numpy(), ROWS * images.shape[-1]
    play = partial(loops.curve, module, step=step)
    modes: tuple[Literal["insertion", "deletion"], ...] = ("insertion", "deletion")
    return np.array(
        [
            [loops.area(play(images[row, None], each, mode=mode)) for row, each in enumerate(maps)]
            for mode in modes
        ]
    )


def distinct(explanation: Explanation) -> Explanation:
    """Maps without ties, which evaluators break in ways of their own: each pixel's place in a drawn order of equals."""
    evidence = explanation.evidence()
    flat = evidence.flatten(2)
    drawn = torch.randperm(flat.shape[2], generator=torch.Generator().manual_seed(0))
    order = drawn[flat[..., drawn].argsort(dim=2, stable=True)]
    numbers = torch.arange(flat.shape[2], dtype=flat.dtype).expand_as(flat)
    places = torch.empty_like(flat).scatter_(2, order, numbers).view_as(evidence)
    return replace(explanation, maps=dict.fromkeys(explanation.maps, places), rectifies="grid")


def ranked(found: Mapping[str, Float[np.ndarray, "2 B"]]) -> list[str]:
    """The methods by their mean of insertion minus deletion, best first."""
    return sorted(found, key=lambda method: -float((found[method][0] - found[method][1]).mean()))


def named(count: int) -> list[str]:
    """What pictures are called, so that results come in their order."""
    return [f"{place:04}" for place in range(count)]
