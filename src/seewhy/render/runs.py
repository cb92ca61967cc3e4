"""Connected components of masks, from the runs of their rows: no pixel is visited one by one."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from jaxtyping import Bool, Int

Pairs = tuple[Int[np.ndarray, " E"], Int[np.ndarray, " E"]]
"""Numbers of runs that touch: one above, one below."""


@dataclass(frozen=True, eq=False)
class Runs:
    """Maximal horizontal stretches of set pixels, in reading order: row, first column, one past the last."""

    row: Int[np.ndarray, " N"]
    start: Int[np.ndarray, " N"]
    end: Int[np.ndarray, " N"]


def runs(mask: Bool[np.ndarray, "H W"]) -> Runs:
    """The runs of a mask: where neighbours in reading order differ, with a free column between rows."""
    height, width = mask.shape
    padded = np.zeros((height, width + 1), bool)
    padded[:, :-1] = mask
    flat = padded.ravel()
    edges = np.flatnonzero(flat[1:] != flat[:-1]) + 1
    if flat.size and flat[0]:
        edges = np.concatenate([[0], edges])
    row, start = np.divmod(edges[::2], width + 1)
    return Runs(row, start, edges[1::2] - row * (width + 1))


def components(runs: Runs, pairs: Pairs | None = None, corners: bool = True) -> Int[np.ndarray, " N"]:
    """One component number per run, 0 to the number of components - 1, in the reading order of their first runs.

    Args:
        runs: of a mask.
        pairs: what `touching` gives for them, where it is known.
        corners: whether pixels that touch at a corner are connected.
    """
    upper, lower = pairs or touching(runs, corners)
    label = np.arange(len(runs.row))
    label[lower[::-1]] = upper[::-1]  # the first run that touches from above
    _settle(label)
    while (apart := label[upper] != label[lower]).any():
        upper, lower = upper[apart], lower[apart]
        smaller = np.minimum(label[upper], label[lower])
        # Hooking the labels' own labels, not only the runs', joins whole trees: few rounds even for spirals.
        np.minimum.at(label, label[upper], smaller)
        np.minimum.at(label, label[lower], smaller)
        _settle(label)
    return (np.cumsum(label == np.arange(len(label))) - 1)[label]


def touching(runs: Runs, corners: bool = True) -> Pairs:
    """Pairs of runs of consecutive rows that share a column or, with `corners`, meet at a corner."""
    if not len(runs.row):
        nothing = np.zeros(0, np.int64)
        return nothing, nothing
    stride = int(runs.end.max()) + 2
    starts, ends = runs.row * stride + runs.start, runs.row * stride + runs.end
    # The runs below that touch a run are consecutive: from the first not ended, to the last begun.
    first = np.searchsorted(ends, starts + stride, side="left" if corners else "right")
    beyond = np.searchsorted(starts, ends + stride, side="right" if corners else "left")
    count = np.maximum(beyond - first, 0)
    upper = np.repeat(np.arange(len(count)), count)
    return upper, np.arange(len(upper)) + np.repeat(first - count.cumsum() + count, count)


def _settle(label: Int[np.ndarray, " N"]) -> None:
    """Follow labels' labels to the end."""
    while ((further := label[label]) != label).any():
        label[:] = further
