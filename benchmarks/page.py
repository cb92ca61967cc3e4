"""Tables as text and Markdown, and what a page says about the run that made it."""

from __future__ import annotations

import platform
import re
from collections.abc import Collection, Mapping, Sequence
from datetime import date
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

import torch

from seewhy.evaluation.result import Result
from seewhy.evaluation.standings import cell_text, standings
from seewhy.render.markdown import markdown_table

DOCS = Path(__file__).parents[1] / "docs"
_HEADING = re.compile(r"^## (.+)$", re.MULTILINE)


def sections(text: str) -> dict[str, str]:
    """What a page says under each of its headings of the second level."""
    parts = _HEADING.split(text)[1:]
    return {title: body.strip() for title, body in zip(parts[::2], parts[1::2], strict=True)}


def renewed(text: str, introduction: str, titles: Sequence[str], bodies: Mapping[str, str]) -> str:
    """A page with some sections written anew; the others stay as they are, or absent.

    Args:
        text: the page so far.
        introduction: what stands above the sections.
        titles: the order of the sections; any others of the page follow them.
        bodies: what shall stand under the headings, by title.
    """
    known = sections(text) | dict(bodies)
    ordered = [
        *(title for title in titles if title in known),
        *(title for title in known if title not in titles),
    ]
    return "\n".join([introduction, *(f"## {title}\n\n{known[title]}\n" for title in ordered)])


def provenance(command: str, packages: Sequence[str]) -> str:
    """One paragraph: the command, the date, the processor, the threads, the versions."""
    versions = ", ".join(f"{each} {_version(each)}" for each in packages)
    return (
        f"Written by `{command}` on {date.today().isoformat()}, on {processor()} "
        f"with {torch.get_num_threads()} threads, Python {platform.python_version()}, {versions}."
    )


def processor() -> str:
    """The processor's name and how many of its cores may be used."""
    name = platform.processor() or platform.machine()
    information = Path("/proc/cpuinfo")
    if information.exists():
        lines = information.read_text().splitlines()
        name = next((line.partition(":")[2].strip() for line in lines if line.startswith("model name")), name)
    return f"{name} ({torch.multiprocessing.cpu_count()} cores)"


def standings_table(
    results: Mapping[str, Mapping[str, Result]],
    controls: Collection[str],
    arrows: Mapping[str, str] | None = None,
    title: str = "method",
) -> str:
    """Values with intervals and ranks, a row per method; controls stand in brackets and have no rank.

    Args:
        results: by method and column.
        controls: names of those that know nothing.
        arrows: per column which way is better, to be shown.
        title: over the methods.
    """
    cells = standings(results, [name for name in results if name not in controls])
    columns = list(next(iter(cells.values())))
    rows = [
        [f"({name})" if name in controls else name, *(cell_text(own[each]) for each in columns)]
        for name, own in cells.items()
    ]
    return markdown_table(
        [title, *(f"{each} {(arrows or {}).get(each, '')}".strip() for each in columns)], rows
    )


def write(path: Path, text: str) -> None:
    """Write a page of the docs."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text)
    print(f"wrote {path.relative_to(DOCS.parent)}")


def insert(path: Path, name: str, text: str) -> None:
    """Put text into a page that is otherwise written by hand, between the two comments that bear a name.

    Raises:
        ValueError: the page has no such comments.
    """
    begin, end = f"<!-- {name} -->", f"<!-- end of {name} -->"
    before, found, rest = path.read_text().partition(begin)
    _, closed, after = rest.partition(end)
    if not found or not closed:
        raise ValueError(f"{path.name} has no {begin} with its {end}")
    write(path, f"{before}{begin}\n{text}\n{end}{after}")


def _version(package: str) -> str:
    try:
        return version(package)
    except PackageNotFoundError:
        return "(not installed)"
