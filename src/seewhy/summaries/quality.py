"""How alike the members of a cluster look once they are brought over one another, and which do not belong."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from jaxtyping import Float
from PIL import Image

from seewhy.errors import MissingExtraError

POOR, STRANGE = 0.9, 0.6
"""A cluster is poor whose likeness is under this share of the middle one's; a member is strange that is less like so
many of its fellows than that."""

Likeness = Float[np.ndarray, "_ _"]


def likeness(pictures: Sequence[np.ndarray]) -> Likeness:
    """The structural similarity (Wang et al., TIP 2004) of every two grey pictures (h, w, 3) of one size.

    Raises:
        MissingExtraError: scikit-image is not installed.
    """
    compare = _ssim()
    grey = [np.asarray(Image.fromarray(each).convert("L")) for each in pictures]
    side = min(grey[0].shape)
    window = min(7, side - (side + 1) % 2)
    found = np.ones((len(grey), len(grey)))
    for one in range(len(grey)):
        for other in range(one):
            found[one, other] = found[other, one] = compare(grey[one], grey[other], win_size=window)
    return found


def quality(similar: Likeness) -> float | None:
    """The median likeness of two members; None of a cluster of one, which has no two."""
    off = similar[~np.eye(len(similar), dtype=bool)]
    return float(np.median(off)) if off.size else None


def filtered(
    clusters: Sequence[Likeness], poor: float = POOR, strange: float = STRANGE
) -> list[list[int] | None]:
    """Per cluster the members that stay, or None where the cluster goes (Godi et al., BMVC 2018).

    A cluster of one has no likeness. It goes, and has no say in what is usual: in the public code its median is not a
    number, every comparison with it is false, and the filter then lets everything pass.

    Args:
        clusters: likeness of the members of each.
        poor: share of the usual likeness under which a cluster goes.
        strange: share of a member's fellows to which it is less alike than usual, from which on it goes.
    """
    found = [quality(each) for each in clusters]
    known = [each for each in found if each is not None]
    if not known:
        return [None for _ in clusters]
    usual = float(np.median(known))
    kept: list[list[int] | None] = []
    for each, own in zip(clusters, found, strict=True):
        if own is None or own < poor * usual:
            kept.append(None)
            continue
        others = ~np.eye(len(each), dtype=bool)
        below = ((each < usual) & others).sum(1) / (len(each) - 1)
        kept.append([place for place in range(len(each)) if below[place] < strange])
    return kept


def _ssim() -> Any:
    try:
        from skimage.metrics import structural_similarity
    except ImportError as error:
        raise MissingExtraError("scikit-image", "summaries") from error
    return structural_similarity
