"""Pictures from files, folders and memory, upright in 8-bit RGB; a broken one is a failure with a reason."""

from __future__ import annotations

import glob
import io
import itertools
import os
import threading
import warnings
from collections.abc import Iterable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import torch
from jaxtyping import Float
from PIL import Image, UnidentifiedImageError
from torch import Tensor

from seewhy.errors import InputError
from seewhy.network.preprocess import Frame, Preprocess

Source = str | os.PathLike[str] | bytes | Image.Image

MOST_PIXELS = 50_000_000
_MEGAPIXELS = f"{MOST_PIXELS // 10**6} megapixels"
SUFFIXES = frozenset(
    (
        *(".jpg", ".jpeg", ".jpe", ".jfif", ".png", ".gif", ".bmp", ".dib", ".tif", ".tiff"),
        *(".webp", ".avif", ".jp2", ".ppm", ".pgm", ".pbm", ".pnm", ".tga"),
    )
)
# Formats that are decoded by Pillow itself: no interpreter (EPS) is ever started for a file.
_FORMATS = (
    *("JPEG", "MPO", "PNG", "GIF", "BMP", "DIB", "TIFF", "WEBP"),
    *("AVIF", "JPEG2000", "PPM", "TGA", "PCX", "SGI", "QOI", "ICO"),
)
_TURNS = {
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_270,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}
_ORIENTATION = 0x0112
_DECODERS = min(4, os.cpu_count() or 1)
_FILTERS = threading.Lock()  # the warning filters belong to the whole process


@dataclass(frozen=True)
class Failure:
    """A picture that could not be read, and why."""

    path: str
    reason: str


@dataclass(frozen=True, eq=False)
class Images:
    """The network's inputs for the pictures that could be read, in the order they were asked for.

    Args:
        pixels: (B, C, H, W), preprocessed; B is 0 where every picture failed.
        paths: the B names.
        frames: where each input lies in its picture.
        failed: the others, with reasons.
        pictures: per input the picture as it was given; None for one that its path leads to.
    """

    pixels: Float[Tensor, "B C H W"]
    paths: tuple[str, ...]
    frames: tuple[Frame, ...]
    failed: tuple[Failure, ...] = ()
    pictures: tuple[Image.Image | None, ...] = ()

    @property
    def asked(self) -> int:
        """How many pictures were asked for: those read and those that failed."""
        return len(self.paths) + len(self.failed)

    def __len__(self) -> int:
        return len(self.paths)

    def select(self, rows: Sequence[int]) -> Images:
        """Some of the pictures; those that failed are left behind."""
        return Images(
            self.pixels[list(rows)],
            tuple(self.paths[row] for row in rows),
            tuple(self.frames[row] for row in rows),
            pictures=tuple(self.pictures[row] for row in rows) if self.pictures else (),
        )

    def picture(self, row: int) -> Image.Image:
        """One of the pictures, upright, in 8-bit RGB, as `open_picture` gives it."""
        given = self.pictures[row] if self.pictures else None
        return open_picture(self.paths[row]) if given is None else given

    def to(self, device: torch.device | str) -> Images:
        """The same pictures with their pixels on another device."""
        return replace(self, pixels=self.pixels.to(device))


def open_picture(source: Source) -> Image.Image:
    """One picture, upright, in 8-bit RGB: turned as its EXIF says, transparency over white, first frame.

    Deep greys are scaled, not clipped: integers by 65535 (or their largest value if that is more), floating
    point by 1, 255 or their largest value, the first that holds them all.

    Args:
        source: a file, a file's bytes, or a Pillow picture.

    Raises:
        InputError: no such file, no picture, broken, or more than 50 megapixels (by its header, before
            anything is decoded).
    """
    try:
        try:
            return _upright(source)
        except Image.DecompressionBombWarning:
            raise
        except Warning:  # where a program turns warnings into errors, odd metadata must not cost the picture
            with _FILTERS, warnings.catch_warnings():
                warnings.simplefilter("ignore")
                return _upright(source)
    except InputError as error:
        raise InputError(f"{_name(source)}: {error}") from error
    except Exception as error:  # decoders of broken files raise anything
        raise InputError(f"{_name(source)}: {_plain(error)}") from error


