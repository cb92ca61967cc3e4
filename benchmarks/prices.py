"""What makes a price: `python -m benchmarks.prices [SECTION ...] --write` writes docs/prices.md and its pictures."""

from __future__ import annotations

import argparse
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from tempfile import TemporaryDirectory

import torch

from benchmarks import drawn_houses, page, sold_houses

SECTIONS: Mapping[str, tuple[str, Callable[[Path, Path], Iterator[str]]]] = {
    "drawn": ("Drawn houses", drawn_houses.text),
    "sold": ("Houses that were sold", sold_houses.text),
}
INTRODUCTION = """# What makes the price?

Maps for and against a price: on drawn houses, where it is known which part is worth what, and on photographs of houses
that were sold. Pairs, pictures and criteria are chosen by rules, not by looks.
"""


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.prices", description=__doc__)
    parser.add_argument("sections", nargs="*", help=f"{', '.join(SECTIONS)}; all by default")
    parser.add_argument("--write", action="store_true", help="write docs/prices.md and its pictures")
    parser.add_argument("--folder", type=Path, help="where what is learned is kept; nowhere by default")
    chosen = parser.parse_args()
    if unknown := set(chosen.sections) - set(SECTIONS):
        parser.error(f"no section {', '.join(sorted(unknown))}; there are {', '.join(SECTIONS)}")
    torch.set_num_threads(1)
    target = page.DOCS / "prices.md"
    with TemporaryDirectory() as temporary:
        kept = chosen.folder or Path(temporary)
        images = page.DOCS / "images" if chosen.write else Path(temporary)
        for name in chosen.sections or SECTIONS:
            title, measure = SECTIONS[name]
            written = page.provenance(
                f"python -m benchmarks.prices {name} --write", ["torch", "torchvision", "seewhy"]
            )
            body = "\n\n".join([*measure(kept, images), written])
            if chosen.write:
                known = target.read_text() if target.exists() else ""
                titles = [each for each, _ in SECTIONS.values()]
                page.write(target, page.renewed(known, INTRODUCTION, titles, {title: body}))
            else:
                print(f"## {title}\n\n{body}\n")
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
