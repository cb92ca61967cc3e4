"""Where a mask is kept: in a picture, in run lengths, in polygons. It becomes an array when it is read."""

from __future__ import annotations

import warnings
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from hashlib import file_digest
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from seewhy.errors import InputError, MissingExtraError
from seewhy.truth import Mask, from_run_lengths


@dataclass(frozen=True)
class MaskFile:
    """The pixels of a picture file whose value lies in a range.

    Attributes:
        path: of the file; the values of a palette picture are its indices.
        least: smallest value that belongs to the mask.
        most: largest value that does; None for no limit.
    """

    path: Path
    least: int = 1
    most: int | None = None

    def read(self) -> Mask:
        """The mask (H, W).

        Raises:
            InputError: the file cannot be read.
        """
        try:
            with Image.open(self.path) as picture:
                flat = picture if picture.mode in ("1", "L", "P") else picture.convert("L")
                values = np.asarray(flat).astype(np.uint8)
        except Exception as error:  # decoders of broken files raise anything
            raise InputError(f"{self.path}: not a mask that can be read: {error}") from error
        return (values >= self.least) & (values <= (255 if self.most is None else self.most))

    @cached_property
    def identity(self) -> tuple[object, ...]:
        """What the mask depends on: the file's SHA-256, None if it cannot be read, and the range."""
        try:
            with self.path.open("rb") as file:
                return file_digest(file, "sha256").hexdigest(), self.least, self.most
        except OSError:
            return None, self.least, self.most


@dataclass(frozen=True)
class RunLengths:
    """A mask as COCO writes it: lengths of runs down the columns, plain or compressed to a string.

    Attributes:
        size: height and width (H, W) in pixels.
        counts: the lengths, the first one of zeros; or COCO's string of them, which pycocotools decodes.
    """

    size: tuple[int, int]
    counts: tuple[int, ...] | str

    @property
    def identity(self) -> tuple[object, ...]:
        """What the mask depends on."""
        return self.size, self.counts

    def read(self) -> Mask:
        """The mask (H, W).

        Raises:
            InputError: the runs do not fill the size.
            MissingExtraError: the runs are compressed, and pycocotools is not installed.
        """
        if not isinstance(self.counts, str):
            return from_run_lengths({"size": self.size, "counts": self.counts})
        return _decoded([{"size": list(self.size), "counts": self.counts.encode()}], self.size)


@dataclass(frozen=True)
class Polygons:
    """A mask as the union of polygons, each x, y, x, y … in pixels; pycocotools draws them.

    Attributes:
        size: height and width (H, W) in pixels.
        points: of each polygon.
    """

    size: tuple[int, int]
    points: tuple[tuple[float, ...], ...]

    @property
    def identity(self) -> tuple[object, ...]:
        """What the mask depends on."""
        return self.size, self.points

    def read(self) -> Mask:
        """The mask (H, W).

        Raises:
            MissingExtraError: pycocotools is not installed.
        """
        drawn = _cocotools().frPyObjects([list(each) for each in self.points], *self.size)
        return _decoded(drawn, self.size)


MaskSource = MaskFile | RunLengths | Polygons


def of_coco(value: Any, size: tuple[int, int]) -> MaskSource:
    """What a COCO file calls a segmentation: a list of polygons, or run lengths.

    Raises:
        InputError: it is neither, or of another size than its picture.
    """
    if isinstance(value, Mapping) and isinstance(value.get("counts"), list | str):
        if value.get("size") != list(size):
            raise InputError(f"run lengths of size {value.get('size')} where the picture is {list(size)}")
        counts = value["counts"]
        if isinstance(counts, str):
            return RunLengths(size, counts)
        if all(type(each) is int and each >= 0 for each in counts) and sum(counts) == size[0] * size[1]:
            return RunLengths(size, tuple(counts))
        raise InputError(f"run lengths that do not fill {size[0]} x {size[1]} pixels")
    if isinstance(value, list) and value and all(map(_is_polygon, value)):
        return Polygons(size, tuple(tuple(map(float, each)) for each in value))
    raise InputError("a segmentation that is neither polygons of three or more points nor run lengths")


def _is_polygon(value: Any) -> bool:
    numbers = isinstance(value, list) and all(isinstance(each, int | float) for each in value)
    return numbers and len(value) >= 6 and len(value) % 2 == 0


def _decoded(runs: list[dict[str, Any]], size: tuple[int, int]) -> Mask:
    """The union of compressed run lengths."""
    tools = _cocotools()
    try:
        with (
            warnings.catch_warnings()
        ):  # its arrays do not know numpy 2's way to be copied yet, and numpy says so
            warnings.simplefilter("ignore", DeprecationWarning)
            mask = tools.decode(tools.merge(runs)).astype(bool)
    except Exception as error:  # a broken string fails somewhere in compiled code
        raise InputError(f"run lengths that pycocotools cannot decode: {error}") from error
    if mask.shape != tuple(size):
        raise InputError(f"run lengths of {mask.shape} pixels where the picture is {tuple(size)}")
    return np.ascontiguousarray(mask)


def _cocotools() -> Any:
    try:
        from pycocotools import mask
    except ImportError as error:
        raise MissingExtraError("pycocotools", "coco") from error
    return mask
