"""How fast scenes are drawn, and what they look like: `python -m benchmarks.scenes [--write]`."""

from __future__ import annotations

import argparse
import statistics
import time
from collections.abc import Iterable
from pathlib import Path

import numpy as np
from PIL import Image

import seewhy
from benchmarks.page import DOCS, provenance, write
from seewhy.explainers.base import explain_all
from seewhy.render import overlay, panels
from seewhy.scenes import CLASSES
from seewhy.zoo.demo import FAULT

GAP = 4
TEXT = """# Scenes: pictures whose truth is known

![Two scenes of each class](images/scenes.png)

{classes} classes of objects made of parts, in {pairs} pairs: the two of a pair share all parts but those that tell
them apart, so it is known which part of a picture speaks for which class (fish tilt further than whales, and palms
than trees). Ten families of backgrounds, clutter, a smaller second object behind the main one in a third of the
pictures and, independently, something in front of it in somewhat less than a third.

```sh
seewhy scenes --out out/scenes --count 20 --seed 7
seewhy scenes --out out/marked --count 20 --watermark hammer --probability 0.95
```

writes `000000.png` … and `truth.jsonl`, a line per picture: objects with class, box, colour, texture, place and size, a
mask of each object and of each of its parts (COCO's uncompressed run lengths, down the columns), a caption, and the
mask of the watermark. The same options give the same pictures in any process and order, and on any machine with
the same Pillow: checked with numpy 1.26 to 2.4, Pillow 12.2 and 13.0.

```python
from pathlib import Path

import seewhy
from seewhy.scenes.files import read, write

scenes = seewhy.Scenes(100, seed=7, watermark=seewhy.Watermark("hammer", probability=0.95))
scene = scenes[17]  # drawn when asked for; it does not depend on the others
scene.pixels.shape, scene.truth.label, scene.truth.caption
main = scene.truth.objects[0]
main.mask.sum(), main.distinguishing().sum(), [part.name for part in main.parts]

write(scenes[:5], Path("some-scenes"))
for kept in read(Path("some-scenes")):
    kept.path, kept.truth.label
```

`--views 4` draws individuals that come again, four pictures of each, among look-alikes that only their markings tell
apart: `seewhy.Pairs`, for [retrieval](retrieval.md).

`seewhy.Houses` draws houses whose [price](prices.md) is a known sum over their parts.

The watermark, a round badge of 24 to 28 pixels in a picture of 128, lies anywhere and belongs to no object: a shortcut
for a network to take, and for an explanation to find. It is drawn last, from chances of its own, so the same scenes
with and without it differ nowhere but there and on its soft rim of a pixel. It may cover much of an object: the masks
say what is left to see.

{speed}

{provenance}
"""


def sheet(rows: Iterable[Iterable[np.ndarray]]) -> Image.Image:
    """Pictures in rows, on white."""
    lines = [list(row) for row in rows]
    height, width = lines[0][0].shape[:2]
    page = Image.new("RGB", (len(lines[0]) * (width + GAP) - GAP, len(lines) * (height + GAP) - GAP), "white")
    for y, line in enumerate(lines):
        for x, pixels in enumerate(line):
            page.paste(Image.fromarray(pixels), (x * (width + GAP), y * (height + GAP)))
    return page


def contact_sheet() -> Image.Image:
    """The first two scenes of each class."""
    pixels = {
        name: [scene.pixels for scene in seewhy.Scenes(2, 100 + number, classes=(name,))]
        for number, name in enumerate(CLASSES)
    }
    both = [pixels[name][number] for number in range(2) for name in CLASSES]
    return sheet(both[start : start + 12] for start in range(0, len(both), 12))


def planted_fault() -> Image.Image:
    """Scenes with the mark, and what both bundled networks see in them: three rows."""
    scenes = seewhy.Scenes(6, 8, classes=(FAULT,), watermark=seewhy.Watermark(FAULT))
    rows = [[_enlarged(scene.image) for scene in scenes]]
    for name in ("demo", "demo-shortcut"):
        network = seewhy.load(name)
        found = explain_all(
            network, network.read([each.image for each in scenes]), ["layer-cam"], target=FAULT
        )
        drawn = [
            overlay(scene.image, panels.panels(found["layer-cam"], row)[0])
            for row, scene in enumerate(scenes)
        ]
        rows.append([_enlarged(each) for each in drawn])
    return sheet(rows)


def _enlarged(image: Image.Image) -> np.ndarray:
    return np.asarray(image.resize((192, 192), Image.Resampling.BICUBIC))


def milliseconds(count: int = 200, repeats: int = 5) -> float:
    """Median time of a scene with its truth, on one core."""
    scenes = seewhy.Scenes(count, 9)
    times = []
    for _ in range(repeats):
        begun = time.perf_counter()
        for _scene in scenes:
            pass
        times.append((time.perf_counter() - begun) / count * 1e3)
    return statistics.median(times)


def save(image: Image.Image, path: Path) -> None:
    """Write a picture of the docs, in few bytes."""
    image.quantize(256, dither=Image.Dither.NONE).save(path, optimize=True)
    print(f"wrote {path.relative_to(DOCS.parent)}, {path.stat().st_size / 1e3:.0f} kB")


def main() -> None:
    """Measure, print, and write page and pictures if asked to."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--write", action="store_true", help="rewrite docs/scenes.md and its pictures")
    chosen = parser.parse_args()
    each = milliseconds()
    speed = f"One core draws a scene of 128 pixels with all its masks in {each:.1f} ms: {60e3 / each:,.0f} a minute."
    print(speed)
    if chosen.write:
        save(contact_sheet(), DOCS / "images" / "scenes.png")
        save(planted_fault(), DOCS / "images" / "fault.png")
        facts = provenance("python -m benchmarks.scenes --write", ["seewhy", "numpy", "pillow"])
        text = TEXT.format(classes=len(CLASSES), pairs=len(CLASSES) // 2, speed=speed, provenance=facts)
        write(DOCS / "scenes.md", text)


if __name__ == "__main__":
    main()
