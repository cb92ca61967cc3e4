"""Frames from folders and videos, cut into clips."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import islice
from pathlib import Path

from jaxtyping import Float
from PIL import Image, ImageSequence
from torch import Tensor

from seewhy.errors import InputError, MissingExtraError
from seewhy.network.images import Failure, find, open_picture, read
from seewhy.network.preprocess import Frame, Preprocess

_ANIMATIONS = (".gif", ".webp", ".png", ".apng")


@dataclass(frozen=True, eq=False)
class Footage:
    """One clip, as the network takes it and as people see it.

    Attributes:
        name: where it is from, and which frames it has.
        pixels: preprocessed.
        pictures: the frames as they are.
        places: where each input lies in its picture.
        names: of the frames.
    """

    name: str
    pixels: Float[Tensor, "F C H W"]
    pictures: tuple[Image.Image, ...]
    places: tuple[Frame, ...]
    names: tuple[str, ...]

    def __len__(self) -> int:
        return len(self.pictures)

    @classmethod
    def of(cls, name: str, named: list[tuple[str, str | Image.Image]], preprocess: Preprocess) -> Footage:
        """A clip of some pictures.

        Raises:
            InputError: one of them cannot be read.
        """
        pictures = []
        for each, source in named:
            try:
                pictures.append(open_picture(source))
            except InputError as error:
                raise InputError(f"{each}: {str(error).removeprefix(f'{source}: ')}") from error
        images = read(pictures, preprocess)
        if images.failed:
            raise InputError(images.failed[0].reason)
        return cls(name, images.pixels, tuple(pictures), images.frames, tuple(each for each, _ in named))


def read_clips(
    source: str | Path, preprocess: Preprocess, length: int = 8, every: int = 1, most: int | None = None
) -> list[Footage]:
    """The clips of a folder of frames or of a video, one after the other.

    Args:
        source: a folder, whose pictures are taken in the order of the numbers in their names; an animated GIF, WebP or
            PNG; or a video, which PyAV reads (`pip install 'seewhy[video]'`).
        preprocess: how a frame becomes the network's input.
        length: frames per clip; what is left at the end is no clip.
        every: take every second, third … frame only.
        most: clips at most.

    Returns:
        The clips, as the network takes them and as people see them.

    Raises:
        InputError: there is no such file, or fewer frames than one clip has; a frame cannot be read.
        MissingExtraError: it is a video, and PyAV is not installed.
    """
    found = []
    for each in islice(stream_clips(source, preprocess, length, every), most):
        if isinstance(each, Failure):
            raise InputError(f"{each.path}: {each.reason}")
        found.append(each)
    return found


def stream_clips(
    source: str | Path, preprocess: Preprocess, length: int = 8, every: int = 1
) -> Iterator[Footage | Failure]:
    """As `read_clips`, one at a time; a clip with a frame that cannot be read is a failure with a reason."""
    if length < 1 or every < 1:
        raise InputError(f"clips of {length} frames, every {every}: both are at least 1")
    frames, count = islice(_frames(Path(source)), 0, None, every), 0
    while len(named := list(islice(frames, length))) == length:
        count += 1
        name = f"{Path(source).name}: {named[0][0]} to {named[-1][0]}"
        try:
            yield Footage.of(name, named, preprocess)
        except InputError as error:
            yield Failure(name, str(error))
    if not count:
        raise InputError(f"{source} has {len(named)} frames (every {every}); a clip has {length}")


def _frames(source: Path) -> Iterator[tuple[str, str | Image.Image]]:
    if source.is_dir():
        paths = sorted(find([str(source)]), key=_by_number)
        yield from ((Path(path).name, path) for path in paths if path != str(source))
    elif not source.is_file():
        raise InputError(f"{source}: no such folder or video")
    elif source.suffix.lower() in _ANIMATIONS:
        with Image.open(source) as animation:
            for number, frame in enumerate(ImageSequence.Iterator(animation)):
                yield f"frame {number}", frame.convert("RGB")
    else:
        yield from _video(source)


def _video(source: Path) -> Iterator[tuple[str, str | Image.Image]]:
    try:
        import av
    except ImportError as error:
        raise MissingExtraError("av", "video") from error
    try:
        with av.open(str(source)) as container:
            if not container.streams.video:
                raise InputError(f"{source}: no video in it")
            for number, frame in enumerate(container.decode(video=0)):
                seconds = f", {frame.time:.2f} s" if frame.time is not None else ""
                yield f"frame {number}{seconds}", frame.to_image()
    except av.error.FFmpegError as error:
        raise InputError(f"{source}: not a video that can be read: {error.strerror}") from error


def _by_number(path: str) -> list[tuple[int, str]]:
    """Names with their numbers as numbers: frame 10 comes after frame 9."""
    parts = re.split(r"(\d+)", path)
    return [(int(part), "") if part.isdigit() else (-1, part) for part in parts]
