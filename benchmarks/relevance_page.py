"""What relevance maps are worth, measured: `python -m benchmarks.relevance_page [SECTION ...] --write`.

Writes docs/relevance-maps.md: whether relevance is conserved, whether maps depend on what was learned, and whether
Salient Relevance beats relevance that is only blurred.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable, Iterator, Mapping

import torch

from benchmarks import composite_sanity, conservation, page, salient

SECTIONS: Mapping[str, tuple[str, Callable[[], Iterator[str]]]] = {
    "conservation": ("Is relevance conserved?", conservation.text),
    "sanity": ("Do maps depend on what was learned?", composite_sanity.text),
    "blur": ("Is it more than a blur?", salient.text),
    "masks": ("Energy in the mask", salient.in_masks),
}
INTRODUCTION = """# Relevance maps, measured

[LRP](methods/lrp.md) and [Salient Relevance](methods/salient-relevance.md): what becomes of the score, whether the maps
know the network, and how they compare with plain Gaussian blur, which the paper of Salient Relevance does not show.
"""


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.relevance_page", description=__doc__)
    parser.add_argument("sections", nargs="*", help=f"{', '.join(SECTIONS)}; all by default")
    parser.add_argument("--write", action="store_true", help="write docs/relevance-maps.md")
    chosen = parser.parse_args()
    if unknown := set(chosen.sections) - set(SECTIONS):
        parser.error(f"no section {', '.join(sorted(unknown))}; there are {', '.join(SECTIONS)}")
    torch.set_num_threads(1)
    target = page.DOCS / "relevance-maps.md"
    for name in chosen.sections or SECTIONS:
        title, measure = SECTIONS[name]
        command = f"python -m benchmarks.relevance_page {name} --write"
        body = "\n\n".join([*measure(), page.provenance(command, ["torch", "torchvision", "timm", "seewhy"])])
        if chosen.write:
            known = target.read_text() if target.exists() else ""
            titles = [each for each, _ in SECTIONS.values()]
            page.write(target, page.renewed(known, INTRODUCTION, titles, {title: body}))
        else:
            print(f"## {title}\n\n{body}\n")
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
