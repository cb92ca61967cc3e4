"""What bfloat16 changes: `python -m benchmarks.precision --write` measures it and writes docs/precision.md.

50 photographs and two trained networks, some 20 minutes on two quiet cores.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from scipy.stats import spearmanr

from benchmarks import page
from benchmarks.oracle import Array
from benchmarks.subjects import Subject, trained
from benchmarks.timing import THREADS
from seewhy import Explainer, make, registry
from seewhy.errors import NotApplicableError
from seewhy.network.precision import fast_in_bfloat16
from seewhy.render.markdown import markdown_table

PICTURES = 50
CHUNK = 10
# Fewer forwards than by default: rounding averages out over them, so that the agreement is, if anything, lower.
SETTINGS: dict[str, dict[str, int]] = {
    "score-cam": {"channels": 128},
    "rise": {"masks": 100},
    "occlusion": {"window": 32, "stride": 32},
    "crisp-mask": {"smooth": 40, "sharp": 20},
}
AGREES = 0.99
TOP = 0.01  # of the pixels


@dataclass(frozen=True)
class Agreement:
    """Per picture, how far the map in bfloat16 agrees with the one in float32.

    Attributes:
        network: whose decision is explained.
        method: by which method.
        correlation: Spearman's, over all pixels of the evidence.
        overlap: share of the 1 % highest pixels that are the same.
        empty: pictures left out, as one of the maps has no evidence.
    """

    network: str
    method: str
    correlation: list[float]
    overlap: list[float]
    empty: int

    @property
    def cells(self) -> list[str]:
        """The line of the table."""
        return [
            self.network,
            f"`{self.method}`",
            f"{np.median(self.correlation):.4f}",
            f"{min(self.correlation):.3f}",
            f"{sum(each < AGREES for each in self.correlation)} of {len(self.correlation)}",
            f"{np.median(self.overlap):.1%}",
            f"{min(self.overlap):.0%}",
            str(self.empty),
        ]


def methods() -> Iterator[Explainer]:
    """Every method that can be asked for bfloat16."""
    for entry in (each for each in registry.explainers() if not each.requires):
        kind = registry.explainer(entry.name)
        if "precision" in kind.model_fields:
            yield make(entry.name, **SETTINGS.get(entry.name, {}))


def measured(subject: Subject, explainer: Explainer) -> Agreement:
    """One method on all pictures."""
    correlation, overlap, empty = [], [], 0
    for start in range(0, len(subject.images), CHUNK):
        part = slice(start, start + CHUNK)
        maps = []
        for precision in ("float32", "bfloat16"):
            chosen = explainer.model_copy(update={"precision": precision})
            found = chosen(subject.network, subject.images[part], subject.classes[part])
            maps.append(np.asarray(found.evidence()[:, 0].flatten(1).double()))
        for exact, rough in zip(*maps, strict=True):
            if exact.std() == 0 or rough.std() == 0:
                empty += 1
                continue
            correlation.append(float(spearmanr(exact, rough).statistic))
            overlap.append(_overlap(exact, rough))
    return Agreement(subject.title, explainer.name, correlation, overlap, empty)


def _overlap(one: Array, other: Array) -> float:
    count = round(TOP * one.size)
    highest = [set(np.argpartition(each, -count)[-count:].tolist()) for each in (one, other)]
    return len(highest[0] & highest[1]) / count


def text(rows: Sequence[Agreement]) -> str:
    """The page."""
    table = markdown_table(
        [
            "network",
            "method",
            "Spearman",
            "lowest",
            "under 0.99",
            "top 1 % in common",
            "lowest",
            "no evidence",
        ],
        [row.cells for row in rows],
    )
    return f"""# Number formats

The forwards of Score-CAM, RISE and occlusion, and the trunk of the CAM family, can run in bfloat16, which
processors with AMX or AVX512-BF16 and recent GPUs multiply faster. Scores, softmax and sums are float32 or
float64 all the same.

Below, {PICTURES} photographs, the class that the network predicts in float32; Score-CAM of the 128 channels that vary
most, RISE with 100 masks, occlusion with 49 windows, crisp masks in 60 steps, all fewer than by default: rounding
averages out over forwards.
Compared is the evidence at the picture's size: Spearman's rank correlation over its pixels, and the share of
the 1 % highest pixels that both maps have in common; medians over the pictures, and the lowest.

{page.provenance("python -m benchmarks.precision --write", ["torch", "torchvision", "seewhy"])}
The processor is {"" if fast_in_bfloat16("cpu") else "not "}fast in bfloat16.

{table}

Where the median falls under {AGREES} on either network float32 is the method's default, as it is for occlusion: a
window's loss is a small difference of two scores, and bfloat16 keeps 8 bits of each. The gradient CAM family gains
little, as it runs the trunk once, and has float32 as its default too.
"""


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.precision", description=__doc__)
    parser.add_argument("--write", action="store_true", help="write docs/precision.md")
    write = parser.parse_args().write
    torch.set_num_threads(THREADS)
    rows = []
    for subject in trained(PICTURES):
        for explainer in methods():
            try:
                row = measured(subject, explainer)
            except NotApplicableError:
                continue
            print(*row.cells, sep=" | ", file=sys.stderr, flush=True)
            rows.append(row)
    made = text(rows)
    if write:
        page.write(page.DOCS / "precision.md", made)
    else:
        print(made)


if __name__ == "__main__":
    main()
