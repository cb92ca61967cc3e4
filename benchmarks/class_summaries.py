"""Summaries of classes of photographs: `python -m benchmarks.class_summaries --write` writes them into the docs.

MobileNetV2 with ImageNet weights. Masks take most of the time, some minutes a class on one core. All is kept under
`--out` and resumed; `--only` runs some classes, so that they can be run one after the other.
"""

from __future__ import annotations

import argparse
import json
import shutil
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from PIL import Image

from benchmarks import page
from benchmarks.subjects import data, trained_network
from seewhy import CrispMask
from seewhy.datasets import read
from seewhy.network.memory import keep_memory
from seewhy.render.markdown import markdown_table
from seewhy.render.sheet import sheet
from seewhy.summaries.display import TILE, member, one_per_picture
from seewhy.summaries.proposals import Proposals
from seewhy.summaries.result import Summaries
from seewhy.summaries.summarize import Recipe, summarize

MODULE = "benchmarks.class_summaries"
RECIPE = Recipe(mask=CrispMask(smooth=60, sharp=30), proposals=Proposals(kind="windows"))
PICTURES, BATCH = 40, 16
SHOWN, ACROSS = 3, 8  # summaries, and members of each, in the docs' picture


@dataclass(frozen=True)
class Class:
    """Pictures of one class.

    Attributes:
        folder: below SEEWHY_DATA.
        label: of the pictures, as their folder is called.
        target: of the network.
    """

    folder: str
    label: str
    target: str


CLASSES = tuple(
    Class(*each)
    for each in (
        ("ants-bees/train", "ants", "ant"),
        ("ants-bees/train", "bees", "bee"),
        ("caltech20", "Leopards", "leopard"),
        ("caltech20", "grand_piano", "grand piano"),
        ("caltech20", "starfish", "starfish"),
        ("caltech20", "trilobite", "trilobite"),
        ("caltech20", "ketch", "schooner"),
        ("caltech20", "kangaroo", "wallaby"),
    )
)


def measured(asked: Class, out: Path) -> Mapping[str, Any]:
    """The summaries of one class as JSON, with a picture of the first one's members, unless they are kept."""
    kept = out / f"{asked.label}.json"
    if not kept.exists():
        began = time.perf_counter()

        def progress(stage: str, done: int, total: int) -> None:
            print(f"{asked.label}: {stage} {done}/{total}, {time.perf_counter() - began:.0f} s", flush=True)

        found = summarize(
            trained_network(), read(data() / asked.folder), asked.label, out / "store", RECIPE,
            target=asked.target, pictures=PICTURES, batch=BATCH, progress=progress,
        )  # fmt: skip
        if found.summaries:
            shown(found).save(out / f"{asked.label}.webp", quality=70)
        kept.write_text(json.dumps(found.to_json()))
    values: Mapping[str, Any] = json.loads(kept.read_text())
    return values


def shown(found: Summaries) -> Image.Image:
    """Members of the first summaries, each in a row."""
    rows = [one_per_picture(each.members, ACROSS) for each in found.summaries[:SHOWN]]
    return sheet([[member(found.subjects[each.subject], each) for each in row] for row in rows], TILE)


def text(every: Sequence[Mapping[str, Any]]) -> Iterator[str]:
    """What the page says of all classes, by paragraphs."""
    yield page.provenance(f"python -m {MODULE} --write", ["torch", "torchvision", "seewhy"])
    classes = "class|pictures|taken for something else|regions|clusters|95 % interval|that count|completeness"
    yield markdown_table(classes.split("|"), [_class_row(each) for each in every])
    summaries = (
        "class|summary|pictures|importance|drop (at random places)|alone keeps (same)|chance|stability|counts"
    )
    rows = [_summary_row(each["class"], own) for each in every for own in each["summaries"]]
    yield markdown_table(summaries.split("|"), rows)


def _class_row(found: Mapping[str, Any]) -> list[str]:
    low, high = found["count_interval"]
    regions = len(found["rest"]) + sum(len(each["members"]) for each in found["summaries"])
    return [
        found["class"], str(len(found["pictures"])), str(len(found["skipped"])), str(regions),
        str(len(found["summaries"])), f"{low} to {high}", str(found["count"]), f"{found['completeness']:.0%}",
    ]  # fmt: skip


def _summary_row(label: str, summary: Mapping[str, Any]) -> list[str]:
    effect = summary["effect"]
    return [
        label, str(summary["number"]), str(summary["pictures"]), f"{summary['importance']:.2f}",
        f"{effect['drop']:.2f} ({effect['control']:.2f})", f"{effect['kept']:.2f} ({effect['kept_control']:.2f})",
        f"{effect['chance']:.2g}", f"{summary['stability']:.2f}", "yes" if summary["significant"] else "no",
    ]  # fmt: skip


def main() -> int:
    parser = argparse.ArgumentParser(prog=f"python -m {MODULE}", description=__doc__)
    parser.add_argument("--out", type=Path, default=Path("out/class-summaries"), help="where all is kept")
    parser.add_argument("--only", nargs="*", help="labels of classes; all by default")
    parser.add_argument("--write", action="store_true", help="write the tables and pictures of the docs")
    chosen = parser.parse_args()
    keep_memory()
    wanted = [each for each in CLASSES if not chosen.only or each.label in chosen.only]
    said = "\n\n".join(text([measured(each, chosen.out) for each in wanted]))
    if chosen.write:
        for each in wanted:
            if (chosen.out / f"{each.label}.webp").exists():
                shutil.copy(
                    chosen.out / f"{each.label}.webp", page.DOCS / f"images/summary-{each.label}.webp"
                )
        page.insert(page.DOCS / "summaries.md", MODULE, said)
    else:
        print(said)
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
