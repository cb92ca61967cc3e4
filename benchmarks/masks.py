"""The speed of methods that take many forwards, on ResNet-50 at 224, beside torchcam."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import torch
from torch import Tensor, nn

from benchmarks import peers
from benchmarks.rows import Row, at_least, at_most
from benchmarks.timing import THREADS, interleaved
from seewhy import RISE, AblationCAM, Network, ScoreCAM, load
from seewhy.network.memory import keep_memory

BATCH, SIZE, MASKS = 32, 224, 1000
FORWARD = "one forward"
_PEAK = 1.5  # GB


def rows(remarks: list[str]) -> Iterator[Row]:
    """All measurements; how quiet the machine was goes to `remarks`."""
    network, image = _setting()
    yield ablation(network, image, remarks)
    yield rise(network, image, remarks)
    yield from score(network, image, remarks)
    yield peak()


def ablation(network: Network, image: Tensor, remarks: list[str]) -> Row:
    """Ablation-CAM at the last layer of a pooled linear head, whose 2,048 ablations are arithmetic."""
    explainer = AblationCAM()
    times = interleaved(
        {FORWARD: _forwards(network.module, image, 1), "ablation": lambda: explainer(network, image, 3)},
        rounds=15,
    )
    remarks.append(f"ablation-cam: {times}")
    return at_most("ablation-cam of one picture", FORWARD, times, "ablation", 2.0)


def rise(network: Network, image: Tensor, remarks: list[str]) -> Row:
    """RISE in bfloat16, making the masks included, against bare forwards of as many pictures."""
    explainer = RISE(masks=MASKS, precision="bfloat16")
    bare = _forwards(network.module, image, MASKS, lower=True)
    yardstick = f"{MASKS:,} forwards in bfloat16"
    times = interleaved(
        {yardstick: bare, "rise": lambda: explainer(network, image, 3)}, rounds=3, warm_up=1, patience=120
    )
    remarks.append(f"rise: {times}")
    return at_most(f"rise, {MASKS:,} masks, in bfloat16", yardstick, times, "rise", 1.10)


def score(network: Network, image: Tensor, remarks: list[str]) -> Iterator[Row]:
    """Score-CAM of all 2,048 channels of the last layer, beside torchcam."""
    cam = peers.Torchcam("score-cam", network.module, "layer4")
    lower, exact = ScoreCAM(precision="bfloat16"), ScoreCAM(precision="float32")
    with torch.no_grad():
        times = interleaved(
            {
                "bfloat16": lambda: lower(network, image, 3),
                "float32": lambda: exact(network, image, 3),
                peers.TORCHCAM: lambda: cam(image, [3]),
            },
            rounds=1,  # of four minutes each
            warm_up=0,
            patience=1,
            least=1,
        )
    cam.close()
    remarks.append(f"score-cam: {times}")
    for precision, bound in (("bfloat16", 3.0), ("float32", 1.3)):
        name = f"score-cam in {precision}, one picture, 2,048 channels"
        yield at_least(name, peers.titled(peers.TORCHCAM), times, peers.TORCHCAM, precision, bound)


def peak() -> Row:
    """The largest resident memory of a process that does nothing but one Score-CAM."""
    done = subprocess.run(
        [sys.executable, "-m", "benchmarks.masks"], check=True, capture_output=True, text=True
    )
    before, most = (float(each) for each in done.stdout.split()[-2:])
    return Row(
        "score-cam of one picture: peak of the process",
        "before the call",
        f"{before:.2f} GB",
        f"{most:.2f} GB",
        "",
        f"< {_PEAK} GB",
        most < _PEAK,
    )


def _setting() -> tuple[Network, Tensor]:
    torch.manual_seed(0)
    network = load("torchvision:resnet50", weights="random", offline=True)
    return network, torch.randn(1, 3, SIZE, SIZE)


def _forwards(module: nn.Module, image: Tensor, count: int, lower: bool = False) -> Callable[[], None]:
    """Bare forwards of so many pictures, as quick as they get: batches, channels-last, inference mode."""
    batch = image.expand(min(count, BATCH), -1, -1, -1).contiguous(memory_format=torch.channels_last)

    def run() -> None:
        with torch.inference_mode(), torch.autocast("cpu", torch.bfloat16, enabled=lower):
            for start in range(0, count, BATCH):
                module(batch[: min(BATCH, count - start)])

    return run


def _gigabytes() -> float:
    """The most memory of this program; `getrusage` would also know that of the one which began it."""
    status = Path("/proc/self/status").read_text().splitlines()
    return next(int(line.split()[1]) * 1024 / 1e9 for line in status if line.startswith("VmHWM"))


if __name__ == "__main__":
    torch.set_num_threads(THREADS)
    keep_memory()
    explained, picture = _setting()
    held = _gigabytes()
    ScoreCAM()(explained, picture, 3)
    print(held, _gigabytes())
