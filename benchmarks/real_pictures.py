"""How far maps can be trusted on real photographs: `python -m benchmarks.real_pictures --write` writes the page.

All methods on ImageNet pictures with boxes and MobileNetV2, some two hours on two quiet cores, kept under `--out` and
resumed; then docs/real-pictures.md.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

from benchmarks import page
from benchmarks.subjects import data
from seewhy import cli, registry
from seewhy.evaluation.campaign import SAMPLE
from seewhy.evaluation.report import table, tables
from seewhy.evaluation.standings import clearly_differs
from seewhy.render.markdown import markdown_table

# Methods of many forwards get fewer than by default: all of them, for every picture, must fit an evening.
SETTINGS = {
    "score-cam": "channels=64",
    "rise": "masks=128",
    "occlusion": "window=56,stride=28",
    "integrated-gradients": "steps=8",
    "integrated-grad-cam": "steps=10",
    "rsi-grad-cam": "steps=10",
    "layer-integrated-gradients": "steps=10",
    "smooth-grad": "samples=8",
    "crisp-mask": "smooth=40,sharp=20",
}
# Of these it is asked whether they depend on the weights.
RANDOMISED = (
    "grad-cam", "grad-cam++", "layer-cam", "eigen-cam", "gradient", "guided-backprop", "group-cam",
    "integrated-grad-cam",
)  # fmt: skip
METRICS = (
    "insertion-deletion:rows=16", "average-drop", "increase-in-confidence", "energy-pointing-game", "bbox-share",
    "pointing-game", "max-box-acc", "localisation-error", "px-ap", "sparseness", "entropy",
)  # fmt: skip
# Claims of papers, as differences that should be above zero.
CLAIMS = (
    ("group-cam", "insertion-deletion", "Group-CAM above Grad-CAM on insertion minus deletion (Zhang et al., 2021)"),
    ("integrated-grad-cam", "energy-pointing-game", "Integrated Grad-CAM above Grad-CAM on the energy-based pointing "
     "game (Sattarzadeh et al., 2021)"),
    ("integrated-grad-cam", "bbox-share", "Integrated Grad-CAM above Grad-CAM on the bounding box share (the same)"),
)  # fmt: skip


def commands(out: Path) -> dict[str, list[str]]:
    """What is run, by the folder below `out` that keeps it."""
    methods = _spelt(entry.name for entry in registry.explainers() if not entry.requires)
    weights = data() / "weights" / "imagenet_torchvision_mobilenet_v2.safetensors"
    common = [
        "evaluate", str(data() / "imagenet-val"), "--model", "torchvision:mobilenet_v2", "--weights", str(weights),
        "--precision", "auto",
    ]  # fmt: skip
    return {
        "pictures": [
            *common, "--methods", methods, "--metrics", ",".join(METRICS), "--samples", "40", "--strict",
            "--out", str(out / "pictures"),
        ],
        "mosaics": [
            *common, "--methods", methods, "--metrics", "grid-pointing", "--samples", "80",
            "--out", str(out / "mosaics"),
        ],
        "sanity": [
            *common, "--methods", _spelt(RANDOMISED), "--metrics", "sparseness,randomisation", "--samples", "30",
            "--out", str(out / "sanity"),
        ],
    }  # fmt: skip


def _spelt(methods: Iterable[str]) -> str:
    return ",".join(f"{name}:{SETTINGS[name]}" if name in SETTINGS else name for name in methods)


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.real_pictures", description=__doc__)
    parser.add_argument("--out", type=Path, default=Path("out/real-pictures"), help="where all is kept")
    parser.add_argument("--only", nargs="*", help="pictures, mosaics, sanity; the others are left out")
    parser.add_argument("--write", action="store_true", help="write docs/real-pictures.md")
    chosen = parser.parse_args()
    found = {}
    for name, command in commands(chosen.out).items():
        if chosen.only and name not in chosen.only:
            continue
        if code := cli.run(command):
            return code
        found[name] = json.loads((chosen.out / name / "evaluation.json").read_text())
    text = "\n".join(_text(found))
    if chosen.write:
        page.write(page.DOCS / "real-pictures.md", text)
    else:
        print(text)
    return 0


def _text(found: Mapping[str, Any]) -> Iterator[str]:
    first = next(iter(found.values()))
    yield "# Real pictures: what the maps of a trained network are worth\n"
    yield (
        "MobileNetV2 (torchvision's architecture, trained on ImageNet) on pictures of the ImageNet validation set with "
        f"boxes, which were squashed to 227 x 227 beforehand. Explained for their {first['target']}; forwards in "
        "bfloat16 where the processor is faster at it. Methods of many forwards got fewer than by default: "
        + ", ".join(f"`{name}:{text}`" for name, text in SETTINGS.items())
        + ".\n"
    )
    yield (
        page.provenance("python -m benchmarks.real_pictures --write", ["torch", "torchvision", "seewhy"])
        + "\n"
    )
    yield (
        "95 % bootstrap intervals over pictures; #1 ranks first of the methods. In brackets, maps that know nothing of "
        "the decision: noise on the layer's grid, a centred Gaussian, the centre, the layer's mean activation. † "
        "clearly differs from Grad-CAM (paired, Holm-adjusted over the column). Objects "
        "fill the middle of these pictures, where nothing beats the centre: mind the tables of small boxes.\n"
    )
    for name, results in found.items():
        if name == "sanity":  # of which only the verdicts are shown
            continue
        for part, subset, title in tables(results):
            yield f"## {title[0].upper()}{title[1:]}\n"
            yield markdown_table(*table(part, subset, results["controls"])) + "\n"
        for metric in (each for part in results["parts"] for each in part["metrics"]):
            yield f"* {metric['title']}: {metric['protocol']}"
        yield ""
    if "pictures" in found:
        yield from _claims(found["pictures"])
    if found.get("sanity", {}).get("sanity"):
        yield from _sanity(found["sanity"]["sanity"])
    left = {name: why for results in found.values() for name, why in results["left_out"].items()}
    left |= {
        n: w for results in found.values() for part in results["parts"] for n, w in part["refused"].items()
    }
    if left:
        yield "## Left out\n"
        yield from (f"* {name}: {why}" for name, why in left.items())


def _claims(results: Mapping[str, Any]) -> Iterator[str]:
    yield "## Claims of the papers\n"
    rows = []
    for method, metric, claim in CLAIMS:
        for part in results["parts"]:
            for subset, found in part["tables"].items():
                cell = found.get(method, {}).get(metric, {})
                if (against := cell.get("against")) and subset != SAMPLE:
                    says = "holds" if against["difference"] > 0 else "the opposite"
                    difference = (
                        f"{against['difference']:+.4f} [{against['low']:+.4f}, {against['high']:+.4f}]"
                    )
                    found_here = says if clearly_differs(cell) else "not decided"
                    rows.append([claim, subset, difference, f"{against['p']:.4f}", found_here])
    yield markdown_table(["claim", "pictures", "difference", "p (Holm)", "here"], rows) + "\n"
    yield "Decided, as † is, where the interval excludes zero and p, adjusted over all methods, is below 0.05.\n"


def _sanity(sanity: Mapping[str, Any]) -> Iterator[str]:
    yield "## Maps of the same network with random weights\n"
    yield f"{sanity['pictures']} pictures, {len(sanity['seeds'])} seeds, {len(sanity['stages'])} stages.\n"
    yield from (f"* `{name}`: {own['verdict']['text']}" for name, own in sanity["methods"].items())
    yield ""


if __name__ == "__main__":
    raise SystemExit(main())
