"""The speed of visual summaries: crisp masks beside a loop over pictures, one mask alone, and matching of all pairs.

`python -m benchmarks summaries` prints it among the others.

Masks are of MobileNetV2 and photographs, from the folder that SEEWHY_DATA names; without it of the bundled network and
drawn scenes.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Sequence

import numpy as np
import torch
from torch import Tensor

from benchmarks import loops
from benchmarks.rows import Row, at_most, duration
from benchmarks.subjects import data, trained_network
from benchmarks.timing import interleaved
from seewhy import CrispMask, Network, Scenes, load
from seewhy.summaries.hough import memory
from seewhy.summaries.matching import Matching, compared

BATCH, LOOPED = 32, 3
LOOP_STEPS, STEPS, ALONE = (300, 150), (40, 110), (60, 30)
MATCHED, REGIONS, SIZE = 100, 20, (224, 224)
_FASTER, _SAME, _ALONE, _MINUTES = 4.0, 1.05, 1.10, 5


def rows(remarks: list[str]) -> Iterator[Row]:
    """All measurements; how quiet the machine was goes to `remarks`."""
    yield from masks(remarks)
    yield alone(remarks)
    for kind in ("hough", "offsets"):
        yield matching(kind)


def masks(remarks: list[str]) -> Iterator[Row]:
    """Many masks at once beside a loop, and what both reach."""
    network, pixels = _photographs()
    module = network.module.requires_grad_(False)
    with torch.inference_mode():
        classes = [int(module(each[None]).argmax()) for each in pixels]
    found: dict[str, list[Tensor]] = {}
    # The same objective; the gradient goes through the mask's blur, and nothing is rounded between the stages.
    method = CrispMask.from_preset("reference").model_copy(
        update={"smooth": STEPS[0], "sharp": STEPS[1], "gradient": "exact", "handover": "exact"}
    )

    def loop() -> None:
        found["loop"] = [
            loops.crisp_mask(module, pixels[row : row + 1], classes[row], *LOOP_STEPS)
            for row in range(LOOPED)
        ]

    def ours() -> None:
        values = method(network, pixels, torch.tensor(classes)).values[:, 0]
        found["ours"] = list(1 - values[:LOOPED])

    times = interleaved({"loop": loop, "ours": ours}, rounds=1, warm_up=0, patience=0, least=1)
    remarks.append(f"masks: {times}; {network.name}")
    theirs, mine = times.of["loop"] / LOOPED, times.of["ours"] / len(pixels)
    title = f"loop over pictures, {LOOP_STEPS[0]} + {LOOP_STEPS[1]} steps"
    name = f"crisp masks in batches of {BATCH}, {STEPS[0]} + {STEPS[1]} steps, each"
    ratio = theirs / mine
    yield Row(
        name, title, duration(theirs), duration(mine), f"{ratio:.1f}x faster", f">= {_FASTER:g}x", ratio >= _FASTER
    )  # fmt: skip
    values = {who: _objective(network, pixels, classes, own) for who, own in found.items()}
    name = f"objective that they reach, mean of {LOOPED} pictures"
    ratio = values["ours"] / values["loop"]
    cells = f"{values['loop']:.4f}", f"{values['ours']:.4f}", f"{ratio:.2f}"
    yield Row(name, title, *cells, f"<= {_SAME}", ratio <= _SAME)


def alone(remarks: list[str]) -> Row:
    """One mask of ResNet-50 without an early stop, beside as many bare forwards and backwards down to the pixels."""
    torch.manual_seed(0)
    network, image = load("torchvision:resnet50", weights="random", offline=True), torch.randn(1, 3, *SIZE)
    network.module.requires_grad_(False)
    method, steps = CrispMask(smooth=ALONE[0], sharp=ALONE[1], tolerance=0), sum(ALONE)
    yardstick = f"{steps} forwards and backwards"
    times = interleaved(
        {yardstick: _bare(network, image, steps), "mask": lambda: method(network, image, 3)},
        rounds=3,
        warm_up=0,
        patience=90,
        least=2,
    )
    remarks.append(f"one mask: {times}")
    return at_most(f"one mask, {ALONE[0]} + {ALONE[1]} steps", yardstick, times, "mask", _ALONE)


def matching(kind: str) -> Row:
    """All pairs of pictures, those of one picture with itself included; descriptors are random."""
    generator = torch.Generator().manual_seed(0)
    corners = torch.rand(MATCHED, REGIONS, 2, generator=generator) * 150
    sides = 24 + torch.rand(MATCHED, REGIONS, 2, generator=generator) * 50
    boxes = list(torch.cat([corners, corners + sides], 2).round().long().numpy())
    vectors = list(
        torch.nn.functional.normalize(torch.randn(MATCHED, REGIONS, 24, generator=generator), dim=2)
    )
    start = time.perf_counter()
    compared(vectors, boxes, SIZE, Matching.model_validate({"kind": kind}))
    took = time.perf_counter() - start
    pair = memory((SIZE, SIZE), REGIONS) / 2**20
    return Row(
        f"{kind}: all pairs of {MATCHED} pictures with {REGIONS} regions each, {pair:.1f} MB a pair", "", "",
        duration(took), "", f"<= {_MINUTES} min", took <= 60 * _MINUTES,
    )  # fmt: skip


def _objective(network: Network, pixels: Tensor, classes: Sequence[int], masks: Sequence[Tensor]) -> float:
    """What the sharp stage lowers, the mean over the pictures that have masks."""
    found = []
    with torch.inference_mode():
        for image, index, mask in zip(pixels[:, None], classes, masks, strict=False):
            behind = loops.crisp_mask_background(image)
            score = network.module(image * mask + behind * (1 - mask)).softmax(1)[0, index]
            found.append(float(score + loops.crisp_mask_price(mask)))
    return float(np.mean(found))


def _bare(network: Network, image: Tensor, steps: int) -> Callable[[], None]:
    def run() -> None:
        for _ in range(steps):
            pixels = image.clone().requires_grad_()
            torch.autograd.grad(network.module(pixels).softmax(1)[0, 3], pixels)

    return run


def _photographs() -> tuple[Network, Tensor]:
    files = sorted((data() / "photos").glob("*.JPEG"))[:BATCH]
    if files:
        network = trained_network()
        return network, network.read(files).pixels
    network = load("demo")
    return network, network.read([each.image for each in Scenes(BATCH, seed=4)]).pixels
