"""Small pictures for small trees."""

from collections.abc import Callable
from pathlib import Path

import pytest
from PIL import Image


@pytest.fixture
def picture() -> Callable[..., Path]:
    """Write a picture of width x height pixels; EXIF may turn it."""

    def write(path: Path, width: int = 10, height: int = 8, turn: int = 1) -> Path:
        path.parent.mkdir(parents=True, exist_ok=True)
        exif = Image.Exif()
        if turn != 1:
            exif[0x0112] = turn
        kind = "PNG" if path.suffix == ".png" else "JPEG"
        Image.new("RGB", (width, height), "gray").save(path, kind, exif=exif)
        return path

    return write


@pytest.fixture
def text() -> Callable[..., Path]:
    """Write a text file and the folders above it."""

    def write(path: Path, content: str) -> Path:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(content, encoding="utf-8")
        return path

    return write
