"""Context-aware saliency once more: slow, in float64, patch by patch, from Goferman et al. (CVPR 2010)."""

import math

import numpy as np
import torch
import torch.nn.functional as F


def slow_lab(picture: np.ndarray) -> np.ndarray:
    """CIE L*a*b* of one sRGB picture (H, W, 3), pixel by pixel."""
    found = np.zeros_like(picture)
    rows = np.array([[0.4124, 0.3576, 0.1805], [0.2126, 0.7152, 0.0722], [0.0193, 0.1192, 0.9505]])
    white = rows.sum(1)

    def cubed(t: float) -> float:
        return t ** (1 / 3) if t > (6 / 29) ** 3 else t / (3 * (6 / 29) ** 2) + 4 / 29

    for place in np.ndindex(*picture.shape[:2]):
        linear = [v / 12.92 if v <= 0.04045 else ((v + 0.055) / 1.055) ** 2.4 for v in picture[place]]
        x, y, z = (cubed(t) for t in rows @ np.array(linear) / white)
        found[place] = 116 * y - 16, 500 * (x - y), 200 * (y - z)
    return found


def resized(picture: np.ndarray, ratio: float) -> np.ndarray:
    """Bilinear with the triangle as wide as a pixel of the smaller picture, by a matrix per axis."""
    for axis in (0, 1):
        side = picture.shape[axis]
        wanted = max(1, round(side * ratio))
        step = side / wanted
        reach = max(step, 1)
        weights = np.zeros((wanted, side))
        for row in range(wanted):
            centre = (row + 0.5) * step
            weights[row] = np.clip(1 - np.abs(np.arange(side) + 0.5 - centre) / reach, 0, None)
        weights /= weights.sum(1, keepdims=True)
        picture = np.moveaxis(np.tensordot(weights, picture, (1, axis)), 0, axis)
    return picture


def starts(side: int, patch: int, stride: int, centred: bool) -> list[int]:
    """Where patches begin: as many as leave the same on both sides, or from the corner on."""
    rest = side - patch
    if not centred:
        return list(range(0, rest + 1, stride))
    count = rest // stride + 1
    if (rest - (count - 1) * stride) % 2 and stride % 2 and count > 1:
        count -= 1
    first = (rest - (count - 1) * stride) // 2
    return [first + stride * number for number in range(count)]


def raw(picture, size, patch=7, stride=3, nearest=64, position=3.0, factor=1.0, centred=True):
    """1 - exp(-mean distance) of every pixel of the picture (H, W, C) at one scale."""
    half = patch // 2
    database, places = [], []
    for level in (size, size / 2, size / 4):
        if level < 0.2 - 1e-9:
            continue
        smaller = resized(picture, level)
        tall, wide = (whole / max(picture.shape[:2]) for whole in picture.shape[:2])
        rows, columns = (starts(side, patch, stride, centred) for side in smaller.shape[:2])
        if min(smaller.shape[:2]) < patch:
            continue
        for y in rows:
            for x in columns:
                database.append(smaller[y : y + patch, x : x + patch].ravel())
                places.append(
                    ((y + patch / 2) / smaller.shape[0] * tall, (x + patch / 2) / smaller.shape[1] * wide)
                )
    database, places = np.array(database), np.array(places)
    shown = resized(picture, size)
    padded = np.pad(shown, [(half, half), (half, half), (0, 0)], mode="reflect")
    found = np.zeros(shown.shape[:2])
    for y, x in np.ndindex(*found.shape):
        patch_here = padded[y : y + patch, x : x + patch].ravel()
        apart = np.sqrt(
            ((places - [(y + 0.5) / len(shown) * tall, (x + 0.5) / shown.shape[1] * wide]) ** 2).sum(1)
        )
        distances = np.sqrt(((database - patch_here) ** 2).sum(1)) / (1 + position * apart)
        found[y, x] = 1 - math.exp(-factor * np.sort(distances)[:nearest].mean())
    return found


def enlarged(values: np.ndarray, size: tuple[int, int]) -> np.ndarray:
    found = F.interpolate(torch.from_numpy(values)[None, None], size, mode="bilinear", align_corners=False)
    return found[0, 0].numpy()


def distances(places: np.ndarray) -> np.ndarray:
    """From every pixel to the nearest that is set, by trying all."""
    rows, columns = np.nonzero(places)
    found = np.zeros(places.shape)
    for y, x in np.ndindex(*places.shape):
        found[y, x] = np.sqrt((rows - y) ** 2 + (columns - x) ** 2).min()
    return found


def stretched(values: np.ndarray) -> np.ndarray:
    return (values - values.min()) / (values.max() - values.min())


def slow_saliency(channels: np.ndarray, scales, **settings) -> np.ndarray:
    """The whole method, for channels (H, W, C) that are stretched to [0, 1]."""
    total = np.zeros(channels.shape[:2])
    for size in scales:
        at_scale = stretched(enlarged(raw(channels, size, **settings), channels.shape[:2]))
        far = distances(at_scale > 0.8) / max(at_scale.shape)
        total += at_scale * (1 - np.minimum(far, 1)) / len(scales)
    return total


def slow_smiler(channels: np.ndarray) -> np.ndarray:
    """The same as the MATLAB code of Tsai and Chang in SMILER computes it, as its listing says."""
    total = np.zeros(channels.shape[:2])
    for size, half in zip((1, 0.8, 0.5, 0.3), (3, 2, 1, 1), strict=True):
        side = 2 * half + 1
        found = raw(channels, size, side, half, factor=49 / side**2, centred=False)
        framed = np.zeros_like(found)
        framed[half:-half, half:-half] = found[half:-half, half:-half]
        total += enlarged(framed, channels.shape[:2]) / 4
    far = distances(total > 0.8 * total.max())
    return total * (1 - far / far.max())
