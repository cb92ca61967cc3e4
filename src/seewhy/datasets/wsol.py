"""The lists of the public WSOL evaluation (Choe et al. 2020): ImageNet, CUB and OpenImages with boxes or masks."""

from __future__ import annotations

from collections import defaultdict
from dataclasses import replace
from pathlib import Path

from seewhy.datasets.manifest import Item, Manifest
from seewhy.datasets.masks import MaskFile
from seewhy.datasets.reading import Drawn, Reading
from seewhy.errors import InputError

LOOKS_FOR = "image_ids.txt and class_labels.txt, as wsolevaluation/metadata/ILSVRC/test has them"
FIRST_PIXEL = 0  # its evaluation counts pixels from 0 and both edges as part of the box
SPLITS = ("train", "val", "test")


def recognises(root: Path) -> bool:
    """Whether it holds the lists, or folders train, val, test that do."""
    return _holds(root) or any(_holds(root / split) for split in SPLITS)


def read(root: Path, split: str | None = None, pictures: Path | None = None) -> Manifest:
    """The pictures that `image_ids.txt` lists; ids are the paths that it gives, labels the class numbers.

    A row of `localization.txt` is a picture and x0, y0, x1, y1, both edges pixels of the box, counted from 0:
    a box from 0 to 2 is x0 = 0, x1 = 3. Where it has masks instead, it names the mask's file and, in the
    picture's first row, one of pixels to ignore, which becomes an object with the attribute `ignore`.

    Args:
        root: a folder of lists, or one above it with folders train, val and test.
        split: which of these; None where root holds the lists itself or only one of them does.
        pictures: the folder that the ids start from; where not given, `dataset/ILSVRC` beside
            `metadata/ILSVRC`, as that evaluation arranges them, or the folder of lists.

    Raises:
        InputError: no such lists, or several and no split given.
    """
    home = _home(root, split)
    reading = Reading("wsol", root)
    name = home.parent
    base = pictures or next(
        (place for place in [name.parent.parent / "dataset" / name.name] if place.is_dir()), home
    )
    labels: dict[str, str] = {}
    for line, (id, label) in reading.fields(home / "class_labels.txt", 2, ","):
        if label.isdecimal():
            labels[id] = label
        else:
            reading.error(home / "class_labels.txt", f"{label!r} is not a class number", line, id)
    sizes = _sizes(reading, home / "image_sizes.txt")
    marked = _marked(reading, home / "localization.txt", base)
    listing = home / "image_ids.txt"
    for line, text in reading.lines(listing):
        id = text.strip()
        if not reading.claim(id, base / id, listing, line):
            continue
        rows = marked.pop(id, [])
        if id not in labels:
            reading.error(listing, f"{id!r} has no class in class_labels.txt", line, id)
            continue
        drawn = [replace(each, label=labels[id]) for each in rows]
        item = Item(id, base / id, (labels[id],), split=home.name, size=sizes.get(id))
        reading.add(item, listing, line, drawn)
    for rows in marked.values():
        for each in rows:
            reading.error(each.file, f"{each.label!r} is not named in image_ids.txt", each.line)
    return reading.manifest()


def _sizes(reading: Reading, file: Path) -> dict[str, tuple[int, int]]:
    """Height and width of each picture, where the file exists."""
    sizes = {}
    if file.is_file():
        for line, (id, width, height) in reading.fields(file, 3, ","):
            if width.isdecimal() and height.isdecimal():
                sizes[id] = int(height), int(width)
            else:
                reading.error(file, f"a size of {width!r} x {height!r} pixels", line, id)
    return sizes


def _marked(reading: Reading, file: Path, base: Path) -> dict[str, list[Drawn]]:
    """Boxes or masks by picture, labelled with its id for now, regions to ignore last."""
    marked: dict[str, list[Drawn]] = defaultdict(list)
    ignored: list[Drawn] = []
    for line, text in reading.lines(file):
        id, *values = (each.strip() for each in text.split(","))
        if len(values) == 4:
            edges = reading.edges(values, FIRST_PIXEL, file, line, id)
            if edges is not None:
                marked[id].append(Drawn(file, line, id, edges))
        elif len(values) == 2 and values[0]:
            for place, name in enumerate(values):
                if name and not (base / name).is_file():
                    reading.error(file, f"there is no mask {base / name}", line, id)
                elif name:
                    drawn = Drawn(file, line, id, mask=MaskFile(base / name))
                    if place == 0:
                        marked[id].append(drawn)
                    else:
                        ignored.append(replace(drawn, attributes={"ignore": "1"}))
        else:
            reading.error(file, f"{text!r} is neither a box (5 fields) nor a mask (3 fields)", line, id)
    for each in ignored:
        marked[each.label].append(each)
    return marked


def _holds(folder: Path) -> bool:
    return all((folder / name).is_file() for name in ("image_ids.txt", "class_labels.txt"))


def _home(root: Path, split: str | None) -> Path:
    if _holds(root):
        if split not in (None, root.name):
            raise InputError(f"{root} holds the lists of one split, not of {split!r}")
        return root
    found = [name for name in SPLITS if _holds(root / name)]
    if not found:
        raise InputError(f"{root}: expected {LOOKS_FOR}")
    if (split is None and len(found) > 1) or split not in (None, *found):
        raise InputError(f"{root} holds the splits {', '.join(found)}: give one of them as `split`")
    return root / (split or found[0])