def read(sources: Iterable[Source], preprocess: Preprocess) -> Images:
    """The inputs of all pictures, in order; those that cannot be read are listed in `failed`.

    Where the preprocessing leaves sizes open, the first picture's input sets the size of the batch and
    pictures of other sizes fail.

    Example:
        >>> images = read(["dog.jpg", "cat.jpg"], network.preprocess)
        >>> images.pixels.shape, images.failed
    """
    items = [_prepared(source, number, preprocess) for number, source in enumerate(sources)]
    return _collected(items, preprocess)


def stream(sources: Iterable[Source], preprocess: Preprocess, batch_size: int) -> Iterator[Images]:
    """The inputs of any number of pictures, `batch_size` at a time, in order, two batches in memory at most.

    The next batch is decoded while the current one is used. Every source appears once, read or failed; a
    batch may therefore hold fewer pictures, or none.

    Raises:
        InputError: batch_size is not positive.
    """
    if batch_size < 1:
        raise InputError(f"batch_size must be at least 1, not {batch_size}")
    return _streamed(sources, preprocess, batch_size)


def find(patterns: Iterable[str]) -> Iterator[str]:
    """The picture files that files, folders and globs stand for.

    Folders are searched to the bottom, in sorted order, for known picture suffixes; so are the matches of a
    glob. Hidden files are left out. What matches nothing is given back as it is, and then fails by name.
    """
    for pattern in patterns:
        path = Path(pattern).expanduser()
        found: Iterator[str] = iter(())
        if path.is_dir():
            found = _within(path)
        elif not path.exists() and glob.has_magic(pattern):
            found = _globbed(str(path))
        first = next(found, None)
        yield str(path) if first is None else first
        yield from found


@dataclass(frozen=True)
class _Prepared:
    """One picture's input."""

    path: str
    pixels: Tensor
    frame: Frame
    picture: Image.Image | None


def _name(source: Source) -> str:
    if isinstance(source, str | os.PathLike):
        return str(source)
    return "bytes" if isinstance(source, bytes) else str(getattr(source, "filename", "") or "picture")


def _prepared(source: Source, number: int, preprocess: Preprocess) -> _Prepared | Failure:
    name = _name(source)
    path = f"{name}[{number}]" if name in ("bytes", "picture") and not isinstance(source, str) else name
    try:
        picture = open_picture(source)
        kept = None if isinstance(source, str | os.PathLike) else picture
        return _Prepared(path, preprocess(picture), preprocess.frame((picture.height, picture.width)), kept)
    except InputError as error:
        return Failure(path, str(error).removeprefix(f"{name}: "))


def _streamed(sources: Iterable[Source], preprocess: Preprocess, batch_size: int) -> Iterator[Images]:
    numbered = enumerate(sources)
    pool = ThreadPoolExecutor(_DECODERS, thread_name_prefix="seewhy-decode")

    def submitted() -> list[Future[_Prepared | Failure]]:
        batch = itertools.islice(numbered, batch_size)
        return [pool.submit(_prepared, source, number, preprocess) for number, source in batch]

    try:
        pending = submitted()
        while pending:
            following = submitted()
            images = _collected([future.result() for future in pending], preprocess)
            pending = following
            yield images
    finally:
        pool.shutdown(wait=True, cancel_futures=True)


def _collected(items: list[_Prepared | Failure], preprocess: Preprocess) -> Images:
    good: list[_Prepared] = []
    failed: list[Failure] = []
    for item in items:
        if isinstance(item, Failure):
            failed.append(item)
        elif good and item.pixels.shape != good[0].pixels.shape:
            (height, width), (tall, wide) = item.pixels.shape[1:], good[0].pixels.shape[1:]
            failed.append(
                Failure(
                    item.path,
                    f"its input would be {width}x{height} where the batch is {wide}x{tall}; "
                    "use a preprocess with a crop, or read such pictures one at a time",
                )
            )
        else:
            good.append(item)
    height, width = preprocess.input_size or (0, 0)
    empty = torch.zeros(0, preprocess.channels, height, width)
    return Images(
        pixels=torch.stack([item.pixels for item in good]) if good else empty,
        paths=tuple(item.path for item in good),
        frames=tuple(item.frame for item in good),
        failed=tuple(failed),
        pictures=tuple(item.picture for item in good),
    )


