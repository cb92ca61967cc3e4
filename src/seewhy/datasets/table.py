"""Pictures listed in a CSV: `labels.csv` with a class each, `boxes.csv` with any number of boxes."""

from __future__ import annotations

import csv
import json
from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

from seewhy.datasets.folder import pictures_in
from seewhy.datasets.manifest import Item, Manifest
from seewhy.datasets.reading import Drawn, Reading
from seewhy.errors import InputError

LOOKS_FOR = "labels.csv, or one CSV (a picture and its class in each row), perhaps with boxes.csv beside it"
PICTURE = ("image", "file", "filename", "file_name", "path", "picture", "name")
LABEL = ("class_index", "label", "class", "class_name", "category", "wnid", "target")
EDGES = ("x0", "y0", "x1", "y1")
BOXES = "boxes.csv"


def recognises(root: Path) -> bool:
    """Whether it is a CSV, or a folder with a `labels.csv` or with one CSV that lists pictures."""
    try:
        return _listing(root).is_file()
    except InputError:
        return False


def read(root: Path, split: str | None = None, pictures: Path | None = None) -> Manifest:
    """Pictures and classes from a CSV; ids are the names it gives the pictures.

    The first row names the columns: the picture (`image`, `file`, `path` …), its class (`class_index`,
    `label`, `class` …) and perhaps `split`; without such names the first two columns are picture and class.
    Further columns become attributes. `boxes.csv` beside it has a row per box: the picture, `x0, y0, x1, y1`
    in pixels of the file (edges: x1 is where the box ends) and perhaps a label. `classes.json` beside it lists
    the classes by number: `[[wnid, names], …]` or `[name, …]`. A picture that lies there unlisted is an error row.

    Args:
        root: the CSV, or the folder it lies in.
        split: keep only rows whose `split` says so.
        pictures: the folder that the names start from; `images` beside the CSV, or its folder, where not given.

    Raises:
        InputError: there is no such CSV, or it has no splits.
    """
    listing = _listing(root)
    home = listing.parent
    reading = Reading("csv", root)
    boxes = _boxes(reading, home / BOXES)
    classes = _classes(reading, home / "classes.json")
    base = pictures or (home / "images" if (home / "images").is_dir() else home)
    names, rows = _table(reading, listing, PICTURE)
    picture = next((name for name in PICTURE if name in names), names[0] if names else "")
    label = next((name for name in LABEL if name in names), "")
    if split is not None and "split" not in names:
        raise InputError(f"{listing} has no column 'split', so it has no split {split!r}")
    known: set[str] = set()
    for line, row in rows:
        id = row.pop(picture)
        known.add(id)
        path = base / id
        if not reading.claim(id, path, listing, line):
            continue
        part = row.pop("split", None)
        if split not in (None, part):
            continue
        named = row.pop(label, "")
        if not named:
            reading.error(listing, f"{id!r} has no class", line, id)
            continue
        if classes and named not in classes:
            reading.error(
                listing, f"{id!r} is of class {named!r}, which classes.json does not list", line, id
            )
            continue
        drawn = [
            Drawn(home / BOXES, place, box.pop("label", "") or named, edges, attributes=box)
            for place, box in boxes.get(id, ())
            if (edges := reading.edges([box.pop(edge, "") for edge in EDGES], None, home / BOXES, place, id))
        ]
        reading.add(Item(id, path, (named,), split=part, attributes=row), listing, line, drawn)
    for id in boxes.keys() - known:
        for place, _ in boxes[id]:
            reading.error(home / BOXES, f"{id!r} is not named in {listing.name}", place)
    reading.rest(list(pictures_in(base)), listing.name)
    return reading.manifest(classes)


def _listing(root: Path) -> Path:
    """The CSV that lists the pictures."""
    if root.suffix.lower() == ".csv" and root.is_file():
        return root
    tables = sorted(each for each in root.glob("*.csv") if each.name != BOXES) if root.is_dir() else []
    named = [each for each in tables if each.name == "labels.csv"]
    if len(named or tables) != 1:
        raise InputError(
            f"{root}: expected {LOOKS_FOR}; it holds {', '.join(t.name for t in tables) or 'none'}"
        )
    return (named or tables)[0]


def _boxes(reading: Reading, file: Path) -> Mapping[str, Sequence[tuple[int, dict[str, str]]]]:
    """The rows of `boxes.csv` by picture."""
    boxes: dict[str, list[tuple[int, dict[str, str]]]] = defaultdict(list)
    if file.is_file():
        names, rows = _table(reading, file, PICTURE, ("image", *EDGES))
        picture = next((name for name in PICTURE if name in names), names[0])
        for line, row in rows:
            boxes[row.pop(picture)].append((line, row))
    return boxes


def _table(
    reading: Reading, file: Path, known: Sequence[str], unnamed: Sequence[str] = ("image", "label")
) -> tuple[list[str], Iterator[tuple[int, dict[str, str]]]]:
    """Names of the columns, and the rows with their lines; rows of another length are error rows.

    Args:
        reading: takes the error rows.
        file: the CSV.
        known: a first row with one of these names the columns.
        unnamed: what they are called where it does not.
    """
    rows = list(_rows(reading, file))
    first = [cell.strip().lower() for cell in rows[0][1]] if rows else []
    headed = any(cell in known for cell in first)
    names = first if headed else list(unnamed)

    def checked() -> Iterator[tuple[int, dict[str, str]]]:
        for line, cells in rows[1 if headed else 0 :]:
            if len(cells) == len(names):
                yield line, dict(zip(names, (cell.strip() for cell in cells), strict=True))
            else:
                reason = f"{','.join(cells)!r} has {len(cells)} fields instead of {len(names)}"
                reading.error(file, reason, line)

    return names, checked()


def _rows(reading: Reading, file: Path) -> Iterator[tuple[int, list[str]]]:
    """The rows that are not blank, with the line they end in."""
    lines = (f"{line}\n" for _, line in _every_line(reading, file))
    table = csv.reader(lines, strict=True)
    try:
        for row in table:
            if row:
                yield table.line_num, row
    except csv.Error as error:
        reading.error(file, f"not a CSV from here on: {error}", table.line_num)


def _every_line(reading: Reading, file: Path) -> Iterator[tuple[int, str]]:
    """All lines, blank ones too, so that the CSV reader's count is the file's."""
    number = 0
    for place, line in reading.lines(file):
        yield from ((blank, "") for blank in range(number + 1, place))
        yield place, line
        number = place


def _classes(reading: Reading, file: Path) -> dict[str, str]:
    """Readable names by class number, where the file exists."""
    if not file.is_file():
        return {}
    try:
        listed = json.loads(file.read_text(encoding="utf-8"))
        names = [each if isinstance(each, str) else " ".join(map(str, each)) for each in listed]
    except json.JSONDecodeError as error:
        reading.error(file, f"not JSON: {error.msg}", error.lineno)
        return {}
    except (OSError, UnicodeDecodeError, TypeError) as error:
        reading.error(file, f"not a list of classes: {error}")
        return {}
    return {str(number): name for number, name in enumerate(names)}
