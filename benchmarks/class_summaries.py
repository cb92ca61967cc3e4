"""Summaries of classes of photographs: `python -m benchmarks.class_summaries --write` writes them into the docs.

MobileNetV2 with ImageNet weights. Masks take most of the time, some minutes a class on one core; they are kept under
`--out` and resumed. `--only` runs some classes, so that they can be run one after the other.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from PIL import Image

from benchmarks import page
from benchmarks.subjects import data, trained_network
from seewhy import CrispMask, Network
from seewhy.cli.memory import keep_memory
from seewhy.datasets import read
from seewhy.render.markdown import markdown_table
from seewhy.summaries.display import one_per_picture, side_by_side
from seewhy.summaries.proposals import Proposals
from seewhy.summaries.result import Summaries, Summary
from seewhy.summaries.summarize import Recipe, summarize

MODULE = "benchmarks.class_summaries"
RECIPE = Recipe(mask=CrispMask(smooth=60, sharp=30), proposals=Proposals(kind="windows"))
PICTURES, BATCH, SHOWN = 40, 16, 8


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


def found(network: Network, asked: Class, out: Path) -> Summaries:
    """The summaries of one class, from the masks that are kept and those that are not yet."""
    began = time.perf_counter()

    def progress(stage: str, done: int, total: int) -> None:
        print(f"{asked.label}: {stage} {done}/{total}, {time.perf_counter() - began:.0f} s", flush=True)

    return summarize(
        network, read(data() / asked.folder), asked.label, out / "store", RECIPE,
        target=asked.target, pictures=PICTURES, batch=BATCH, progress=progress,
    )  # fmt: skip


def text(every: Sequence[Summaries]) -> Iterator[str]:
    """What the page says of all classes, by paragraphs."""
    yield page.provenance(f"python -m {MODULE} --write", ["torch", "torchvision", "seewhy"])
    classes = "class|pictures|taken for something else|regions|clusters|95 % interval|that count|completeness"
    yield markdown_table(classes.split("|"), [_class_row(each) for each in every])
    summaries = (
        "class|summary|pictures|importance|drop (at random places)|alone keeps (same)|chance|stability|counts"
    )
    rows = [_summary_row(each, place, own) for each in every for place, own in enumerate(each.summaries, 1)]
    yield markdown_table(summaries.split("|"), rows)


def shown(found: Summaries, place: int = 0) -> Image.Image:
    """Members of one of the summaries in one row."""
    return side_by_side(found.subjects, one_per_picture(found.summaries[place].members, SHOWN), SHOWN)


def _class_row(found: Summaries) -> list[str]:
    regions = len(found.rest) + sum(len(each.members) for each in found.summaries)
    low, high = found.interval
    return [
        found.label, str(len(found.subjects)), str(len(found.skipped)), str(regions), str(len(found.summaries)),
        f"{low} to {high}", str(len(found)), f"{found.completeness:.0%}",
    ]  # fmt: skip


def _summary_row(found: Summaries, place: int, summary: Summary) -> list[str]:
    effect = summary.effect
    return [
        found.label, str(place), str(summary.pictures), f"{summary.importance:.2f}",
        f"{effect.drop:.2f} ({effect.control:.2f})", f"{effect.kept:.2f} ({effect.kept_control:.2f})",
        f"{effect.chance:.2g}", f"{summary.stability:.2f}", "yes" if summary.significant else "no",
    ]  # fmt: skip


def main() -> int:
    parser = argparse.ArgumentParser(prog=f"python -m {MODULE}", description=__doc__)
    parser.add_argument("--out", type=Path, default=Path("out/class-summaries"), help="where masks are kept")
    parser.add_argument("--only", nargs="*", help="labels of classes; all by default")
    parser.add_argument("--write", action="store_true", help="write the tables and pictures of the docs")
    chosen = parser.parse_args()
    keep_memory()
    network = trained_network()
    every = [
        found(network, each, chosen.out) for each in CLASSES if not chosen.only or each.label in chosen.only
    ]
    said = "\n\n".join(text(every))
    if chosen.write:
        for each in every:
            if each.summaries:
                file = page.DOCS / f"images/summary-{each.label.replace(' ', '-')}.webp"
                shown(each).save(file, quality=70)
        page.insert(page.DOCS / "summaries.md", MODULE, said)
    else:
        print(said)
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
