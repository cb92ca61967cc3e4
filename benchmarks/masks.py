"""Methods of many forwards: `python -m benchmarks.masks` prints times, ratios and peak memory on ResNet-50 at 224.

Some 8 minutes on two cores; each candidate runs once, forwards several times.
"""

from __future__ import annotations

import resource
import time
from collections.abc import Callable
from statistics import median
from typing import Any

import torch

import seewhy
from benchmarks.page import table
from benchmarks.timing import THREADS
from seewhy.network.load import import_torchvision

BATCH = 32


def seconds(run: Callable[[], object], times: int = 1) -> float:
    """Median time of some runs."""
    taken = []
    for _ in range(times):
        begun = time.perf_counter()
        run()
        taken.append(time.perf_counter() - begun)
    return median(taken)


def forwards(module: Any, images: torch.Tensor, lower: bool) -> float:
    """Seconds per picture of a batch, in inference mode, channels-last."""
    with torch.inference_mode(), torch.autocast("cpu", torch.bfloat16, enabled=lower):
        module(images)
        return seconds(lambda: module(images), 5) / len(images)


def main() -> None:
    """Measure and print."""
    torch.set_num_threads(THREADS)
    torch.manual_seed(0)
    module: Any = seewhy.load("torchvision:resnet50", weights="random").module
    image = torch.randn(1, 3, 224, 224)
    batch = torch.randn(BATCH, 3, 224, 224).to(memory_format=torch.channels_last)
    exact, rough = forwards(module, batch, lower=False), forwards(module, batch, lower=True)
    with torch.no_grad():
        single = seconds(lambda: module(image), 7)

    seewhy.AblationCAM()(module, image)
    ablation = seconds(lambda: seewhy.AblationCAM()(module, image), 7)
    rise = seconds(lambda: seewhy.RISE(masks=1000, precision="bfloat16")(module, image))
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    ours_rough = seconds(lambda: seewhy.ScoreCAM(precision="bfloat16")(module, image))
    ours_exact = seconds(lambda: seewhy.ScoreCAM(precision="float32")(module, image))
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss

    import_torchvision()
    from torchcam import methods

    peer = methods.ScoreCAM(module, "layer4", batch_size=BATCH)
    with torch.no_grad():
        scores = module(image)
    theirs = seconds(lambda: peer(int(scores.argmax()), scores))
    peer.remove_hooks()

    rows = [
        ["Ablation-CAM, last layer", f"{ablation / single:.2f} forwards of one picture", "2"],
        ["RISE, 1,000 masks, bfloat16", f"{rise / (1000 * rough):.2f} x 1,000 bfloat16 forwards", "1.10"],
        ["Score-CAM in bfloat16", f"{theirs / ours_rough:.2f} x as fast as torchcam ({theirs:.0f} s)", "3"],
        ["Score-CAM in float32", f"{theirs / ours_exact:.2f} x as fast as torchcam", "1.3"],
        ["Peak of the process, Score-CAM", f"{peak / 1e6:.2f} GB ({before / 1e6:.2f} GB before)", "1.5 GB"],
    ]
    print(f"one forward in a batch of {BATCH}: {exact * 1e3:.1f} ms, in bfloat16 {rough * 1e3:.1f} ms")
    print(table(["", "measured", "asked for"], rows))


if __name__ == "__main__":
    main()
