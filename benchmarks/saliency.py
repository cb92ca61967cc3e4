"""The speed of context-aware saliency: photographs, exact, at every second pixel, and as a loop.

`python -m benchmarks saliency` prints it among the others.

The photographs are those under `photos` in the folder that SEEWHY_DATA names; without it, drawn scenes.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from benchmarks.rows import Row, duration
from benchmarks.timing import interleaved
from seewhy import Scenes
from seewhy.evaluation.similarity import spearman
from seewhy.saliency import ContextAwareSaliency
from seewhy.saliency.channels import channels, resized, times
from seewhy.saliency.nearest import mean_of_nearest
from seewhy.saliency.patches import Patches, PatchGrid, around_pixels, sampled

PICTURES, SAMPLE = 2, 401  # every so many pixels' loops are run, and the time multiplied
_EXACT, _SECOND, _FASTER, _ALIKE, _SAME = 6.0, 1.5, 20.0, 0.97, 1e-6
EXACT, SECOND, LOOP = "every pixel", "every second pixel", "loop over patches"


def rows(remarks: list[str]) -> Iterator[Row]:
    """All measurements; how quiet the machine was goes to `remarks`."""
    seconds: dict[str, list[float]] = {EXACT: [], SECOND: [], LOOP: []}
    alike, same = [], []
    for picture in _pictures():
        grids = _grids(picture)
        maps: dict[str, Tensor] = {}

        def run(name: str, method: ContextAwareSaliency, picture: Tensor = picture, maps: Any = maps) -> None:
            maps[name] = method(picture).values.flatten()

        measured = interleaved(
            {
                EXACT: partial(run, EXACT, ContextAwareSaliency()),
                SECOND: partial(run, SECOND, ContextAwareSaliency(query_stride=2)),
                LOOP: partial(_loops, grids),
            },
            rounds=3,
            warm_up=0,
            patience=1,
            least=1,
        )
        for name in seconds:
            seconds[name].append(measured.of[name] * (SAMPLE if name == LOOP else 1))
        remarks.append(str(measured))
        alike.append(float(spearman(maps[EXACT], maps[SECOND])))
        same.append(_difference(*grids[-1]))
    for name, bound in ((EXACT, _EXACT), (SECOND, _SECOND)):
        most = max(seconds[name])
        shown = f"{duration(min(seconds[name]))} to {duration(most)}"
        yield Row(f"one picture, {name}", "", "", shown, "", f"<= {bound:g} s", most <= bound)
    least = min(loop / ours for loop, ours in zip(seconds[LOOP], seconds[EXACT], strict=True))
    yield Row(
        f"one picture, {EXACT}", LOOP, f">= {duration(min(seconds[LOOP]))}", f"<= {duration(max(seconds[EXACT]))}",
        f">= {least:.0f}x faster", f">= {_FASTER:g}x", least >= _FASTER,
    )  # fmt: skip
    yield Row(
        "largest difference of a mean distance",
        LOOP,
        "",
        f"{max(same):.1e}",
        "",
        f"<= {_SAME:g}",
        max(same) <= _SAME,
    )
    yield Row(
        f"rank correlation, {SECOND}",
        EXACT,
        "",
        f">= {min(alike):.4f}",
        "",
        f">= {_ALIKE}",
        min(alike) >= _ALIKE,
    )


def _pictures() -> list[Tensor]:
    files = sorted((Path(os.environ.get("SEEWHY_DATA", "missing")) / "photos").glob("*.JPEG"))
    shown = [
        Image.open(file).convert("RGB") for file in files[:: max(1, len(files) // PICTURES)][:PICTURES]
    ] or [scene.image for scene in Scenes(PICTURES, seed=1)]
    return [torch.from_numpy(np.array(each)).permute(2, 0, 1)[None] / 255 for each in shown]


def _grids(picture: Tensor) -> list[tuple[PatchGrid, Patches]]:
    """Per scale the patches of all pixels, and those that they are compared with."""
    method = ContextAwareSaliency()
    full = channels(picture, "picture", "positive", None, method.longest_side)
    size = full.shape[2:]
    shares = (size[0] / max(size), size[1] / max(size))
    found = []
    for scale in method.scales:
        levels = [scale * level for level in (1, 0.5, 0.25) if scale * level >= 0.2]
        smaller = [resized(full, times(size, level)) for level in levels]
        found.append((around_pixels(smaller[0], shares, 7, 1), sampled(smaller, shares, 7, 3)))
    return found


def _loops(grids: list[tuple[PatchGrid, Patches]]) -> None:
    for queries, others in grids:
        _loop(queries, others)


def _loop(queries: PatchGrid, others: Patches) -> Tensor:
    """The mean distance of every 401st pixel's patch to its nearest, one after the other."""
    method, columns = ContextAwareSaliency(), len(queries.x)
    found = []
    for pixel in range(0, queries.values.shape[1], SAMPLE):
        apart = torch.hypot(queries.y[pixel // columns] - others.y, queries.x[pixel % columns] - others.x)
        distances = (others.values[0] - queries.values[0, pixel]).square().sum(1).sqrt()
        found.append((distances / (1 + method.position * apart)).sort().values[: method.nearest].mean())
    return torch.stack(found)


def _difference(queries: PatchGrid, others: Patches) -> float:
    method = ContextAwareSaliency()
    fast = mean_of_nearest(queries, others, method.nearest, method.position).flatten()[::SAMPLE]
    return float((fast - _loop(queries, others)).abs().max())
