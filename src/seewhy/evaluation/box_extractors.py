"""Boxes from maps as three public evaluators draw them, and how boxes overlap.

Boxes here are corners (x0, y0, x1, y1) as the public code holds them: its overlap counts both corners as inside, though
x1 and y1 lie one past the last pixel.
"""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
from jaxtyping import Bool, Float, Int, UInt8

from seewhy.render.runs import Pairs, Runs, components, runs, touching

_AT_ONCE = 1 << 24  # pixels of stacked levels
CAM_THRESHOLDS = (20, 100, 110)
_CAM_MARGIN = 5
_CAM_DISTANCE = 10

Boxes = Int[np.ndarray, "_ 4"]
NO_BOX: Boxes = np.zeros((0, 4), np.int64)


def eight_bits(values: Float[np.ndarray, "H W"]) -> UInt8[np.ndarray, "H W"]:
    """A map stretched to 0 to 255 and cut to whole numbers; a constant one becomes 0."""
    scaled: UInt8[np.ndarray, "H W"] = (_stretched(values) * 255).astype(np.uint8)
    return scaled


def wsol(values: Float[np.ndarray, "H W"]) -> Int[np.ndarray, "255 4"]:
    """The box of the largest contour above each 8-bit level 0 to 254, as the public WSOL evaluation draws it.

    Choe et al., CVPR 2020. Its usual 1,000 thresholds become `int(threshold * 255)` and so are 255 at most; of these
    only the levels that occur in the map differ, and they are worked out together.

    Args:
        values: (H, W).

    Returns:
        Corners by level; -1 throughout where nothing is above it.
    """
    image = eight_bits(values)
    found = np.full((255, 4), -1)
    for levels, stretches in _levels(image):
        found[levels] = _largest(stretches, (len(levels), *image.shape))
    return clipped(found[_same_mask(image)], image.shape)


def wsol_best(values: Float[np.ndarray, "H W"], truth: Int[np.ndarray, "M 4"]) -> Float[np.ndarray, "255"]:
    """The highest overlap of any component with any true box, by 8-bit level.

    Components only: the public code also puts boxes around holes.
    """
    image = eight_bits(values)
    best = np.zeros(255)
    for levels, stretches in _levels(image):
        level, boxes, *_ = _boxes(stretches, (len(levels), *image.shape))
        np.maximum.at(best, levels[level], overlap(clipped(boxes, image.shape), truth).max(1))
    shared: Float[np.ndarray, "255"] = best[_same_mask(image)]
    return shared


def adl(values: Float[np.ndarray, "H W"], threshold: float = 0.2) -> Boxes:
    """The box of the public ADL evaluation: the largest contour of a grey picture of a colour map.

    Choe and Shim, CVPR 2019. The map is coloured by matplotlib's cubehelix, turned to grey, and cut above
    `int(threshold * max)`.
    """
    stretched = _stretched(values)
    if not stretched.any():
        return NO_BOX
    grey = cubehelix_grey()[(stretched * 256).astype(np.int64).clip(0, 255)]
    found = largest((grey > int(threshold * grey.max()))[None])
    return found[found[:, 0] >= 0]


def cam(values: Float[np.ndarray, "H W"]) -> Boxes:
    """The boxes of CAM's public evaluation, largest first; those that overlap a larger one by half are dropped.

    Zhou et al., CVPR 2016: the 8-bit map above 20, 100 and 110, the distance to the outside scaled to 0 to 255 and cut
    above 10, boxes around all contours, those of holes too. It does not pass through a JPEG here.
    """
    image = eight_bits(values)
    height, width = image.shape
    found = []
    for threshold in CAM_THRESHOLDS:
        mask = _away(image > threshold) > _CAM_DISTANCE
        stretches = _stacked(mask[None])
        _, outer, *_ = _boxes(stretches, (1, height, width))
        # The contour of a hole runs on the pixels around it.
        found += [outer, _holes(stretches, (1, height, width)) + np.array([-1, -1, 1, 1])]
    boxes = np.concatenate(found)
    x, y = boxes[:, 0], boxes[:, 1]
    wide = _limit(boxes[:, 2] - x, width - x - _CAM_MARGIN)
    tall = _limit(boxes[:, 3] - y, height - y - _CAM_MARGIN)
    x, y = _limit(x, width - _CAM_MARGIN), _limit(y, height - _CAM_MARGIN)
    order = np.argsort(-(wide * tall), kind="stable")
    ranked = np.stack([x, y, x + wide, y + tall], axis=1)[order].tolist()
    place = 0
    while place < len(ranked):
        other = place + 1
        while other < len(ranked):
            if _half_over(ranked[place], ranked[other]):
                del ranked[other]
            other += 1  # as there: what follows a dropped box is not looked at
        place += 1
    corners = np.array(ranked, np.int64).reshape(-1, 4)
    return np.concatenate(
        [np.minimum(corners[:, :2], corners[:, 2:]), np.maximum(corners[:, :2], corners[:, 2:])], axis=1
    )


