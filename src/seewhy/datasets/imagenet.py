"""ImageNet's validation set: ILSVRC2012_val_*.JPEG and an XML with class and boxes for each."""

from __future__ import annotations

from pathlib import Path

from seewhy.datasets import annotation_xml
from seewhy.datasets.folder import pictures_in
from seewhy.datasets.manifest import Item, Manifest
from seewhy.datasets.reading import Reading
from seewhy.errors import InputError

LOOKS_FOR = "ILSVRC2012_val_*.xml in val, ILSVRC2012_bbox_val_v3/val or Annotations/CLS-LOC/val"
# The development kit does not say how its boxes count pixels. The boxes do: those of 1,000 pictures go from 0 to at
# most width - 1 and height - 1, and often reach both, so either edge names a pixel of the box, counted from 0.
FIRST_PIXEL = 0
NOTES = (
    "val",
    "ILSVRC2012_bbox_val_v3/val",
    "bbox/val",
    "Annotations/CLS-LOC/val",
    "ILSVRC/Annotations/CLS-LOC/val",
)
PICTURES = ("ILSVRC2012_img_val", "val", "Data/CLS-LOC/val", "ILSVRC/Data/CLS-LOC/val", "images")
SYNSETS = ("LOC_synset_mapping.txt", "synset_words.txt")


def recognises(root: Path) -> bool:
    """Whether there are annotations where the archives of ImageNet put them."""
    return _place(root, NOTES, "*.xml") is not None


def read(root: Path, split: str | None = None, pictures: Path | None = None) -> Manifest:
    """The validation pictures; ids are their names without suffix, labels WordNet ids such as "n01751748".

    `xmin` to `xmax` are the first and last pixel of a box, counted from 0: a box from 0 to 2 is x0 = 0, x1 = 3.
    The class is what the XML's objects are called. `classes` is in the order of the networks' outputs where
    `LOC_synset_mapping.txt` or `synset_words.txt` lies there, or where all 1,000 classes occur (their sorted
    order is the same). The numbers of `ILSVRC2012_validation_ground_truth.txt` are in another order: not used.

    Args:
        root: the folder that holds the annotations, and the pictures where `pictures` is not given.
        split: only "val".
        pictures: the folder of the pictures, also below folders for each class.

    Raises:
        InputError: no such layout, or another split.
    """
    notes = _place(root, NOTES, "*.xml")
    base = pictures or _place(root, PICTURES, "*.JPEG") or _place(root, PICTURES, "*/*.JPEG")
    if notes is None or base is None:
        raise InputError(
            f"{root}: expected {LOOKS_FOR}, and ILSVRC2012_val_*.JPEG in one of {', '.join(PICTURES)}"
        )
    if split not in (None, "val"):
        raise InputError(f"ImageNet's boxes are read for its split 'val', not {split!r}")
    reading = Reading("imagenet", root)
    stored = {path.stem: path for path in pictures_in(base)}
    for file in sorted(notes.glob("ILSVRC2012_val_*.xml")):
        path = stored.get(file.stem, base / f"{file.stem}.JPEG")
        if reading.claim(file.stem, path, file):
            _picture(reading, file, path)
    reading.rest(list(stored.values()), f"{notes.relative_to(root)}/*.xml")
    return reading.manifest(_classes(reading, root))


def _picture(reading: Reading, file: Path, path: Path) -> None:
    """Add one picture with what its XML says."""
    id = file.stem
    element = annotation_xml.annotation(reading, file, id)
    if element is None:
        return
    about = element.find("filename")
    if about is not None and about.text.strip().removesuffix(".JPEG") != id:
        reading.error(file, f"is about {about.text.strip()!r}, not {id!r}", about.line, id)
        return
    drawn = [each for each in annotation_xml.objects(reading, element, FIRST_PIXEL, file, id) if each.label]
    labels = tuple(dict.fromkeys(each.label for each in drawn))
    if not labels:
        reading.error(file, "names no object, so the picture has no class", None, id)
        return
    size = annotation_xml.size(reading, element, file, id)
    reading.add(Item(id, path, labels, split="val", size=size), file, None, drawn)


def _classes(reading: Reading, root: Path) -> dict[str, str]:
    """Names by WordNet id, in the order of the networks' outputs; empty where that is not known."""
    for name in SYNSETS:
        file = next((place / name for place in (root, root.parent) if (place / name).is_file()), None)
        if file is not None:
            return {wnid: words for _, (wnid, words) in reading.fields(file, 2)}
    found = sorted({label for item in reading.items for label in item.labels})
    return {wnid: wnid for wnid in found} if len(found) == 1000 else {}


def _place(root: Path, places: tuple[str, ...], pattern: str) -> Path | None:
    """The first of some folders, or the root itself, that holds files of the validation set."""
    name = pattern.rpartition("/")
    wanted = f"{name[0]}{name[1]}ILSVRC2012_val_{name[2]}"
    folders = [*(root / place for place in places), root]
    return next((folder for folder in folders if next(folder.glob(wanted), None) is not None), None)
