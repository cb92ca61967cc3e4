"""CUB-200-2011: 200 kinds of birds with a box, 15 points on the body, and masks where these were fetched too."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator, Mapping
from pathlib import Path

from seewhy.datasets.boxes import Edges
from seewhy.datasets.folder import pictures_in
from seewhy.datasets.manifest import Item, Manifest
from seewhy.datasets.masks import MaskFile
from seewhy.datasets.reading import Drawn, Reading
from seewhy.errors import InputError

LOOKS_FOR = "images.txt and image_class_labels.txt, as CUB_200_2011 has them"
# A pixel's value is the share of annotators who took it for the bird (0, 51, … 255): from 128 on, more than half.
MAJORITY = 128


def recognises(root: Path) -> bool:
    """Whether it is the folder CUB_200_2011, or the one above it."""
    return _home(root) is not None


def read(root: Path, split: str | None = None, pictures: Path | None = None) -> Manifest:
    """The pictures of CUB-200-2011; ids are their names in `images.txt`, labels such as "001.Black_footed_Albatross".

    A box of x, y, width and height goes from x to x + width, in pixels from the picture's left edge. The
    visible points of the body are the bird's parts. A mask, from `segmentations` in the folder or beside it,
    holds the pixels that more than half of its annotators took for the bird. Attributes are not read.

    Args:
        root: CUB_200_2011, or the folder above it.
        split: "train" or "test"; both where None.
        pictures: their folder, if it is not `images`.

    Raises:
        InputError: no such layout or split.
    """
    home = _home(root)
    if home is None:
        raise InputError(f"{root}: expected {LOOKS_FOR}")
    if split not in (None, "train", "test"):
        raise InputError(f"CUB-200-2011 has the splits train and test, not {split!r}")
    reading = Reading("cub", root)
    base = pictures or home / "images"
    masks = next((place for place in (home, home.parent) if (place / "segmentations").is_dir()), home)
    classes = {number: name for _, (number, name) in reading.fields(home / "classes.txt", 2)}
    labels = {number: label for _, (number, label) in _rows(reading, home / "image_class_labels.txt", 2)}
    train = {number: flag for _, (number, flag) in _rows(reading, home / "train_test_split.txt", 2)}
    listing = home / "images.txt"
    named = [(line, number, id) for line, (number, id) in _rows(reading, listing, 2)]
    ids = {number: id for _, number, id in named}
    boxes, parts = _boxes(reading, home / "bounding_boxes.txt", ids), _parts(reading, home / "parts")
    for line, number, id in named:
        belongs = {"1": "train", "0": "test"}.get(train.get(number, ""))
        if not reading.claim(id, base / id, listing, line):
            continue
        label = classes.get(labels.get(number, ""))
        if label is None:
            reading.error(listing, f"{id!r} has no class that classes.txt names", line, id)
        elif belongs is None:
            reading.error(listing, f"{id!r} is in neither split", line, id)
        elif split in (None, belongs):
            place, edges = boxes.get(number, (None, None))
            if number not in boxes:
                reading.error(listing, f"{id!r} has no box in bounding_boxes.txt", line, id)
            file = masks / "segmentations" / Path(id).with_suffix(".png")
            mask = MaskFile(file, MAJORITY) if file.is_file() else None
            if mask is None and file.parent.parent.is_dir():
                reading.error(listing, f"there is no mask {file}", line, id)
            bird = Drawn(home / "bounding_boxes.txt", place, label, edges, mask, parts=parts.get(number, ()))
            reading.add(Item(id, base / id, (label,), split=belongs), listing, line, [bird])
    reading.rest(list(pictures_in(base)), "images.txt")
    return reading.manifest({name: name for name in classes.values()})


def _rows(reading: Reading, file: Path, count: int) -> Iterator[tuple[int, list[str]]]:
    """The rows of a table whose first field is a picture's number; one that comes twice is an error row."""
    seen: set[str] = set()
    for line, row in reading.fields(file, count):
        if row[0] in seen:
            reading.error(file, f"picture {row[0]} is there twice; the first is kept", line)
        else:
            seen.add(row[0])
            yield line, row


def _boxes(reading: Reading, file: Path, ids: Mapping[str, str]) -> dict[str, tuple[int, Edges | None]]:
    """Line and edges of each picture's box."""
    boxes: dict[str, tuple[int, Edges | None]] = {}
    for line, (number, *values) in _rows(reading, file, 5):
        if number not in ids:
            reading.error(file, f"picture {number} is not named in images.txt", line)
            continue
        edges = reading.edges(values, None, file, line, ids[number])
        if edges is not None:
            x, y, width, height = edges
            edges = x, y, x + width, y + height
        boxes[number] = line, edges
    return boxes


def _parts(reading: Reading, folder: Path) -> dict[str, tuple[Drawn, ...]]:
    """The visible points of each picture's bird."""
    names = {number: name for _, (number, name) in reading.fields(folder / "parts.txt", 2)}
    file = folder / "part_locs.txt"
    parts: dict[str, list[Drawn]] = defaultdict(list)
    for line, (number, part, x, y, visible) in reading.fields(file, 5):
        try:
            point = float(x), float(y)
        except ValueError:
            reading.error(file, f"a point at {x} {y} is not two numbers", line)
            continue
        if part not in names:
            reading.error(file, f"part {part} has no name in parts.txt", line)
        elif visible == "1":
            parts[number].append(Drawn(file, line, names[part], point=point))
    return {number: tuple(each) for number, each in parts.items()}


def _home(root: Path) -> Path | None:
    """The folder with the lists."""
    names = ("images.txt", "image_class_labels.txt")
    places = (root, root / "CUB_200_2011")
    return next((place for place in places if all((place / name).is_file() for name in names)), None)