def largest(masks: Bool[np.ndarray, "K H W"]) -> Int[np.ndarray, "K 4"]:
    """The box of the contour that encloses the largest area in each mask, -1 where a mask is empty.

    Areas are those of the polygon through the pixels' centres, holes included, as OpenCV's `contourArea` has them; of
    equals the last in reading order counts, which is the one that OpenCV lists first.
    """
    return _largest(_stacked(masks), masks.shape)


def clipped(boxes: Boxes, shape: tuple[int, ...]) -> Boxes:
    """Corners within the picture, as the WSOL evaluation clips them."""
    within: Boxes = np.minimum(boxes, np.array([shape[1], shape[0], shape[1] - 1, shape[0] - 1]))
    return within


def overlap(first: Int[np.ndarray, "N 4"], second: Int[np.ndarray, "M 4"]) -> Float[np.ndarray, "N M"]:
    """Intersection over union with both corners inside; 0 for the -1 of no box."""
    low = np.maximum(first[:, None, :2], second[None, :, :2])
    high = np.minimum(first[:, None, 2:], second[None, :, 2:])
    common = (high - low + 1).clip(0).prod(2)
    areas = [(each[:, 2:] - each[:, :2] + 1).prod(1) for each in (first, second)]
    share: Float[np.ndarray, "N M"] = common / (areas[0][:, None] + areas[1][None] - common)
    share[first[:, 0] < 0] = 0
    return share


def cubehelix_grey() -> UInt8[np.ndarray, "256"]:
    """Grey levels of the 256 colours of cubehelix (Green, 2011; start 0.5, -1.5 rotations, as in matplotlib)."""
    x = np.linspace(0, 1, 256)
    angle = 2 * np.pi * (0.5 / 3 - 1.5 * x)
    strength = x * (1 - x) / 2
    weights = ((-0.14861, 1.78277), (-0.29227, -0.90649), (1.97294, 0.0))
    colours = [x + strength * (c * np.cos(angle) + s * np.sin(angle)) for c, s in weights]
    red, green, blue = ((each.clip(0, 1).astype(np.float32) * 255).astype(np.int64) for each in colours)
    return ((4899 * red + 9617 * green + 1868 * blue + (1 << 13)) >> 14).astype(np.uint8)


def _stretched(values: Float[np.ndarray, "H W"]) -> Float[np.ndarray, "H W"]:
    """A map in [0, 1], in float64: the highest pixel becomes 1 exactly. A constant map becomes 0."""
    exact = values.astype(np.float64)
    low, high = exact.min(), exact.max()
    return (exact - low) / (high - low) if high > low else np.zeros_like(exact)


