"""`python -m benchmarks [SECTION ...]` prints the speed tables; `--write` also puts them into docs/speed.md."""

from __future__ import annotations

import argparse
import sys

import torch

from benchmarks import page
from benchmarks.rows import HEAD
from benchmarks.sections import SECTIONS, renewed
from benchmarks.timing import THREADS
from seewhy.network.memory import keep_memory
from seewhy.render.markdown import markdown_table


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m benchmarks", description=__doc__)
    names = ", ".join(SECTIONS)
    parser.add_argument(
        "sections", nargs="*", metavar="SECTION", type=_section, help=f"{names}; all by default"
    )
    parser.add_argument("--write", action="store_true", help="write the sections measured into docs/speed.md")
    chosen = parser.parse_args()
    torch.set_num_threads(THREADS)
    keep_memory()
    speed, held = page.DOCS / "speed.md", True
    for name in chosen.sections or SECTIONS:
        section = SECTIONS[name]
        remarks: list[str] = []
        rows = []
        for row in section.measure(remarks):
            print(" | ".join(cell for cell in row.cells if cell), file=sys.stderr, flush=True)
            rows.append(row)
            held = held and row.holds is not False
        print(
            f"## {section.title}\n\n{markdown_table(HEAD, [row.cells for row in rows])}\n", *remarks, sep="\n"
        )
        if chosen.write:
            # After each section, so that a later one that fails takes nothing with it.
            body = section.body(name, rows, remarks)
            page.write(speed, renewed(speed.read_text() if speed.exists() else "", {name: body}))
    return 0 if held else 1


def _section(name: str) -> str:
    if name not in SECTIONS:
        raise argparse.ArgumentTypeError(f"no section {name!r}; there are {', '.join(SECTIONS)}")
    return name


if __name__ == "__main__":
    raise SystemExit(main())
