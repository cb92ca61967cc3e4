"""Boxes from maps: by hand, by floods pixel by pixel, and by OpenCV where it is installed."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from seewhy.evaluation.box_extractors import (
    adl,
    cam,
    cubehelix_grey,
    eight_bits,
    largest,
    overlap,
    wsol,
    wsol_best,
)

EIGHT = [(y, x) for y in (-1, 0, 1) for x in (-1, 0, 1) if (y, x) != (0, 0)]
FOUR = [(-1, 0), (1, 0), (0, -1), (0, 1)]
COARSE = arrays(
    np.float32, st.tuples(st.integers(2, 9), st.integers(2, 9)), elements=st.integers(0, 5).map(np.float32)
)


def flooded(mask, steps):
    """Connected parts as sets of pixels, by their first pixel in reading order."""
    waiting, parts = [tuple(each) for each in np.argwhere(mask).tolist()], []
    while waiting:
        part, edge = {waiting[0]}, [waiting[0]]
        while edge:
            y, x = edge.pop()
            near = {(y + v, x + u) for v, u in steps} & set(waiting) - part
            part |= near
            edge.extend(near)
        waiting = [each for each in waiting if each not in part]
        parts.append(part)
    return parts


def holes_of(mask):
    """Parts of the outside that do not reach the border."""
    parts = flooded(np.pad(~mask, 1, constant_values=True), FOUR)
    return [{(y - 1, x - 1) for y, x in part} for part in parts if (0, 0) not in part]


def bounds(part):
    rows, columns = zip(*part, strict=True)
    return [min(columns), min(rows), max(columns) + 1, max(rows) + 1]


def enclosed(part):
    """Area of the polygon through the centres of a hole-free part: squares of four and triangles of three pixels."""
    corners = {(y + v, x + u) for y, x in part for v in (0, -1) for u in (0, -1)}
    counts = [sum((y + v, x + u) in part for v in (0, 1) for u in (0, 1)) for y, x in corners]
    return sum({4: 1.0, 3: 0.5}.get(count, 0.0) for count in counts)


def largest_by_flood(mask):
    filled = mask.copy()
    for hole in holes_of(mask):
        for place in hole:
            filled[place] = True
    best = None
    for part in flooded(filled, EIGHT):
        if best is None or enclosed(part) >= enclosed(best):
            best = part
    return bounds(best) if best else [-1] * 4


def test_the_largest_contour_by_hand() -> None:
    mask = np.zeros((10, 12), bool)
    mask[0, :] = True  # the most pixels of a line enclose nothing
    mask[2:6, 2:6] = True
    mask[3:5, 3:5] = False  # a hole counts as enclosed
    mask[7:10, 7:10] = True
    assert largest(mask[None]).tolist() == [[2, 2, 6, 6]]
    assert largest(np.zeros((2, 3, 4), bool)).tolist() == [[-1] * 4] * 2
    dots = np.eye(5, dtype=bool)[:, ::2] & False
    dots[0, 0] = dots[3, 2] = True
    assert largest(dots[None]).tolist() == [[2, 3, 3, 4]]  # of equals the last


@given(arrays(bool, st.tuples(st.integers(1, 3), st.integers(1, 9), st.integers(1, 9))))
@settings(max_examples=150, deadline=None)
def test_the_largest_contour_is_that_of_floods(masks) -> None:
    assert largest(masks).tolist() == [largest_by_flood(mask) for mask in masks]


@given(COARSE)
@settings(max_examples=40, deadline=None)
def test_boxes_at_all_levels_are_those_of_a_thousand_thresholds_one_by_one(values) -> None:
    image, found = eight_bits(values), wsol(values)
    height, width = values.shape
    seen = {}
    for threshold in np.arange(0, 1, 0.001):
        mask = image > int(threshold * 255)
        if mask.tobytes() not in seen:
            seen[mask.tobytes()] = largest_by_flood(mask)
        box = seen[mask.tobytes()]
        expected = [box[0], box[1], min(box[2], width - 1), min(box[3], height - 1)]
        assert found[int(threshold * 255)].tolist() == expected


@given(COARSE, st.integers(0, 3))
@settings(max_examples=40, deadline=None)
def test_the_best_of_all_components_is_that_of_floods(values, corner) -> None:
    image, truth = eight_bits(values), np.array([[corner, 0, 6, 6], [0, 0, 1, 1]])
    found = wsol_best(values, truth)
    height, width = values.shape
    for level in range(0, 255, 5):
        boxes = [bounds(part) for part in flooded(image > level, EIGHT)]
        shares = [
            by_hand([x0, y0, min(x1, width - 1), min(y1, height - 1)], box)
            for x0, y0, x1, y1 in boxes
            for box in truth
        ]
        assert found[level] == pytest.approx(max(shares, default=0))


def by_hand(first, second):
    """Intersection over union of pixels, both corners inside."""
    sets = [{(x, y) for x in range(b[0], b[2] + 1) for y in range(b[1], b[3] + 1)} for b in (first, second)]
    return len(sets[0] & sets[1]) / len(sets[0] | sets[1])


def test_overlap_counts_both_corners() -> None:
    assert overlap(np.array([[2, 2, 5, 5]]), np.array([[2, 2, 5, 5]])) == 1
    assert overlap(np.array([[2, 2, 6, 6]]), np.array([[2, 2, 5, 5]])) == 16 / 25
    assert overlap(np.array([[0, 0, 1, 1]]), np.array([[2, 2, 3, 3]])) == 0
    assert overlap(np.array([[-1, -1, -1, -1]]), np.array([[0, 0, 3, 3]])) == 0
    draws = np.random.default_rng(0).integers(0, 6, (20, 2, 2))
    boxes = np.concatenate([draws.min(1), draws.max(1)], axis=1)
    expected = [[by_hand(one, other) for other in boxes] for one in boxes]
    np.testing.assert_allclose(overlap(boxes, boxes), expected)


def cam_by_loops(values):
    image = eight_bits(values).astype(int)
    height, width = image.shape
    boxes = []
    for threshold in (20, 100, 110):
        mask = image > threshold
        away = np.zeros(image.shape)
        for place in np.ndindex(image.shape):
            free = np.argwhere(~mask)
            away[place] = np.sqrt(((free - place) ** 2).sum(1).min()) if len(free) else 1
        even = mask.all() or not mask.any()
        grey = mask * 255 if even else np.floor(away * (255 / away.max()) + 0.5)
        shape = grey > 10
        found = [bounds(part) for part in flooded(shape, EIGHT)]
        found += [[x0 - 1, y0 - 1, x1 + 1, y1 + 1] for x0, y0, x1, y1 in map(bounds, holes_of(shape))]
        for x0, y0, x1, y1 in found:
            limit = lambda v, r: 0 if v < 0 else min(v, r)  # noqa: E731
            boxes.append(
                (
                    limit(x0, width - 5),
                    limit(y0, height - 5),
                    limit(x1 - x0, width - x0 - 5),
                    limit(y1 - y0, height - y0 - 5),
                )
            )
    boxes.sort(key=lambda box: -box[2] * box[3])
    place = 0
    while place < len(boxes):
        other = place + 1
        while other < len(boxes):
            a, b = boxes[place], boxes[other]
            wide = max(0, min(a[0] + a[2], b[0] + b[2]) - max(a[0], b[0]))
            tall = max(0, min(a[1] + a[3], b[1] + b[3]) - max(a[1], b[1]))
            if wide * tall > int(max(a[2] * a[3], b[2] * b[3]) * 0.5):
                boxes.pop(other)
            other += 1
        place += 1
    return [[min(x, x + w), min(y, y + h), max(x, x + w), max(y, y + h)] for x, y, w, h in boxes]


def test_cam_s_boxes_by_hand() -> None:
    values = np.zeros((40, 60), np.float32)
    values[5:25, 10:40] = 1.0  # above all three thresholds: one box, its two repetitions half dropped
    values[28:34, 45:52] = 90 / 255  # above the lowest threshold only
    assert cam(values).tolist() == [[10, 5, 40, 25], [10, 5, 40, 25], [45, 28, 52, 34]]
    # The second repetition stays: the public loop does not look at what follows a box it has dropped.
    assert cam(np.zeros((20, 20), np.float32)).tolist() == []


@pytest.mark.parametrize("seed", range(12))
def test_cam_s_boxes_are_those_of_loops(seed) -> None:
    coarse = torch.rand(1, 1, 4, 5, generator=torch.Generator().manual_seed(seed)) ** 2
    values = torch.nn.functional.interpolate(coarse, (18, 23), mode="bilinear")[0, 0].numpy()
    assert cam(values).tolist() == cam_by_loops(values)


def test_the_grey_of_cubehelix_rises_so_that_adl_s_threshold_is_one_of_the_map() -> None:
    grey = cubehelix_grey().astype(int)
    assert (np.diff(grey) >= 0).all()
    assert (grey[0], grey[-1]) == (0, 255)


def test_the_grey_of_cubehelix_is_matplotlib_s() -> None:
    matplotlib = pytest.importorskip("matplotlib")
    colours = matplotlib.colormaps["cubehelix"](np.arange(256))[:, :3]
    colours = (colours.astype("float32") * 255).astype("uint8").astype(float)
    # Whole-number weights, as OpenCV 3 has them, may round the other way.
    assert np.abs(colours @ [0.299, 0.587, 0.114] - cubehelix_grey()).max() <= 0.51


def test_adl_s_box_by_hand() -> None:
    values = np.full((12, 14), 1.0, np.float32)
    values[2:6, 3:9] = 9.0
    values[8:10, 10:12] = 7.0
    assert adl(values).tolist() == [[3, 2, 9, 6]]
    assert adl(np.ones((4, 4), np.float32)).tolist() == []


def usual(values, thresholds):
    """The public procedure with OpenCV, one threshold after another."""
    cv2 = pytest.importorskip("cv2", reason="OpenCV comes with the peers of `make test-slow`")
    image, (height, width), found = eight_bits(values), values.shape, []
    for threshold in thresholds:
        _, mask = cv2.threshold(image, int(threshold * image.max()), 255, cv2.THRESH_BINARY)
        contours = cv2.findContours(mask, cv2.RETR_TREE, cv2.CHAIN_APPROX_SIMPLE)[0]
        if not contours:
            found.append([-1] * 4)
            continue
        x, y, wide, tall = cv2.boundingRect(max(contours, key=cv2.contourArea))
        found.append([x, y, min(x + wide, width - 1), min(y + tall, height - 1)])
    return np.array(found)


@pytest.mark.slow
@pytest.mark.parametrize("seed", range(8))
def test_boxes_are_opencv_s_at_a_thousand_thresholds(seed) -> None:
    draws = torch.Generator().manual_seed(seed)
    values = torch.rand(1, 1, 5 + 6 * seed, 7 + 5 * seed, generator=draws) ** 2
    if seed % 2:
        values = torch.nn.functional.interpolate((values - 0.2).clamp_min(0), (61, 90), mode="bilinear")
    thresholds = np.arange(0, 1, 0.001)
    found = wsol(values[0, 0].numpy())[(thresholds * 255).astype(int)]
    np.testing.assert_array_equal(found, usual(values[0, 0].numpy(), thresholds))
