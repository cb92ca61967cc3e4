"""What `seewhy scenes` writes: pictures, and `truth.jsonl` with all that is true of each."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from seewhy.datasets.folder import pictures_in
from seewhy.datasets.manifest import Item, Manifest
from seewhy.datasets.masks import MaskSource, of_coco
from seewhy.datasets.reading import Drawn, Reading
from seewhy.errors import InputError
from seewhy.scenes.files import TRUTH
from seewhy.truth import Truth

LOOKS_FOR = "truth.jsonl, as `seewhy scenes` writes it"


def recognises(root: Path) -> bool:
    """Whether it holds a `truth.jsonl`, or is one."""
    return (root / TRUTH).is_file() or (root.name == TRUTH and root.is_file())


def read(root: Path, split: str | None = None, pictures: Path | None = None) -> Manifest:
    """The scenes of a folder; ids are the pictures' file names, labels the objects' classes, the main one first.

    Args:
        root: the folder, or its `truth.jsonl`.
        split: scenes have none.
        pictures: not used here: they lie beside `truth.jsonl`.

    Raises:
        InputError: no such file, or a split or pictures were given.
    """
    if not recognises(root):
        raise InputError(f"{root}: expected {LOOKS_FOR}")
    if split is not None or pictures is not None:
        raise InputError("scenes have no splits and lie beside their truth.jsonl; leave both out")
    file = root if root.is_file() else root / TRUTH
    reading = Reading("scenes", root)
    for line, text in reading.lines(file):
        try:
            values = json.loads(text)
            id = values["file"]
            if len(Path(id).parts) != 1:
                raise InputError(f"{id!r} is not a file of this folder")
            truth = Truth.from_json(
                values
            )  # checks all; its arrays are let go of, and masks read again when asked
            drawn = _objects(values, truth, file, line)
            shortcut = _mask(values["shortcut"], truth)
        except (ValueError, KeyError, TypeError, AttributeError, OverflowError, RecursionError) as error:
            reading.error(file, f"not a picture's truth: {type(error).__name__} {error}", line)
            continue
        path = file.parent / id
        if reading.claim(id, path, file, line):
            labels = tuple(dict.fromkeys(each.label for each in drawn))
            item = Item(id, path, labels, size=truth.size, caption=truth.caption, shortcut=shortcut)
            reading.add(item, file, line, drawn)
    reading.rest(list(pictures_in(file.parent)), TRUTH)
    return reading.manifest()


def _objects(values: dict[str, Any], truth: Truth, file: Path, line: int) -> list[Drawn]:
    """The objects of one line, their masks as run lengths."""
    return [
        Drawn(
            file,
            line,
            each.label,
            (each.box.x0, each.box.y0, each.box.x1, each.box.y1),
            _mask(said["mask"], truth),
            parts=tuple(
                Drawn(
                    file,
                    line,
                    part.name,
                    mask=_mask(told["mask"], truth),
                    distinguishing=part.distinguishing,
                )
                for part, told in zip(each.parts, said["parts"], strict=True)
            ),
            attributes=each.attributes,
        )
        for each, said in zip(truth.objects, values["objects"], strict=True)
    ]


def _mask(value: Any, truth: Truth) -> MaskSource | None:
    return None if value is None else of_coco(value, truth.size)
