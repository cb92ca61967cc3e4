"""VOC's XML, which ImageNet writes too: elements that know their line."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from xml.parsers import expat

from seewhy.datasets.boxes import Edges
from seewhy.datasets.reading import Drawn, Reading
from seewhy.errors import InputError

BOX = ("xmin", "ymin", "xmax", "ymax")


@dataclass
class Element:
    """One element of an XML file.

    Attributes:
        tag: its name.
        line: where it begins.
        text: what stands directly in it.
        children: the elements in it.
    """

    tag: str
    line: int
    text: str = ""
    children: list[Element] = field(default_factory=list)

    def all(self, tag: str) -> Iterator[Element]:
        """Its children of that name."""
        return (child for child in self.children if child.tag == tag)

    def find(self, tag: str) -> Element | None:
        """Its first child of that name."""
        return next(self.all(tag), None)

    def value(self, tag: str) -> str:
        """The text of its first child of that name; empty where there is none."""
        child = self.find(tag)
        return "" if child is None else child.text.strip()

    def leaves(self, above: str = "") -> Iterator[tuple[str, str]]:
        """Path and text of every element below that holds no other, such as ("actions/jumping", "1")."""
        for child in self.children:
            if child.children:
                yield from child.leaves(f"{above}{child.tag}/")
            else:
                yield f"{above}{child.tag}", child.text.strip()


def annotation(reading: Reading, file: Path, id: str) -> Element | None:
    """The `annotation` element of a file; an error row with the line where it is broken.

    Entities are refused: an annotation needs none, and a few of them can fill all memory.
    """
    root = Element("", 0)
    open_elements = [root]
    parser = expat.ParserCreate()

    def start(tag: str, _: dict[str, str]) -> None:
        element = Element(tag, parser.CurrentLineNumber)
        open_elements[-1].children.append(element)
        open_elements.append(element)

    def end(_: str) -> None:
        open_elements.pop()

    def text(data: str) -> None:
        open_elements[-1].text += data

    def entity(name: str, *_: object) -> None:
        raise InputError(f"declares the entity {name!r}; annotations need none")

    parser.StartElementHandler, parser.EndElementHandler = start, end
    parser.CharacterDataHandler, parser.EntityDeclHandler = text, entity
    try:
        parser.Parse(file.read_bytes(), True)
    except expat.ExpatError as error:
        reading.error(file, f"broken XML: {expat.ErrorString(error.code)}", error.lineno, id)
    except InputError as error:
        reading.error(file, str(error), parser.CurrentLineNumber, id)
    except OSError as error:
        reading.error(file, f"cannot be read: {error.strerror}", None, id)
    else:
        found = root.find("annotation")
        if found is None:
            reading.error(file, f"holds <{root.children[0].tag}> instead of <annotation>", 1, id)
        return found
    return None


def size(reading: Reading, element: Element, file: Path, id: str) -> tuple[int, int] | None:
    """Height and width that the annotation says; None where it says nothing or, with an error row, nonsense."""
    said = element.find("size")
    if said is None:
        return None
    height, width = said.value("height"), said.value("width")
    if height.isdecimal() and width.isdecimal() and int(height) and int(width):
        return int(height), int(width)
    reading.error(file, f"a size of {width!r} x {height!r} pixels", said.line, id)
    return None


def objects(reading: Reading, element: Element, first: int, file: Path, id: str) -> Iterator[Drawn]:
    """The objects and parts of an annotation, in its order; what has no name or box is an error row.

    Args:
        reading: takes the error rows.
        element: the annotation.
        first: what its boxes call the first pixel.
        file: it stands in.
        id: of the picture.
    """
    for each in element.all("object"):
        box = _box(reading, each, first, file, id)
        parts = tuple(
            Drawn(file, _line(part), part.value("name"), edges)
            for part in each.all("part")
            if (edges := _box(reading, part, first, file, id)) is not None
        )
        name = each.value("name")
        if not name:
            reading.error(file, "an object without a name", each.line, id)
        plain = Element("", 0, "", [c for c in each.children if c.tag not in ("name", "bndbox", "part")])
        yield Drawn(file, _line(each), name, box, parts=parts, attributes=dict(plain.leaves()))


def _line(element: Element) -> int:
    """Where an object's box stands, which is what may turn out to be wrong with it."""
    return (element.find("bndbox") or element).line


def _box(reading: Reading, element: Element, first: int, file: Path, id: str) -> Edges | None:
    box = element.find("bndbox")
    if box is None:
        reading.error(file, f"{element.value('name') or element.tag} has no <bndbox>", element.line, id)
        return None
    return reading.edges([box.value(edge) for edge in BOX], first, file, box.line, id)
