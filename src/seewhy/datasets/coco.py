"""COCO: pictures in val2017 and the like, objects in annotations/instances_val2017.json."""

from __future__ import annotations

import json
from collections import defaultdict
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from seewhy.datasets.folder import pictures_in
from seewhy.datasets.manifest import Item, Manifest
from seewhy.datasets.masks import MaskSource, of_coco
from seewhy.datasets.reading import Drawn, Reading
from seewhy.errors import InputError

LOOKS_FOR = "annotations/instances_*.json, such as instances_val2017.json beside val2017"
PREFIX = "instances_"


def recognises(root: Path) -> bool:
    """Whether it is a COCO file, or a folder with annotations/instances_*.json."""
    return bool(_listings(root))


def read(root: Path, split: str | None = None, pictures: Path | None = None) -> Manifest:
    """The pictures of COCO files; ids are COCO's numbers with twelve digits, as in its file names.

    A box of x, y, width and height goes from x to x + width, in pixels from the picture's left edge; the
    pixels of a `Box` are those whose centres lie between. Masks are polygons or run lengths; reading polygons
    and compressed run lengths takes pycocotools. `iscrowd`, `area` and `id` are kept as attributes.

    Args:
        root: the folder above `annotations`, or one of its JSON files.
        split: such as "val2017", or "val" where that fits only one; all where None.
        pictures: their folder, if it is neither `val2017` nor `images/val2017`.

    Raises:
        InputError: no such layout or split.
    """
    found = _listings(root)
    wanted = {name: file for name, file in found.items() if split is None or name == split}
    wanted = wanted or {name: file for name, file in found.items() if name.startswith(split or "")}
    if not wanted or (split is not None and len(wanted) > 1):
        raise InputError(
            f"{root}: no split {split!r}; expected {LOOKS_FOR}, found {', '.join(found) or 'none'}"
        )
    reading = Reading("coco", root)
    classes: dict[str, str] = {}
    for name, file in sorted(wanted.items()):
        base = pictures or _pictures(file.parent.parent, name)
        classes |= _file(reading, name, file, base)
        # Otherwise the folder may hold the pictures of other files too.
        if base.name == name or len(found) == 1:
            reading.rest(list(pictures_in(base)), file.name)
    return reading.manifest(classes)


def _file(reading: Reading, split: str, file: Path, base: Path) -> dict[str, str]:
    """Add the pictures of one file; gives its classes in the order of their numbers."""
    try:
        content = json.loads(file.read_bytes())
        images, notes, categories = (list(content[key]) for key in ("images", "annotations", "categories"))
        names = dict(sorted((int(each["id"]), str(each["name"])) for each in categories))
    except json.JSONDecodeError as error:
        reading.error(file, f"not JSON: {error.msg}", error.lineno)
        return {}
    except (OSError, ValueError, RecursionError) as error:
        reading.error(file, f"cannot be read: {error}")
        return {}
    except (KeyError, TypeError, OverflowError) as error:
        reading.error(file, f"not what COCO's files hold: {type(error).__name__} {error}")
        return {}
    if len(names) < len(categories):
        reading.error(file, "two categories have the same number; the last by name is kept")
    grouped = _by_picture(reading, notes, file)
    for image in images:
        try:
            number, path = int(image["id"]), base / image["file_name"]
            size = int(image["height"]), int(image["width"])
        except (KeyError, TypeError, ValueError, OverflowError) as error:
            reason = f"a picture that lacks what one needs: {type(error).__name__} {error}: {image}"
            reading.error(file, reason)
            continue
        id = f"{number:012d}"
        if not reading.claim(id, path, file):
            continue
        drawn = [_object(reading, each, names, size, file, id) for each in grouped.pop(number, ())]
        known = [each for each in drawn if each is not None]
        labels = tuple(dict.fromkeys(each.label for each in known))
        reading.add(Item(id, path, labels, split=split, size=size), file, None, known)
    for rows in grouped.values():
        for note in rows:
            reason = f"annotation {note.get('id')} is of picture {note.get('image_id')}, which is not listed"
            reading.error(file, reason)
    return {name: name for name in names.values()}


def _by_picture(reading: Reading, notes: Any, file: Path) -> dict[Any, list[Mapping[str, Any]]]:
    """The annotations of each picture, by their numbers; doubled numbers are error rows."""
    grouped: dict[Any, list[Mapping[str, Any]]] = defaultdict(list)
    seen: set[str] = set()
    for note in notes:
        if not isinstance(note, Mapping) or not isinstance(note.get("image_id"), int):
            reading.error(file, f"an annotation that names no picture: {str(note)[:80]}")
        elif "id" in note and str(note["id"]) in seen:
            id = f"{note['image_id']:012d}"
            reading.error(file, f"annotation {note.get('id')} is there twice; the first is kept", None, id)
        else:
            seen.add(str(note.get("id")))
            grouped[note["image_id"]].append(note)
    return grouped


def _object(
    reading: Reading,
    note: Mapping[str, Any],
    names: Mapping[int, str],
    size: tuple[int, int],
    file: Path,
    id: str,
) -> Drawn | None:
    """One annotation; None, with an error row, where its class is not known."""
    number = note.get("id")
    category = note.get("category_id")
    label = names.get(category) if isinstance(category, int) else None
    if label is None:
        reason = f"annotation {number} is of category {category}, which is not listed"
        reading.error(file, reason, None, id)
        return None
    edges, mask = None, None
    try:
        x, y, width, height = note["bbox"]
        edges = reading.edges((x, y, x + width, y + height), None, file, None, id)
    except (KeyError, TypeError, ValueError):
        reading.error(file, f"annotation {number} has no box of four numbers: {note.get('bbox')}", None, id)
    if note.get("segmentation"):
        mask = _mask(reading, note, size, file, id)
    kept = {key: str(note[key]) for key in ("id", "iscrowd", "area") if key in note}
    return Drawn(file, None, label, edges, mask, attributes=kept)


def _mask(
    reading: Reading, note: Mapping[str, Any], size: tuple[int, int], file: Path, id: str
) -> MaskSource | None:
    try:
        return of_coco(note["segmentation"], size)
    except InputError as error:
        reading.error(file, f"annotation {note.get('id')}: {error}", None, id)
        return None


def _listings(root: Path) -> dict[str, Path]:
    """COCO's files by split."""
    if root.suffix.lower() == ".json" and root.is_file():
        return {root.stem.removeprefix(PREFIX): root}
    files = sorted(root.glob(f"annotations/{PREFIX}*.json")) if root.is_dir() else []
    return {file.stem.removeprefix(PREFIX): file for file in files}


def _pictures(home: Path, split: str) -> Path:
    places = [home / split, home / "images" / split, home / "images"]
    return next((place for place in places if place.is_dir()), home / split)