def _levels(image: UInt8[np.ndarray, "H W"]) -> Iterator[tuple[Int[np.ndarray, " K"], Runs]]:
    """The levels that occur, the highest aside, with the stack of what is above each, as many at once as is fast."""
    levels = _occurring(image)
    place = np.zeros(256, np.int32)
    place[levels] = np.arange(len(levels))
    most = max(1, _AT_ONCE // image.size)
    for start in range(0, len(levels) - 1, most):
        part = levels[start : min(start + most, len(levels) - 1)]
        yield part, _above(place[image].clip(start, start + len(part)) - start)


def _occurring(image: UInt8[np.ndarray, "H W"]) -> Int[np.ndarray, " K"]:
    return np.flatnonzero(np.bincount(image.ravel()))


def _above(image: Int[np.ndarray, "H W"]) -> Runs:
    """The stack of the pixels above 0, above 1 and so on, from where neighbours differ: no mask is made."""
    height, width = image.shape
    padded = np.pad(image, ((0, 0), (1, 1)))
    step = np.diff(padded, axis=1).ravel()
    before, after = padded[:, :-1].ravel(), padded[:, 1:].ravel()
    level, place = _between(before, step)
    row, column = np.divmod(place, np.int32(width + 1))
    _, ends = _between(after, -step)
    # Runs of a row and level begin and end in turn, so that both lists pair as they are.
    return Runs(1 + level * np.int32(height + 1) + row, 1 + column, 1 + ends % np.int32(width + 1))


def _between(
    lowest: Int[np.ndarray, " P"], many: Int[np.ndarray, " P"]
) -> tuple[Int[np.ndarray, " N"], Int[np.ndarray, " N"]]:
    """For each place so many levels from the lowest on, none where that is negative; sorted by level, then place."""
    some = np.flatnonzero(many > 0).astype(np.int32)
    many = many[some]
    place = np.repeat(some, many)
    first = many.cumsum(dtype=np.int32) - many - lowest[some]
    level = np.arange(len(place), dtype=np.int32) - np.repeat(first, many)
    order = np.argsort(level.astype(np.uint8), kind="stable")
    return level[order], place[order]


def _same_mask(image: UInt8[np.ndarray, "H W"]) -> Int[np.ndarray, "255"]:
    """Per level the next lower one that occurs, whose mask it shares."""
    occurs = np.zeros(255, np.int64)
    levels = _occurring(image)[:-1]
    occurs[levels] = levels
    return np.maximum.accumulate(occurs)


def _stacked(masks: Bool[np.ndarray, "K H W"]) -> Runs:
    """The runs of masks below each other, an empty row between them, an empty column on either side."""
    count, height, width = masks.shape
    canvas = np.zeros((count * (height + 1) + 1, width + 2), bool)
    canvas[1:].reshape(count, height + 1, width + 2)[:, :height, 1:-1] = masks
    return runs(canvas)


def _gaps(stretches: Runs, shape: tuple[int, ...]) -> Runs:
    """The runs of what a stack leaves free."""
    rows = shape[0] * (shape[1] + 1) + 1
    # Each row's first gap begins at 0 and its last one ends at the border; between, gaps and runs alternate.
    before = np.searchsorted(stretches.row, np.arange(rows))
    after = np.append(before[1:], len(stretches.row))
    row = np.insert(stretches.row, before, np.arange(rows))
    return Runs(row, np.insert(stretches.end, before, 0), np.insert(stretches.start, after, shape[2] + 2))


def _filled(stretches: Runs, shape: tuple[int, ...]) -> Runs:
    """The runs of a stack with its holes filled: what lies between runs of the outside."""
    gaps = _gaps(stretches, shape)
    outside = components(gaps, corners=False) == 0  # the empty rows join the outsides of all masks
    row, start, end = gaps.row[outside], gaps.start[outside], gaps.end[outside]
    same = row[1:] == row[:-1]
    return Runs(row[1:][same], end[:-1][same], start[1:][same])


def _holes(stretches: Runs, shape: tuple[int, ...]) -> Boxes:
    """Tight boxes of the holes of a stack of one mask."""
    gaps = _gaps(stretches, shape)
    component = components(gaps, corners=False)
    inner = component > 0
    own = Runs(gaps.row[inner], gaps.start[inner], gaps.end[inner])
    return _tight(own, component[inner] - 1, shape)[1]


def _largest(stretches: Runs, shape: tuple[int, ...]) -> Int[np.ndarray, "K 4"]:
    """`largest` of the masks of a stack."""
    level, boxes, area, pairs = _boxes(stretches, shape)
    # Runs and what touches make a graph whose cycles go around holes (Euler): only masks with holes are filled.
    of_run = _level(stretches.row, shape)
    pieces, rows, touches = (
        np.bincount(each, minlength=shape[0]) for each in (level, of_run, of_run[pairs[0]])
    )
    holed = pieces - rows + touches > 0
    if holed.any():
        some = holed[of_run]
        moved = np.cumsum(holed) - 1 - np.arange(shape[0])
        row = stretches.row[some] + moved[of_run[some]] * (shape[1] + 1)
        of = int(holed.sum()), *shape[1:]
        own, filled, enclosed, _ = _boxes(
            _filled(Runs(row, stretches.start[some], stretches.end[some]), of), of
        )
        kept = ~holed[level]
        level = np.concatenate([level[kept], np.flatnonzero(holed)[own]])
        boxes, area = np.concatenate([boxes[kept], filled]), np.concatenate([area[kept], enclosed])
    found = np.full((shape[0], 4), -1)
    order = np.lexsort((np.arange(len(area)), area, level))
    last = np.flatnonzero(np.diff(level[order], append=-1))
    found[level[order[last]]] = boxes[order[last]]
    return found


def _level(row: Int[np.ndarray, " N"], shape: tuple[int, ...]) -> Int[np.ndarray, " N"]:
    """Which mask of a stack a row is of."""
    return (row - 1) // (shape[1] + 1)


def _boxes(
    stretches: Runs, shape: tuple[int, ...]
) -> tuple[Int[np.ndarray, " N"], Boxes, Float[np.ndarray, " N"], Pairs]:
    """The components of a stack: mask, box, area of the polygon around each, holes left out; and what touches."""
    upper, lower = pairs = touching(stretches)
    component = components(stretches, pairs)
    level, boxes = _tight(stretches, component, shape)
    starts, ends = stretches.start, stretches.end
    shared = np.minimum(ends[upper], ends[lower]) - np.maximum(starts[upper], starts[lower])
    # Between two rows: a square for each two columns shared, a triangle where one run reaches further.
    reach = (starts[upper] != starts[lower]) * 0.5 + (ends[upper] != ends[lower]) * 0.5
    area = np.where(shared > 0, shared - 1 + reach, 0.0)
    return level, boxes, np.bincount(component[upper], area, len(level)).astype(np.float64), pairs


def _tight(
    stretches: Runs, component: Int[np.ndarray, " N"], shape: tuple[int, ...]
) -> tuple[Int[np.ndarray, " M"], Boxes]:
    """The mask and the box of each component, in the coordinates of its mask."""
    if not len(component):
        return np.zeros(0, np.int64), NO_BOX
    order = np.argsort(component, kind="stable")
    first = np.flatnonzero(np.diff(component[order], prepend=-1))
    top = np.minimum.reduceat(stretches.row[order], first)
    bottom = np.maximum.reduceat(stretches.row[order], first)
    left = np.minimum.reduceat(stretches.start[order], first)
    right = np.maximum.reduceat(stretches.end[order], first)
    level = _level(top, shape)
    above = 1 + level * (shape[1] + 1)
    return level, np.stack([left - 1, top - above, right - 1, bottom - above + 1], axis=1)


def _away(mask: Bool[np.ndarray, "H W"]) -> Int[np.ndarray, "H W"]:
    """Distance to the nearest pixel outside, scaled to 0 to 255; a mask without outside is 255 throughout."""
    height, width = mask.shape
    if mask.all():
        return np.full(mask.shape, 255)
    rows = np.arange(height)[:, None]
    above = np.maximum.accumulate(np.where(mask, -np.inf, rows), axis=0)
    below = np.minimum.accumulate(np.where(mask, np.inf, rows)[::-1], axis=0)[::-1]
    column = np.minimum(rows - above, below - rows) ** 2
    places = np.arange(width)
    across = ((places[:, None] - places) ** 2).astype(np.float64)
    squared = np.stack([(across + row).min(1) for row in column])
    distance = np.sqrt(squared)
    most = distance.max()
    if most == 0:
        return np.zeros(mask.shape, np.int64)
    scaled: Int[np.ndarray, "H W"] = (distance * (255 / most) + 0.5).astype(np.int64).clip(0, 255)
    return scaled


def _limit(values: Int[np.ndarray, " N"], most: int | Int[np.ndarray, " N"]) -> Int[np.ndarray, " N"]:
    return np.where(values < 0, 0, np.minimum(values, most))


def _half_over(larger: list[int], smaller: list[int]) -> bool:
    """Whether the overlap is more than half of the larger area."""
    areas = [(box[2] - box[0]) * (box[3] - box[1]) for box in (larger, smaller)]
    wide = max(0, min(larger[2], smaller[2]) - max(larger[0], smaller[0]))
    tall = max(0, min(larger[3], smaller[3]) - max(larger[1], smaller[1]))
    return wide * tall > int(max(areas) * 0.5)
