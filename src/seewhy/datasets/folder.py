"""Pictures in folders: a folder for each class, also below train, val and test; or all in one, without classes."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

from seewhy.datasets.manifest import Item, Manifest
from seewhy.datasets.reading import Reading
from seewhy.errors import InputError

LOOKS_FOR = "a folder of pictures for each class"
SPLITS = ("train", "training", "val", "valid", "validation", "test", "testing")
# What other layouts call their folders: taken for classes, they would give labels without a word of warning.
NOT_CLASSES = frozenset({"images", "image", "labels", "masks", "annotations", "imgs", "jpegimages"})


def recognises(root: Path) -> bool:
    """Whether there is a picture in the folder or in one that could be a class."""
    if not root.is_dir():
        return False
    folders = _folders(root)
    if any(folder.name.lower() in NOT_CLASSES for folder in folders):
        return False
    return any(next(pictures_in(folder), None) for folder in [*folders, root])


def read(root: Path, split: str | None = None, pictures: Path | None = None) -> Manifest:
    """Pictures whose class is the name of the folder they lie in, however deep below it.

    Ids are paths below `root`. Where all folders are called train, val, test or the like, they are splits and
    the classes lie below. Without any folder the pictures have no class.

    Args:
        root: the folder.
        split: read only this one.
        pictures: not used here: the pictures are where the classes are.

    Raises:
        InputError: `pictures` was given, or there is no such split.
    """
    if pictures is not None:
        raise InputError("class folders hold their pictures themselves; leave `pictures` out")
    reading = Reading("folder", root)
    folders = _folders(root)
    splits = [each.name for each in folders] if all(each.name.lower() in SPLITS for each in folders) else []
    if split is not None and split not in splits:
        raise InputError(f"{root} has no split {split!r}; {', '.join(splits) or 'its folders are classes'}")
    wanted = [root] if split is None else [root / split]
    deep = 1 if splits else 0
    classed = bool(folders)
    for path in (each for folder in wanted for each in pictures_in(folder)):
        parts = path.relative_to(root).parts
        id = "/".join(parts)
        if not reading.claim(id, path, path):
            continue
        if classed and len(parts) <= deep + 1:
            reading.error(path, "lies in no class's folder", None, id)
            continue
        labels = (parts[deep],) if classed else ()
        reading.add(Item(id, path, labels, split=parts[0] if splits else None), path)
    for folder in wanted:
        for path in others_in(folder):
            reading.error(path, "is not a picture by its name")
    homes = [each for home in folders for each in _folders(home)] if splits else folders
    for home in homes:
        if split in (None, home.parent.name) and next(pictures_in(home), None) is None:
            reading.error(home, "holds no picture")
    names = sorted({home.name for home in homes})
    return reading.manifest({name: name for name in names})


def pictures_in(folder: Path) -> Iterator[Path]:
    """The pictures below a folder, in the same order on every file system."""
    from seewhy.network.images import find  # imports torch, which other readers can do without

    for name in find([str(folder)]):
        if name != str(folder):  # what `find` gives back where it finds nothing
            yield Path(name)


def others_in(folder: Path) -> Iterator[Path]:
    """The files below a folder that are not hidden and no pictures by their names, sorted."""
    from seewhy.network.images import SUFFIXES

    for parent, folders, files in os.walk(folder):
        folders[:] = sorted(name for name in folders if not name.startswith("."))
        for name in sorted(files):
            path = Path(parent, name)
            if not name.startswith(".") and path.suffix.lower() not in SUFFIXES:
                yield path


def _folders(root: Path) -> list[Path]:
    return sorted(each for each in root.iterdir() if each.is_dir() and not each.name.startswith("."))
