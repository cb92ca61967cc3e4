"""From the map of surfaces to pixels."""

from __future__ import annotations

import numpy as np

from seewhy.scenes.canvas import Canvas, Coverage, Surface


def painted(canvas: Canvas, pixels: np.ndarray) -> dict[int, Coverage]:
    """Paint all surfaces over the background, in place; how much of each pixel each surface covers."""
    visible = canvas.samples()
    found, painted = {}, []
    free = np.ones((canvas.size, canvas.size), np.float32)
    for number in range(1, len(canvas.surfaces)):
        window = canvas.window(number) if visible[number] else None
        if window is None:
            continue
        covered = canvas.coverage(number, window)
        free[window] -= covered
        painted.append((window, covered, canvas.surfaces[number]))
        if canvas.surfaces[number].owner >= 0:
            found[number] = np.zeros_like(free)
            found[number][window] = covered
    pixels *= free.clip(0, 1)[..., None]
    for window, covered, surface in painted:
        pixels[window] += covered[..., None] * _colors(surface, window)
    return found


def _colors(surface: Surface, window: tuple[slice, slice]) -> np.ndarray:
    """Colours of a surface in a window: (3,) if it is even, (h, w, 3) otherwise."""
    color = np.array(surface.color, np.float32)
    pose = surface.pose
    if pose is None:
        return color
    rows, columns = window
    right = (np.arange(columns.start, columns.stop, dtype=np.float32) + np.float32(0.5 - pose.x))[None]
    down = (np.arange(rows.start, rows.stop, dtype=np.float32) + np.float32(0.5 - pose.y))[:, None]
    if surface.texture is not None:
        a, b, c, d = pose.matrix()
        scale = 1 / (a * d - b * c)
        x = right * np.float32(d * scale) - down * np.float32(b * scale)
        y = down * np.float32(a * scale) - right * np.float32(c * scale)
        blend = surface.texture.painted(x, y)[..., None]
        color = color + (np.array(surface.texture.color, np.float32) - color) * blend
    strength = 0.22 / pose.radius
    light = right * np.float32(pose.light[0] * strength) + down * np.float32(pose.light[1] * strength)
    return color * (light + np.float32(1))[..., None]
