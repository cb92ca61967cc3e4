"""What every reader gives: pictures with what is known of them, and an error row for whatever is wrong."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator, Mapping
from dataclasses import astuple, dataclass, field, replace
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING

from seewhy.datasets.masks import MaskSource
from seewhy.errors import InputError
from seewhy.truth import Box, Mask, Object, Part, Truth, tight_box

if TYPE_CHECKING:
    from PIL import Image


@dataclass(frozen=True)
class ErrorRow:
    """Something of a dataset that could not be used, and why.

    Attributes:
        file: where it stands, or what is missing.
        line: its line there, from 1; None where the file has no lines, or the fault no place.
        reason: what is wrong.
        id: the picture it is about, where there is one.
    """

    file: Path
    line: int | None
    reason: str
    id: str | None = None

    def __str__(self) -> str:
        place = "" if self.line is None else f", line {self.line}"
        return f"{self.file}{place}: {self.reason}"


@dataclass(frozen=True)
class AnnotatedPart:
    """A named part of an object: a box, a mask or a point.

    Attributes:
        name: such as "head".
        box: around it, where known.
        mask: its pixels, where known, unread.
        point: x and y of its middle in pixels, where known.
        distinguishing: whether it is what tells the object's class from its nearest other.
    """

    name: str
    box: Box | None = None
    mask: MaskSource | None = None
    point: tuple[float, float] | None = None
    distinguishing: bool = False


@dataclass(frozen=True)
class Annotation:
    """One object that a dataset marks in a picture.

    Attributes:
        label: its class.
        box: the whole pixels of its rectangle in the picture as stored, the far edges not included.
        mask: its pixels, unread.
        parts: those that the dataset marks.
        attributes: whatever else the dataset says, as text: VOC's `difficult`, COCO's `iscrowd` …
    """

    label: str
    box: Box | None = None
    mask: MaskSource | None = None
    parts: tuple[AnnotatedPart, ...] = ()
    attributes: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True)
class Item:
    """One picture of a dataset.

    Attributes:
        id: its name in the dataset; no two are the same.
        path: of its file.
        labels: its classes as the dataset names them, the main one first; empty where none is known.
        objects: what is marked in it.
        split: such as "train" or "val", where the dataset has splits.
        size: height and width (H, W) in pixels, where the dataset says or objects had to be checked.
        caption: one sentence that says what it shows, where known.
        shortcut: the pixels of a mark that gives a class away without belonging to it, unread.
        attributes: whatever else the dataset says of the picture, as text.
    """

    id: str
    path: Path
    labels: tuple[str, ...] = ()
    objects: tuple[Annotation, ...] = ()
    split: str | None = None
    size: tuple[int, int] | None = None
    caption: str | None = None
    shortcut: MaskSource | None = None
    attributes: Mapping[str, str] = field(default_factory=dict)

    @property
    def boxes(self) -> tuple[Box, ...]:
        """Of its objects that have one."""
        return tuple(each.box for each in self.objects if each.box is not None)

    @property
    def masks(self) -> tuple[MaskSource, ...]:
        """Of its objects that have one; `read()` makes an array of each."""
        return tuple(each.mask for each in self.objects if each.mask is not None)

    @cached_property
    def sha256(self) -> str:
        """Of the file's bytes, read in pieces when first asked for.

        Raises:
            InputError: the file cannot be read.
        """
        try:
            with self.path.open("rb") as file:
                return hashlib.file_digest(file, "sha256").hexdigest()
        except OSError as error:
            raise InputError(f"{self.path} cannot be read: {error.strerror}") from error

    @cached_property
    def marks(self) -> str:
        """SHA-256 of what is marked in it, masks as they are kept, those in files by their bytes."""

        def known(each: Annotation | AnnotatedPart) -> tuple[object, ...]:
            more: tuple[object, ...]
            if isinstance(each, Annotation):
                more = each.label, [known(part) for part in each.parts], dict(each.attributes)
            else:
                more = each.name, each.point, each.distinguishing
            return each.box and astuple(each.box), each.mask and each.mask.identity, *more

        marked = self.size, self.shortcut and self.shortcut.identity, [known(each) for each in self.objects]
        return hashlib.sha256(json.dumps(marked).encode()).hexdigest()

    @property
    def image(self) -> Image.Image:
        """The picture, opened anew, upright and in RGB.

        Raises:
            InputError: it cannot be read.
        """
        from seewhy.network.images import open_picture  # imports torch, which reading a manifest must not

        return open_picture(self.path)

    @property
    def truth(self) -> Truth:
        """What is marked in the picture, its masks read now; objects with neither box nor mask are left out.

        Raises:
            InputError: a mask cannot be read or is of another size, or the picture's size is not known.
        """
        if self.size is None:
            raise InputError(f"{self.path}: nothing is marked in this picture; its classes are in `labels`")
        objects = []
        for each in self.objects:
            mask = None if each.mask is None else self._fitting(each.mask)
            box = each.box or (tight_box(mask) if mask is not None and mask.any() else None)
            parts = [(part, self._fitting(part.mask)) for part in each.parts if part.mask is not None]
            if box is not None:
                named = tuple(Part(part.name, mask, part.distinguishing) for part, mask in parts)
                objects.append(Object(each.label, box, mask, named, each.attributes))
        shortcut = None if self.shortcut is None else self._fitting(self.shortcut)
        return Truth(self.size, tuple(objects), self.caption, shortcut)

    def _fitting(self, source: MaskSource) -> Mask:
        mask = source.read()
        if mask.shape != self.size:
            (height, width), size = mask.shape, self.size or (0, 0)
            raise InputError(
                f"{self.path}: a mask of {width} x {height} pixels; the picture has {size[1]} x {size[0]}"
            )
        return mask


@dataclass(frozen=True)
class Manifest:
    """A dataset: its pictures sorted by id, and what of it could not be used.

    Attributes:
        kind: the layout it was read as, such as "voc".
        root: the folder or file it was read from.
        items: the pictures, sorted by id.
        errors: sorted by file and line.
        classes: readable name of each label, in the dataset's own order; empty where it gives none.
    """

    kind: str
    root: Path
    items: tuple[Item, ...]
    errors: tuple[ErrorRow, ...] = ()
    classes: Mapping[str, str] = field(default_factory=dict)

    def __len__(self) -> int:
        return len(self.items)

    def __iter__(self) -> Iterator[Item]:
        return iter(self.items)

    def __getitem__(self, id: str) -> Item:
        """The picture of that id.

        Raises:
            InputError: there is none.
        """
        if id not in self._by_id:
            row = next((f"; {row}" for row in self.errors if row.id == id), "")
            raise InputError(f"{self.root} has no picture {id!r}{row}")
        return self._by_id[id]

    @property
    def failed(self) -> tuple[str, ...]:
        """Ids of pictures that the dataset names and that are not among the items, sorted."""
        return tuple(sorted({row.id for row in self.errors if row.id is not None} - self._by_id.keys()))

    @property
    def asked(self) -> int:
        """How many pictures the dataset names: items and failed ones."""
        return len(self.items) + len(self.failed)

    @property
    def faultless(self) -> tuple[Item, ...]:
        """The pictures that no error row is about."""
        faulty = {row.id for row in self.errors}
        return tuple(item for item in self.items if item.id not in faulty)

    @cached_property
    def marks_objects(self) -> bool:
        """Whether any of those pictures has an object marked."""
        return any(each.objects for each in self.faultless)

    def labelled_by(self, attribute: str) -> Manifest:
        """The same pictures, each with the value of an attribute as its only label.

        Args:
            attribute: of the picture, or else of its main object, the first.

        Raises:
            InputError: a picture has no such attribute; the message says which it has.
        """
        items = []
        for each in self.items:
            known = {**(each.objects[0].attributes if each.objects else {}), **each.attributes}
            if attribute not in known:
                has = ", ".join(sorted(known)) or "none"
                raise InputError(f"{each.id} of {self.root} has no attribute {attribute!r}; it has {has}")
            items.append(replace(each, labels=(known[attribute],)))
        return replace(self, items=tuple(items), classes={})

    def index(self, label: str) -> int:
        """A label's place among `classes`; where the dataset lists no classes, the number that the label is.

        Raises:
            InputError: neither.
        """
        if label in self._places:
            return self._places[label]
        if not self.classes and label.isdecimal():
            return int(label)
        raise InputError(f"{label!r} is not among the {len(self.classes)} classes that {self.root} lists")

    @cached_property
    def _by_id(self) -> dict[str, Item]:
        return {item.id: item for item in self.items}

    @cached_property
    def _places(self) -> dict[str, int]:
        return {label: place for place, label in enumerate(self.classes)}
