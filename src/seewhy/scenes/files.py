"""Scenes as files: a PNG per picture, and one line of JSON per picture that says what is true of it."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

from PIL import Image

from seewhy.errors import InputError
from seewhy.files import written_whole
from seewhy.scenes.scene import Scene
from seewhy.truth import Truth

TRUTH = "truth.jsonl"


@dataclass(frozen=True)
class Kept:
    """A picture in a file, with its truth; it serves wherever an image and a truth are asked for.

    Attributes:
        path: of the picture.
        truth: what it shows.
    """

    path: Path
    truth: Truth

    @property
    def image(self) -> Image.Image:
        """The picture, opened anew."""
        with Image.open(self.path) as file:
            return file.convert("RGB")


def write(
    scenes: Iterable[Scene], folder: Path, written: Callable[[Kept], None] = lambda _: None
) -> list[Path]:
    """Write pictures as `000000.png` and so on, and their truths to `truth.jsonl`, a line each.

    `truth.jsonl` gets its name at the end, so a folder that holds it is complete.

    Args:
        scenes: what to write, one at a time.
        folder: made if need be.
        written: called with every picture as soon as it is a file.

    Returns:
        The pictures' files.

    Raises:
        InputError: the folder already holds a `truth.jsonl`.
    """
    if (folder / TRUTH).exists():
        raise InputError(f"{folder} already holds scenes ({TRUTH}); give another folder, or delete it first")
    folder.mkdir(parents=True, exist_ok=True)
    paths = []
    with written_whole(folder / TRUTH) as lines:
        for number, scene in enumerate(scenes):
            path = folder / f"{number:06d}.png"
            scene.image.save(path, compress_level=1)
            line = json.dumps({"file": path.name, **scene.truth.to_json()})
            lines.write(f"{line}\n".encode())
            paths.append(path)
            written(Kept(path, scene.truth))
    return paths


def read(folder: Path) -> Iterator[Kept]:
    """The pictures and truths that `write` wrote, one at a time.

    Raises:
        InputError: the folder holds no `truth.jsonl`, or a line of it cannot be understood.
    """
    file = Path(folder) / TRUTH
    if not file.is_file():
        raise InputError(f"{folder} holds no {TRUTH}; `seewhy scenes --out {folder}` makes one")
    with file.open("rb") as lines:
        for number, line in enumerate(lines, 1):
            try:
                values = json.loads(line)
                name = Path(values["file"])
                if len(name.parts) != 1:
                    raise InputError(f"{values['file']!r} is not a file of this folder")
                truth = Truth.from_json(values)
            except (InputError, ValueError, KeyError, TypeError) as error:
                raise InputError(f"{file}, line {number}: not a picture's truth: {error}") from error
            yield Kept(file.parent / name, truth)
