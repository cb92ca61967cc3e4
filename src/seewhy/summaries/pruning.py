"""Of windows that show the same, the one that other pictures match best."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from jaxtyping import Float, Int

SAME, LARGER = 0.5, 2.0
"""Share of the smaller area that two boxes share, and the quotient of areas under which they then show the same."""
_BEST = 100  # confidences that a box is judged by


def worth(confidences: Sequence[Float[np.ndarray, "n _"]]) -> Float[np.ndarray, " n"]:
    """How well one picture's boxes are matched: the mean of the best hundred confidences over all other pictures.

    Args:
        confidences: from these boxes to those of each other picture.
    """
    every = np.concatenate(confidences, 1)
    best: Float[np.ndarray, " n"] = np.sort(every, 1)[:, ::-1][:, :_BEST].mean(1)
    return best


def distinct(
    boxes: Int[np.ndarray, "R 4"], values: Float[np.ndarray, " R"], larger: float = LARGER
) -> Int[np.ndarray, " K"]:
    """Which boxes of a picture are kept, the best first; none shows the same as a better one.

    Godi et al., BMVC 2018; their loop rewrites the list that it goes through, this one does not.

    Args:
        boxes: x0, y0, x1, y1.
        values: of each; the better of two is kept, the first where they are equal.
        larger: quotient of two areas from which on both are kept although one covers the other.
    """
    area = (boxes[:, 2:] - boxes[:, :2]).prod(1)
    kept: list[int] = []
    for place in np.argsort(-values, kind="stable"):
        low = np.maximum(boxes[kept, :2], boxes[place, :2])
        high = np.minimum(boxes[kept, 2:], boxes[place, 2:])
        shared = np.clip(high - low, 0, None).prod(1) / np.minimum(area[kept], area[place])
        ratio = np.maximum(area[kept], area[place]) / np.minimum(area[kept], area[place])
        if not ((shared >= SAME) & (ratio < larger)).any():
            kept.append(int(place))
    return np.array(kept, np.int64)
