"""`python -m benchmarks` prints the speed table; `--write` also puts it into docs/speed.md."""

from __future__ import annotations

import argparse
import sys
from itertools import chain

import torch

from benchmarks import cam_family, masks, memory, page
from benchmarks.rows import HEAD
from benchmarks.timing import THREADS


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m benchmarks", description=__doc__)
    parser.add_argument("--write", action="store_true", help="write docs/speed.md")
    write = parser.parse_args().write
    torch.set_num_threads(THREADS)
    remarks: list[str] = []
    found = []
    measured = cam_family.rows(cam_family.setting(), remarks), masks.rows(remarks), memory.rows()
    for row in chain(*measured):
        print(" | ".join(cell for cell in row.cells if cell), file=sys.stderr, flush=True)
        found.append(row)
    made = page.table(HEAD, [row.cells for row in found])
    print(made)
    print("\n".join(remarks))
    if write:
        page.write(page.DOCS / "speed.md", _text(made, remarks))
    return 0 if all(row.holds is not False for row in found) else 1


def _text(made: str, remarks: list[str]) -> str:
    packages = ["torch", "torchvision", "seewhy", "grad-cam", "torchcam", "captum"]
    quiet = "\n".join(f"* {each}" for each in remarks)
    return f"""# Speed

ResNet-50 with random weights, {cam_family.BATCH} pictures of 224 x 224, `layer4`. The yardstick is one
forward of the same batch: float32, contiguous NCHW, eval mode, no graph. Candidates are run in turns and each
figure is the median of its rounds; a call includes everything from the tensor of pictures to the maps. Ours
includes the upsampled heatmaps where packages are compared, although torchcam and captum stop at the layer's
grid.

A network as it comes has trainable parameters; then pytorch-grad-cam also computes their gradients. A frozen
one needs pictures that require a gradient, or there is no graph at all; pytorch-grad-cam then differentiates
down to the pictures. torchcam and captum, like us, differentiate to the layer only.

Methods of many forwards explain one picture. Bare forwards in bfloat16 are the quickest there are on this
processor: batches of {masks.BATCH}, channels-last, inference mode. RISE includes making its masks.

Memory: {memory.CALLS:,} calls of each method, each in a process of its own, those of many forwards with few.

{page.provenance("python -m benchmarks --write", packages)}

{made}

Rounds during which other processes used more than 5 % of the processor are repeated for up to two minutes:

{quiet}
"""


if __name__ == "__main__":
    raise SystemExit(main())
