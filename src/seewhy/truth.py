"""What is known to be true of a picture: what scenes draw, datasets say and evaluation reads."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
from jaxtyping import Bool

from seewhy.errors import InputError

Mask = Bool[np.ndarray, "H W"]


@dataclass(frozen=True)
class Box:
    """A rectangle in pixels: x from x0 up to but not including x1, y likewise; y points down."""

    x0: int
    y0: int
    x1: int
    y1: int


@dataclass(frozen=True, eq=False)
class Part:
    """A named part of an object.

    Attributes:
        name: what it is called, such as "ears".
        mask: its visible pixels (H, W).
        distinguishing: whether it is what tells the object's class from its nearest other.
    """

    name: str
    mask: Mask
    distinguishing: bool = False


@dataclass(frozen=True, eq=False)
class Object:
    """One thing in a picture.

    Attributes:
        label: its class.
        box: around what is visible of it, or what a dataset's annotators drew.
        mask: its visible pixels (H, W), where known.
        parts: those of which something is visible.
        attributes: further facts, such as colour, texture, place and size.
    """

    label: str
    box: Box
    mask: Mask | None = None
    parts: tuple[Part, ...] = ()
    attributes: Mapping[str, str] = field(default_factory=dict)

    def distinguishing(self) -> Mask | None:
        """The visible pixels of its distinguishing parts; None where there are none."""
        masks = [part.mask for part in self.parts if part.distinguishing]
        return np.logical_or.reduce(masks) if masks else None


@dataclass(frozen=True, eq=False)
class Truth:
    """All that is known of one picture.

    Attributes:
        size: height and width (H, W) in pixels.
        objects: what it shows, the main one first.
        caption: one sentence that says it, where known.
        shortcut: the pixels (H, W) of a mark that gives a class away without belonging to it, if there is one.
    """

    size: tuple[int, int]
    objects: tuple[Object, ...] = ()
    caption: str | None = None
    shortcut: Mask | None = None

    @property
    def label(self) -> str:
        """The main object's class.

        Raises:
            InputError: the picture shows no object.
        """
        if not self.objects:
            raise InputError("this picture's truth names no object, so it has no label")
        return self.objects[0].label

    def within(self, rows: slice, columns: slice) -> Truth:
        """What lies in some rows and columns, in their pixels; all objects stay, boxes as long as they were."""

        x, y = columns.start, rows.start
        objects = tuple(
            replace(
                each,
                box=Box(each.box.x0 - x, each.box.y0 - y, each.box.x1 - x, each.box.y1 - y),
                mask=None if each.mask is None else each.mask[rows, columns],
                parts=tuple(replace(part, mask=part.mask[rows, columns]) for part in each.parts),
            )
            for each in self.objects
        )
        shortcut = None if self.shortcut is None else self.shortcut[rows, columns]
        return Truth((rows.stop - y, columns.stop - x), objects, self.caption, shortcut)

    def to_json(self) -> dict[str, Any]:
        """As JSON values; masks as COCO's uncompressed run lengths, which its own tools read."""
        return {
            "size": list(self.size),
            "caption": self.caption,
            "shortcut": None if self.shortcut is None else run_lengths(self.shortcut),
            "objects": [
                {
                    "label": each.label,
                    "box": [each.box.x0, each.box.y0, each.box.x1, each.box.y1],
                    "mask": None if each.mask is None else run_lengths(each.mask),
                    "attributes": dict(each.attributes),
                    "parts": [
                        {
                            "name": part.name,
                            "distinguishing": part.distinguishing,
                            "mask": run_lengths(part.mask),
                        }
                        for part in each.parts
                    ],
                }
                for each in self.objects
            ],
        }

    @classmethod
    def from_json(cls, values: Mapping[str, Any]) -> Truth:
        """What `to_json` gave.

        Raises:
            InputError: a field is missing, or run lengths do not fill their size.
        """
        try:
            objects = tuple(
                Object(
                    each["label"],
                    Box(*each["box"]),
                    None if each["mask"] is None else from_run_lengths(each["mask"]),
                    tuple(
                        Part(part["name"], from_run_lengths(part["mask"]), part["distinguishing"])
                        for part in each["parts"]
                    ),
                    dict(each["attributes"]),
                )
                for each in values["objects"]
            )
            height, width = map(int, values["size"])
            shortcut = None if values["shortcut"] is None else from_run_lengths(values["shortcut"])
            masks = [shortcut, *(m for o in objects for m in (o.mask, *(part.mask for part in o.parts)))]
            if any(mask is not None and mask.shape != (height, width) for mask in masks):
                raise ValueError(f"masks of another size than {height} x {width}")
            return cls((height, width), objects, values["caption"], shortcut)
        except (KeyError, TypeError, ValueError) as error:
            raise InputError(
                f"not a picture's truth as `Truth.to_json` writes it: {type(error).__name__} {error}"
            ) from error


def tight_box(mask: Mask) -> Box:
    """The smallest box around a mask's pixels.

    Raises:
        InputError: the mask is empty.
    """
    rows, columns = np.flatnonzero(mask.any(1)), np.flatnonzero(mask.any(0))
    if not len(rows):
        raise InputError("an empty mask has no box")
    return Box(int(columns[0]), int(rows[0]), int(columns[-1]) + 1, int(rows[-1]) + 1)


def run_lengths(mask: Mask) -> dict[str, list[int]]:
    """A mask as COCO writes it uncompressed: lengths of runs down the columns, the first one of zeros."""
    flat = mask.ravel(order="F")
    ends = np.flatnonzero(flat[1:] != flat[:-1]) + 1
    counts = np.diff(np.concatenate(([0], ends, [flat.size]))).tolist()
    if flat.size and flat[0]:
        counts = [0, *counts]
    return {"size": list(mask.shape), "counts": counts}


def from_run_lengths(runs: Mapping[str, Sequence[int]]) -> Mask:
    """The mask that `run_lengths` wrote.

    Raises:
        InputError: the runs do not fill the size.
    """
    size, counts = np.asarray(runs["size"]), np.asarray(runs["counts"])
    whole = all(np.issubdtype(each.dtype, np.integer) and (each >= 0).all() for each in (size, counts))
    if not whole or size.shape != (2,) or counts.ndim != 1 or counts.sum() != size.prod():
        raise InputError(
            f"run lengths of {counts.sum()} pixels do not fill {' x '.join(map(str, size.flat))}"
        )
    height, width = size.tolist()
    values = np.arange(len(counts)) % 2 == 1
    return np.repeat(values, counts).reshape((height, width), order="F")
