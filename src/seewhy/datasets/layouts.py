"""The layouts that can be read, and the entry that tells them apart."""

from __future__ import annotations

import os
from pathlib import Path
from types import ModuleType

from seewhy.datasets import coco, cub, folder, houses, imagenet, scenes, table, voc, wsol
from seewhy.datasets.manifest import Manifest
from seewhy.errors import InputError

# In the order they are tried: a folder of pictures is what anything else is too.
KINDS: dict[str, ModuleType] = {
    "scenes": scenes,
    "cub": cub,
    "houses": houses,
    "wsol": wsol,
    "voc": voc,
    "coco": coco,
    "imagenet": imagenet,
    "csv": table,
    "folder": folder,
}


def recognise(path: str | os.PathLike[str]) -> str:
    """The kind of a dataset, by the files that lie there.

    Raises:
        InputError: nothing there, or nothing known; the message says what was looked for.
    """
    root = Path(path)
    if not root.exists():
        raise InputError(f"{root} does not exist")
    for kind, reader in KINDS.items():
        if reader.recognises(root):
            return kind
    looked = "\n".join(f"  {kind}: {reader.LOOKS_FOR}" for kind, reader in KINDS.items())
    raise InputError(f"{root} is no dataset that can be recognised; looked for\n{looked}")


def read(
    path: str | os.PathLike[str],
    kind: str = "auto",
    split: str | None = None,
    pictures: str | os.PathLike[str] | None = None,
) -> Manifest:
    """Read a dataset: its pictures, what is known of them, and an error row for all that is wrong with it.

    No picture is decoded and no mask read; of pictures with boxes or masks the header is read, to check that
    these fit. The order is by id, whatever the file system's.

    Args:
        path: a folder, or the file that lists the pictures.
        kind: "auto", or one of "folder", "csv", "imagenet", "wsol", "voc", "coco", "houses", "cub", "scenes".
        split: such as "val", where the dataset has splits; all that there are where None.
        pictures: the folder of the pictures, where it is not where the layout puts it.

    Returns:
        The manifest; its `kind` says how the dataset was read.

    Raises:
        InputError: nothing there, nothing recognised, or no such kind or split.

    Example:
        >>> manifest = read("VOCdevkit/VOC2012", split="val")
        >>> manifest["2007_000033"].boxes, manifest.errors
    """
    root = Path(path)
    if kind not in ("auto", *KINDS):
        raise InputError(f"no kind of dataset {kind!r}; there are auto, {', '.join(KINDS)}")
    if not root.exists():
        raise InputError(f"{root} does not exist")
    base = None if pictures is None else Path(pictures)
    if base is not None and not base.is_dir():
        raise InputError(f"pictures={str(base)!r} is not a folder")
    reader = KINDS[recognise(root) if kind == "auto" else kind]
    manifest: Manifest = reader.read(root, split, base)
    return manifest
