"""Whether anything stays behind: resident memory over thousands of calls of every method.

`python -m benchmarks.memory` prints them all, some 20 minutes; `python -m benchmarks.memory METHOD` one method's.
"""

from __future__ import annotations

import gc
import json
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import torch
from torch import nn

from benchmarks.rows import Row
from seewhy import registry

CALLS = 5_000
STEP = 500
BOUND = 0.01
# What takes hundreds of forwards by default leaves the same behind with few.
SMALL: dict[str, dict[str, Any]] = {
    "crisp-mask": {"smooth": 4, "sharp": 2},
    "score-cam": {"channels": 4},
    "group-cam": {"groups": 4},
    "rise": {"masks": 4},
    "occlusion": {"window": 16, "stride": 16},
    "integrated-gradients": {"steps": 2},
    "integrated-grad-cam": {"steps": 2},
    "rsi-grad-cam": {"steps": 2},
    "layer-integrated-gradients": {"steps": 2},
    "smooth-grad": {"samples": 2},
    "salient-relevance": {
        "saliency": {"mode": "relevance", "longest_side": 16, "scales": (1,), "patch": (3,), "nearest": 4}
    },
}


def resident() -> int:
    """Bytes of this process that are in memory."""
    pages = int(Path("/proc/self/statm").read_text().split()[1])
    return pages * os.sysconf("SC_PAGE_SIZE")


def measure(method: str, calls: int = CALLS, step: int = STEP) -> list[int]:
    """Resident bytes after every `step` calls of a method on a small network."""
    from seewhy import Network, make

    torch.set_num_threads(1)
    torch.manual_seed(0)
    module = nn.Sequential(
        nn.Conv2d(3, 16, 3, stride=2), nn.ReLU(), nn.Conv2d(16, 32, 3), nn.ReLU(),
        nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(32, 10),
    ).eval()  # fmt: skip
    network, explainer = Network(module), make(method, **SMALL.get(method, {}))
    images = torch.randn(64, 2, 3, 32, 32)
    sizes = []
    for call in range(1, calls + 1):
        explainer(network, images[call % 64])
        if call % step == 0:
            gc.collect()
            sizes.append(resident())
    return sizes


def rows() -> Iterator[Row]:
    """Every method in a process of its own, which holds nothing else."""
    for entry in (each for each in registry.explainers() if not each.requires):
        done = subprocess.run(
            [sys.executable, "-m", "benchmarks.memory", entry.name],
            check=True,
            capture_output=True,
            text=True,
        )
        sizes: list[int] = json.loads(done.stdout.splitlines()[-1])
        change = max(sizes) / sizes[0] - 1
        yield Row(
            f"{entry.name}: resident memory, call {STEP} to {CALLS} on a small network",
            f"call {STEP}",
            f"{sizes[0] / 2**20:.1f} MiB",
            f"{sizes[-1] / 2**20:.1f} MiB",
            f"{change:+.2%} at most",
            f"within {BOUND:.0%}",
            change <= BOUND,
        )


if __name__ == "__main__":
    if len(sys.argv) > 1:
        print(json.dumps(measure(sys.argv[1])))
    else:
        for row in rows():
            print(" | ".join(row.cells), flush=True)
