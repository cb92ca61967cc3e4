"""Whether anything stays behind: resident memory over thousands of calls (`python -m benchmarks.memory`)."""

from __future__ import annotations

import gc
import json
import os
import subprocess
import sys
from pathlib import Path

import torch
from torch import nn

CALLS = 5_000
STEP = 500
METHODS = ("cam", "grad-cam", "grad-cam++", "x-grad-cam", "hires-cam", "layer-cam", "eigen-cam")


def resident() -> int:
    """Bytes of this process that are in memory."""
    pages = int(Path("/proc/self/statm").read_text().split()[1])
    return pages * os.sysconf("SC_PAGE_SIZE")


def measure(calls: int = CALLS, step: int = STEP) -> list[int]:
    """Resident bytes after every `step` calls of the seven methods in turn on a small network."""
    from seewhy import Network, make

    torch.set_num_threads(2)
    torch.manual_seed(0)
    module = nn.Sequential(
        nn.Conv2d(3, 16, 3, stride=2), nn.ReLU(), nn.Conv2d(16, 32, 3), nn.ReLU(),
        nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(32, 10),
    ).eval()  # fmt: skip
    network, explainers = Network(module), [make(name) for name in METHODS]
    images = torch.randn(64, 2, 3, 32, 32)
    sizes = []
    for call in range(1, calls + 1):
        explainers[call % len(explainers)](network, images[call % 64])
        if call % step == 0:
            gc.collect()
            sizes.append(resident())
    return sizes


def measured_alone() -> list[int]:
    """The same in a process of its own, which holds nothing else."""
    done = subprocess.run(
        [sys.executable, "-m", "benchmarks.memory"], check=True, capture_output=True, text=True
    )
    sizes: list[int] = json.loads(done.stdout.splitlines()[-1])
    return sizes


if __name__ == "__main__":
    print(json.dumps(measure()))