def _upright(source: Source) -> Image.Image:
    """The decoded picture, turned and in RGB."""
    if isinstance(source, Image.Image):
        return _turned(source)
    if isinstance(source, str | os.PathLike):
        path = Path(source)
        if path.is_dir():
            raise InputError("a folder without pictures")
        if path.exists() and not path.is_file():
            raise InputError("not a regular file")
    Image.init()
    formats = [name for name in _FORMATS if name in Image.OPEN]
    with Image.open(io.BytesIO(source) if isinstance(source, bytes) else source, formats=formats) as picture:
        return _turned(picture)


def _turned(picture: Image.Image) -> Image.Image:
    if picture.width * picture.height > MOST_PIXELS:
        raise InputError(f"{picture.width}x{picture.height} pixels are more than {_MEGAPIXELS}")
    if not picture.width or not picture.height:
        raise InputError("has no pixels")
    picture.load()
    try:
        turn = _TURNS.get(picture.getexif().get(_ORIENTATION, 1))
    except Warning:
        raise
    except Exception:  # a broken EXIF block says nothing about the pixels: they are taken as stored
        turn = None
    upright = _rgb(picture)
    return upright if turn is None else upright.transpose(turn)


def _rgb(picture: Image.Image) -> Image.Image:
    if picture.mode.startswith("I") or picture.mode == "F":
        return _scaled(picture).convert("RGB")
    if picture.has_transparency_data:
        picture = picture.convert("RGBA")
        white = Image.new("RGB", picture.size, "white")
        white.paste(picture, mask=picture.getchannel("A"))
        return white
    return picture.convert("RGB")


def _scaled(picture: Image.Image) -> Image.Image:
    """Greys deeper than 8 bits, as 8 bits."""
    grey = np.asarray(picture).astype(np.float64)
    if not np.isfinite(grey).all():
        raise InputError("has values that are not numbers")
    most = float(grey.max())
    ranges = (1.0, 255.0, most) if picture.mode == "F" else (65535.0, most)
    scaled = grey * (255 / next(limit for limit in ranges if most <= limit))
    return Image.fromarray(scaled.round().clip(0, 255).astype(np.uint8))


def _plain(error: Exception) -> str:
    """A reader's words for what a decoder raised."""
    if isinstance(error, FileNotFoundError):
        return "no such file"
    if isinstance(error, PermissionError):
        return "not allowed to read it"
    if isinstance(error, UnidentifiedImageError):
        return "not a picture in a format that can be read"
    if isinstance(error, Image.DecompressionBombError | Image.DecompressionBombWarning):
        return f"more than {_MEGAPIXELS}"
    return f"broken or truncated: {error or type(error).__name__}"


def _within(folder: Path) -> Iterator[str]:
    """The pictures below a folder, sorted; links are followed once."""
    seen: set[str] = set()
    for parent, folders, files in os.walk(folder, followlinks=True):
        real = os.path.realpath(parent)
        folders[:] = [] if real in seen else sorted(name for name in folders if not name.startswith("."))
        names = () if real in seen else sorted(files)
        seen.add(real)
        yield from (str(Path(parent, name)) for name in names if _is_picture(name))


def _globbed(pattern: str) -> Iterator[str]:
    """The pictures that a glob matches; folders that it matches are searched, unless `**` does already."""
    for match in sorted(glob.glob(pattern, recursive=True)):  # noqa: PTH207, Path.glob knows no absolute patterns
        path = Path(match)
        if path.is_dir():
            yield from () if "**" in pattern else _within(path)
        elif _is_picture(path.name):
            yield match


def _is_picture(name: str) -> bool:
    return Path(name).suffix.lower() in SUFFIXES and not name.startswith(".")
