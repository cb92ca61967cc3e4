"""How alike regions of different pictures are: by appearance, or also by where the regions around them went."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import combinations_with_replacement
from typing import Literal

import numpy as np
import torch
from jaxtyping import Float
from pydantic import BaseModel, ConfigDict, Field
from torch import Tensor

from seewhy.cancellation import stop_if_asked
from seewhy.summaries.hough import hough_confidence, memory
from seewhy.summaries.offsets import Order, offset_confidence
from seewhy.summaries.proposals import Boxes

_HELD = 256 << 20  # bytes that one batch of pairs may hold


class Matching(BaseModel):
    """What makes two regions alike."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    kind: Literal["appearance", "hough", "offsets"] = Field(
        default="appearance",
        description="Their whitened descriptors' cosine; or that times the votes of all regions for one move and scale "
        "(Probabilistic Hough Matching); or also by what regions around them do (Local Offset Matching, the paper's).",
    )
    order: Order = Field(
        default="simultaneous",
        description="Of Local Offset Matching: all regions at once, or one after the other as the public code does.",
    )


def compared(
    vectors: Sequence[Float[Tensor, "_ k"]], boxes: Sequence[Boxes], size: tuple[int, int], settings: Matching
) -> Float[np.ndarray, "N N"]:
    """The likeness of every two regions of all pictures, those of one picture included.

    Pairs of pictures are matched once, in the order given, and the other way round they are as alike.

    Args:
        vectors: per picture the whitened descriptors of its regions, of unit length.
        boxes: of these regions.
        size: height and width of all pictures.
        settings: what counts.
    """
    every = torch.cat(list(vectors)).double()
    appearance = every @ every.T
    if settings.kind == "appearance":
        return appearance.numpy()
    counts = [len(each) for each in boxes]
    starts = np.concatenate([[0], np.cumsum(counts)])
    found = np.zeros((len(every), len(every)))
    most = max(counts, default=0)
    padded = torch.zeros(len(boxes), most, 4, dtype=torch.float64)
    for place, own in enumerate(boxes):
        padded[place, : len(own)] = torch.from_numpy(own)
    pairs = list(combinations_with_replacement([n for n, count in enumerate(counts) if count], 2))
    together = max(1, _HELD // memory((size, size), most))
    for begin in range(0, len(pairs), together):
        stop_if_asked()
        part = pairs[begin : begin + together]
        similar = torch.zeros(len(part), most, most, dtype=torch.float64)
        for row, (one, other) in enumerate(part):
            block = appearance[starts[one] : starts[one + 1], starts[other] : starts[other + 1]]
            similar[row, : counts[one], : counts[other]] = block.clamp_min(0)
        first, second = (padded[[pair[side] for pair in part]] for side in (0, 1))
        if settings.kind == "hough":
            confidence = hough_confidence(similar, first, second, (size, size))
        else:
            confidence = offset_confidence(similar, first, second, (size, size), settings.order)
        for row, (one, other) in enumerate(part):
            own = confidence[row, : counts[one], : counts[other]].numpy()
            found[starts[one] : starts[one + 1], starts[other] : starts[other + 1]] = own
            found[starts[other] : starts[other + 1], starts[one] : starts[one + 1]] = own.T
    return found
