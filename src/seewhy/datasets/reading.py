"""What all readers share: each picture and its objects are checked the same way, and nothing gets lost."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

from PIL import Image

from seewhy.datasets.boxes import Edges, edges, whole
from seewhy.datasets.manifest import AnnotatedPart, Annotation, ErrorRow, Item, Manifest
from seewhy.datasets.masks import MaskSource
from seewhy.errors import InputError
from seewhy.truth import Box

_ORIENTATION = 0x0112


@dataclass(frozen=True)
class Drawn:
    """An object, or a part of one, as its dataset wrote it: not yet checked against the picture.

    Attributes:
        file: that says so.
        line: of that file.
        label: class, or the part's name.
        edges: of its box in pixels.
        mask: where it is kept.
        point: x and y in pixels.
        parts: of it.
        attributes: whatever else is said.
    """

    file: Path
    line: int | None
    label: str
    edges: Edges | None = None
    mask: MaskSource | None = None
    point: tuple[float, float] | None = None
    distinguishing: bool = False
    parts: tuple[Drawn, ...] = ()
    attributes: Mapping[str, str] = field(default_factory=dict)


class Reading:
    """Collects the pictures and error rows of one dataset while it is read.

    Args:
        kind: of the dataset.
        root: where it is.
    """

    def __init__(self, kind: str, root: Path) -> None:
        self.kind, self.root = kind, root
        self._items: list[Item] = []
        self._errors: list[ErrorRow] = []
        self._claimed: dict[str, tuple[Path, int | None]] = {}
        self._named: set[Path] = set()

    @property
    def items(self) -> tuple[Item, ...]:
        """The pictures kept so far, in the order they came."""
        return tuple(self._items)

    def error(self, file: Path, reason: str, line: int | None = None, id: str | None = None) -> None:
        """Note what could not be used."""
        self._errors.append(ErrorRow(file, line, reason, id))

    def claim(self, id: str, path: Path, file: Path, line: int | None = None) -> bool:
        """Whether an id is named for the first time; an error row where it is not.

        Args:
            id: of a picture.
            path: of its file.
            file: that names it.
            line: of that file.
        """
        self._named.add(path)
        if id not in self._claimed:
            self._claimed[id] = file, line
            return True
        first, place = self._claimed[id]
        where = f"{first}" + ("" if place is None else f", line {place}")
        self.error(file, f"{id!r} is named twice; the first is in {where}", line, id)
        return False

    def lines(self, file: Path) -> Iterator[tuple[int, str]]:
        """A text file's lines that are not blank, with their numbers; a missing file is an error row."""
        try:
            text = file.read_text(encoding="utf-8-sig")
        except (OSError, UnicodeDecodeError) as error:
            reason = "not text in UTF-8" if isinstance(error, UnicodeDecodeError) else error.strerror
            self.error(file, f"cannot be read: {reason}")
            return
        # Not `splitlines`, which also cuts at characters that no editor counts as a line's end.
        for number, line in enumerate(text.split("\n"), 1):
            if line.strip():
                yield number, line.rstrip("\r")

    def fields(self, file: Path, count: int, separator: str | None = None) -> Iterator[tuple[int, list[str]]]:
        """The lines of a table without header, cut into `count` fields; others are error rows.

        Args:
            file: the table.
            count: how many fields a line has; the last one keeps separators where they are spaces.
            separator: between fields; None for spaces.
        """
        for number, line in self.lines(file):
            cut = line.split(None, count - 1) if separator is None else line.split(separator)
            if len(cut) == count:
                yield number, [each.strip() for each in cut]
            else:
                self.error(file, f"{line!r} has {len(cut)} fields instead of {count}", number)

    def edges(
        self, values: Sequence[str | float], first: int | None, file: Path, line: int | None, id: str
    ) -> Edges | None:
        """A box's edges, as `seewhy.datasets.boxes.edges` takes them; an error row where they are none."""
        try:
            return edges(values, first)
        except InputError as error:
            self.error(file, str(error), line, id)
            return None

    def add(self, item: Item, file: Path, line: int | None = None, drawn: Sequence[Drawn] = ()) -> None:
        """Check a picture that `claim` has let through, and keep it.

        A missing picture, or one with objects that is none, fails. A box or mask that cannot be used is left
        out, with an error row; the picture stays.

        Args:
            item: without its objects; `size` is what the dataset says.
            file: that names the picture.
            line: of that file.
            drawn: its objects.
        """
        if not item.path.is_file():
            self.error(file, f"there is no picture {item.path}", line, item.id)
            return
        if not drawn and item.shortcut is None:
            self._items.append(item)
            return
        try:
            stored, turn = _header(item.path)
        except InputError as error:
            self.error(item.path, str(error), None, item.id)
            return
        fault = _misfit(item.size, stored, turn)
        if fault:
            self.error(file, fault, line, item.id)
            shown = stored[::-1] if turn >= 5 else stored
            self._items.append(replace(item, size=shown, shortcut=None))
            return
        checked = tuple(self._checked(each, stored, item.id) for each in drawn)
        self._items.append(replace(item, size=stored, objects=checked))

    def rest(self, pictures: Sequence[Path], listing: str) -> None:
        """An error row for each picture file that lies there and that nothing names.

        Args:
            pictures: all that lie there.
            listing: what should have named them.
        """
        for path in pictures:
            if path not in self._named:
                self.error(path, f"is not named in {listing}")

    def manifest(self, classes: Mapping[str, str] | None = None) -> Manifest:
        """All that was collected, in an order that no file system has a part in."""
        items = sorted(self._items, key=lambda item: item.id)
        errors = sorted(self._errors, key=lambda row: (row.file.as_posix(), row.line or 0, row.reason))
        return Manifest(self.kind, self.root, tuple(items), tuple(errors), dict(classes or {}))

    def _checked(self, drawn: Drawn, size: tuple[int, int], id: str) -> Annotation:
        parts = tuple(
            AnnotatedPart(part.label, self._box(part, size, id), part.mask, part.point, part.distinguishing)
            for part in drawn.parts
        )
        box = self._box(drawn, size, id)
        return Annotation(drawn.label, box, drawn.mask, parts, drawn.attributes)

    def _box(self, drawn: Drawn, size: tuple[int, int], id: str) -> Box | None:
        if drawn.edges is None:
            return None
        try:
            return whole(drawn.edges, size)
        except InputError as error:
            self.error(drawn.file, f"{drawn.label}: {error}", drawn.line, id)
            return None


def _header(path: Path) -> tuple[tuple[int, int], int]:
    """Height and width as stored, and how EXIF says to turn it (1 for not at all); nothing is decoded."""
    try:
        with Image.open(path) as picture:
            return (picture.height, picture.width), _turn(picture)
    except Exception as error:  # headers of broken files raise anything
        raise InputError(f"not a picture that can be read: {error}") from error


def _turn(picture: Image.Image) -> int:
    """EXIF's orientation; a broken block turns nothing, as where pictures are opened to be shown."""
    try:
        return int(picture.getexif().get(_ORIENTATION, 1))
    except Exception:
        return 1


def _misfit(said: tuple[int, int] | None, stored: tuple[int, int], turn: int) -> str | None:
    """Why what is marked cannot be in the pixels of this file."""
    if said is not None and said != stored:
        return (
            f"is marked at {said[1]} x {said[0]} pixels, but the file has {stored[1]} x {stored[0]}; "
            "its boxes and masks are left out"
        )
    if turn in range(2, 9):  # what shows it turns it, so boxes of the stored pixels would lie elsewhere
        return f"EXIF orientation {turn} turns it away from its boxes and masks; they are left out"
    return None
