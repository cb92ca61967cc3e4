"""PASCAL VOC: pictures in JPEGImages, an XML for each in Annotations, masks in SegmentationObject."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

from seewhy.datasets import annotation_xml
from seewhy.datasets.manifest import Item, Manifest
from seewhy.datasets.masks import MaskFile
from seewhy.datasets.reading import Drawn, Reading
from seewhy.errors import InputError

LOOKS_FOR = "Annotations and JPEGImages, as VOCdevkit/VOC2012 has them"
FIRST_PIXEL = 1  # VOC counts pixels from 1 and names the last one that belongs to a box
CLASSES = (
    *("aeroplane", "bicycle", "bird", "boat", "bottle", "bus", "car", "cat", "chair", "cow"),
    *(
        "diningtable",
        "dog",
        "horse",
        "motorbike",
        "person",
        "pottedplant",
        "sheep",
        "sofa",
        "train",
        "tvmonitor",
    ),
)


def recognises(root: Path) -> bool:
    """Whether it is a folder such as VOC2012, or one above it."""
    return bool(_homes(root))


def read(root: Path, split: str | None = None, pictures: Path | None = None) -> Manifest:
    """The pictures of a VOC folder; ids are the names of the XML files without suffix, such as "2007_000027".

    VOC's `xmin` to `xmax` are the first and last pixel of a box, counted from 1: a box from 1 to 3 is x0 = 0,
    x1 = 3. `difficult`, `truncated`, `pose` and all else that an object says are its attributes; the classes of
    difficult objects are among the labels. A mask is the object's own index in SegmentationObject.

    Args:
        root: such as VOCdevkit/VOC2012, or a folder above that holds only one of them.
        split: a file of ImageSets/Main without its suffix, such as "val"; all annotated pictures where None.
        pictures: where they lie, if not in JPEGImages.

    Raises:
        InputError: no such layout, more than one, or no such split.
    """
    home = _home(root)
    reading = Reading("voc", root)
    splits = _splits(reading, home)
    base = pictures or home / "JPEGImages"
    stored = {path.stem: path for path in sorted(base.iterdir()) if path.is_file()} if base.is_dir() else {}
    notes, lines = home / "Annotations", home / "ImageSets/Main"
    places: list[tuple[str, Path, int | None]]
    if split is None:
        places = [(path.stem, path, None) for path in sorted(notes.glob("*.xml"))]
    else:
        listing = lines / f"{split}.txt"
        if not listing.is_file():
            found = sorted({path.stem for path in lines.glob("*.txt") if "_" not in path.stem})
            raise InputError(
                f"{home} has no split {split!r}; ImageSets/Main has {', '.join(found) or 'none'}"
            )
        places = [(line.split()[0], listing, number) for number, line in reading.lines(listing)]
    for id, file, line in places:
        path = stored.get(id, base / f"{id}.jpg")
        if reading.claim(id, path, file, line):
            item = Item(id, path, split=split or splits.get(id))
            _picture(reading, item, notes / f"{id}.xml", home, file, line)
    if split is None:
        reading.rest(list(stored.values()), "Annotations")
    return reading.manifest(_classes(reading))


def _picture(reading: Reading, item: Item, notes: Path, home: Path, file: Path, line: int | None) -> None:
    """Add one picture with what its XML says."""
    if not notes.is_file():
        reading.error(file, f"there is no annotation {notes}", line, item.id)
        return
    element = annotation_xml.annotation(reading, notes, item.id)
    if element is None:
        return
    about = element.find("filename")
    if about is not None and Path(about.text.strip()).stem != item.id:
        reading.error(notes, f"is about {about.text.strip()!r}, not {item.id!r}", about.line, item.id)
        return
    masks = home / "SegmentationObject" / f"{item.id}.png"
    drawn: list[Drawn] = []
    for place, each in enumerate(annotation_xml.objects(reading, element, FIRST_PIXEL, notes, item.id), 1):
        # The mask's index counts all objects of the XML, so it is given out before faulty ones are dropped.
        mask = MaskFile(masks, place, place) if masks.is_file() else None
        if each.label:
            drawn.append(replace(each, mask=mask))
    if element.value("segmented") == "1" and not masks.is_file() and masks.parent.is_dir():
        reading.error(notes, f"says it is segmented, but there is no {masks}", None, item.id)
    labels = tuple(dict.fromkeys(each.label for each in drawn))
    size = annotation_xml.size(reading, element, notes, item.id)
    reading.add(replace(item, labels=labels, size=size), notes, None, drawn)


def _splits(reading: Reading, home: Path) -> dict[str, str]:
    """Which of train, val and test each picture is in."""
    files = [(name, home / "ImageSets/Main" / f"{name}.txt") for name in ("train", "val", "test")]
    return {
        line.split()[0]: name for name, file in files if file.is_file() for _, line in reading.lines(file)
    }


def _classes(reading: Reading) -> dict[str, str]:
    """VOC's twenty in their order where there are no others; otherwise those that occur, sorted."""
    found = {label for item in reading.items for label in item.labels}
    return {name: name for name in (CLASSES if found <= set(CLASSES) else sorted(found))}


def _homes(root: Path) -> list[Path]:
    places = (
        [root, *sorted(root.glob("VOC2*")), *sorted(root.glob("VOCdevkit/VOC2*"))] if root.is_dir() else []
    )
    return [
        place for place in places if all((place / name).is_dir() for name in ("Annotations", "JPEGImages"))
    ]


def _home(root: Path) -> Path:
    homes = _homes(root)
    if len(homes) != 1:
        found = f"it holds {', '.join(map(str, homes))}: give one of them" if homes else "it holds none"
        raise InputError(f"{root}: expected {LOOKS_FOR}; {found}")
    return homes[0]
