"""Do the methods lie where the truth is? `python -m benchmarks.planted [--write]`."""

from __future__ import annotations

import argparse
from dataclasses import replace

import seewhy
from benchmarks.page import DOCS, provenance, write
from seewhy import registry
from seewhy.zoo.demo import FAULT, MARK

SEED = 6  # of no training and of no card
MANY_FORWARDS = (
    *("score-cam", "group-cam", "integrated-grad-cam", "rsi-grad-cam", "layer-integrated-gradients"),
    *(
        "rise:masks=1000",
        "occlusion",
        "crisp-mask",
        "integrated-gradients",
        "smooth-grad",
        "salient-relevance",
    ),
)
TEXT = """# Planted truth: do maps lie where the evidence is?

On [scenes](scenes.md) it is known to the pixel where the evidence for a class is. `seewhy.planted_truth` explains each
picture for its main object's true class and reads the map as metrics do: rectified, upsampled, not scaled.

```python
import seewhy

network = seewhy.load("demo")
table = seewhy.planted_truth(["grad-cam", "layer-cam"], network, seewhy.Scenes(40, seed=6))
print(table)  # mean ± standard error, methods first, then maps that know nothing
table["grad-cam"].mean("object")
table.advantage("grad-cam", "centred-gaussian", "pointing")  # paired difference and its standard error
```

* **pointing**: the map's highest pixel lies on the object (a mask, no tolerance; a map without evidence misses).
* **object**: share of the positive evidence on the object.
* **parts**: share of it on the parts that tell the class from its nearest other: a cat's ears and tail, not its body.
  A network may know a class by more than these, so this is a comparison between methods, not a mark out of one.
* **shortcut**: share of it on the watermark.

Maps that know nothing stand below, in italics: noise on the layer's grid, a Gaussian in the picture's centre (sigma a
quarter of the side), the centre pixel (as a map a cone, closeness to it), the mean activation of the layer, which
is asked nothing, and a constant map, whose shares are those of area and which points at the centre.

## The clean network, {count} scenes

{clean}

{slow}

The second table is of the first {slow_scenes} scenes, for {slow_count} methods that take many forwards per picture
(RISE with 1,000 masks; all else as by default), with Grad-CAM for comparison.

`demo` names {clean_accuracy:.1%} of the {count} scenes right. On a network that ends in pooling and one linear layer,
CAM, Grad-CAM, XGrad-CAM and HiResCAM are the same map up to a factor; they agree here as they must.

## The network with the planted fault, {marked} scenes of its class, all with the watermark

{fault}

The mark covers {area:.1%} of a picture. For comparison, the clean network on the same scenes:

{innocent}

{provenance}
"""


def main() -> None:
    """Measure, print, and write the page if asked to."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--write", action="store_true", help="rewrite docs/planted-truth.md")
    parser.add_argument("--count", type=int, default=500)
    chosen = parser.parse_args()
    slow_names = {each.partition(":")[0] for each in MANY_FORWARDS}
    methods = [
        entry.name for entry in registry.explainers() if entry.name not in slow_names and not entry.requires
    ]
    own = seewhy.Scenes(100, SEED, classes=(FAULT,), watermark=replace(MARK, probability=1.0))
    clean = seewhy.planted_truth(methods, seewhy.load("demo"), seewhy.Scenes(chosen.count, SEED))
    few = seewhy.Scenes(min(100, chosen.count), SEED)
    slow = seewhy.planted_truth(["grad-cam", *MANY_FORWARDS], seewhy.load("demo"), few)
    innocent = seewhy.planted_truth(methods, seewhy.load("demo"), own)
    fault = seewhy.planted_truth(methods, seewhy.load("demo-shortcut"), own)
    for title, found in (
        ("demo", clean),
        ("demo, many forwards", slow),
        ("demo, marked", innocent),
        ("demo-shortcut, marked", fault),
    ):
        print(f"{title}: accuracy {found.accuracy:.3f} of {found.pictures}\n{found}\n")
    if chosen.write:
        text = TEXT.format(
            count=f"{clean.pictures:,}",
            clean=clean,
            slow=slow,
            slow_count=len(MANY_FORWARDS),
            slow_scenes=slow.pictures,
            clean_accuracy=clean.accuracy,
            marked=fault.pictures,
            fault=fault,
            innocent=innocent,
            area=fault["constant"].mean("shortcut"),
            provenance=provenance("python -m benchmarks.planted --write", ["seewhy", "torch", "numpy"]),
        )
        write(DOCS / "planted-truth.md", text)


if __name__ == "__main__":
    main()
