"""Tables as text and Markdown, and what a page says about the run that made it."""

from __future__ import annotations

import platform
import re
from collections.abc import Sequence
from datetime import date
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

import torch

DOCS = Path(__file__).parents[1] / "docs"
_HEADING = re.compile(r"^## (.+)$", re.MULTILINE)


def sections(text: str) -> dict[str, str]:
    """What a page says under each of its headings of the second level."""
    parts = _HEADING.split(text)[1:]
    return {title: body.strip() for title, body in zip(parts[::2], parts[1::2], strict=True)}


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


def write(path: Path, text: str) -> None:
    """Write a page of the docs."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text)
    print(f"wrote {path.relative_to(DOCS.parent)}")


def _version(package: str) -> str:
    try:
        return version(package)
    except PackageNotFoundError:
        return "(not installed)"
