"""Pictures and panels that the tests of this folder share."""

from __future__ import annotations

from typing import Any

import numpy as np
from PIL import Image

from seewhy.render import Panel


def noise_picture(width: int = 40, height: int = 30, seed: int = 0) -> Image.Image:
    pixels = np.random.default_rng(seed).integers(0, 256, (height, width, 3), dtype=np.uint8)
    return Image.fromarray(pixels)


def panel(values: np.ndarray[Any, Any], *, signed: bool = False, **changes: Any) -> Panel:
    fields: dict[str, Any] = {
        "method": "grad-cam",
        "values": values.astype(np.float32),
        "signed": signed,
        "target": "tabby (281)",
        "score": 12.5,
        "layer": "layer4",
        "cost": "1 forward, 1 backward",
    }
    return Panel(**fields | changes)


def bump(width: int = 40, height: int = 30) -> np.ndarray[Any, Any]:
    y, x = np.mgrid[-1 : 1 : height * 1j, -1 : 1 : width * 1j]
    return np.maximum(1 - 2 * (x**2 + y**2), 0)
