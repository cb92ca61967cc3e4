"""Proposal Flow's two confidences, vote by vote and region by region."""

from __future__ import annotations

import math

import numpy as np
from scipy.ndimage import convolve


def phm(similarity, first, second, sizes):
    (height_a, width_a), (height, width) = sizes
    cell = max(math.sqrt(4 * width * height / 8000), 5)
    columns, rows = round(2 * width / cell), round(2 * height / cell)
    edges_x, edges_y = np.linspace(1, 2 * width, columns + 1), np.linspace(1, 2 * height, rows + 1)
    edges_z = np.linspace(-4, 4, 21)
    table, where = np.zeros((rows, columns, 20)), {}
    for i, box in enumerate(first):
        best = {}
        for j, other in enumerate(second):
            (x, y), (u, v) = ((each[:2] + each[2:]) / 2 for each in (box, other))
            (w, h), (p, q) = ((each[2:] - each[:2]) / 2 for each in (box, other))
            if not 0.5 < (w / h) / (p / q) < 2:
                continue
            vote = u + p * (width_a - x) / w, v + q * (height_a - y) / h, math.log2(p * q / (w * h))
            place = [
                np.searchsorted(e, c, "right") - 1
                for e, c in zip((edges_x, edges_y, edges_z), vote, strict=True)
            ]
            if not (0 <= place[0] < columns and 0 <= place[1] < rows and 0 <= place[2] < 20):
                continue
            where[i, j] = place[1], place[0], place[2]
            best[where[i, j]] = max(best.get(where[i, j], 0), similarity[i, j])
        for place, value in best.items():
            table[place] += value
    line = np.exp(-((np.arange(5) - 2) ** 2) / (2 * (5 / 2 / 2.354) ** 2))
    line /= line.sum()
    smooth = convolve(table, line[:, None, None] * line[:, None] * line, mode="constant")
    found = np.zeros_like(similarity)
    for (i, j), place in where.items():
        found[i, j] = similarity[i, j] * smooth[place]
    return found


def lom(similarity, first, second, sizes, in_place=False):
    confidence = phm(similarity, first, second, sizes)
    found = confidence if in_place else confidence.copy()
    centres = [(boxes[:, :2] + boxes[:, 2:]) / 2 for boxes in (first, second)]
    areas = [(boxes[:, 2:] - boxes[:, :2]).prod(1) for boxes in (first, second)]
    for i in range(len(first)):
        near = []
        for k in range(len(first)):
            low, high = np.maximum(first[i, :2], first[k, :2]), np.minimum(first[i, 2:], first[k, 2:])
            if (high > low).all():
                near.append(k)
        best = confidence.argmax(1)
        offsets = np.array(
            [[*(centres[0][k] - centres[1][best[k]]), areas[0][k] / areas[1][best[k]]] for k in near]
        )
        middle = np.ones(3)
        for _ in range(20):
            share = 1 / (np.abs(offsets - middle) + 1e-6)
            middle = (share * offsets).sum(0) / share.sum(0)
        top = confidence.max(1)
        row = np.zeros(len(second))
        for j in range(len(second)):
            away = np.linalg.norm(centres[0][i] - centres[1][j] - middle[:2])
            grown = abs(areas[0][i] / areas[1][j] - middle[2])
            row[j] = similarity[i, j] * math.exp(-0.05 * away - 0.3 * grown) * top[near].sum() / top.sum()
        found[i] = row
    return found
