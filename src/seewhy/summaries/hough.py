"""Probabilistic Hough Matching: pairs of regions vote for where, and how large, a picture lies in another.

Regions that agree about that are right together. All pairs of pictures of a batch are voted on at once, by sorting:
what is kept is one number per vote, never a table of all bins for all regions.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from jaxtyping import Float, Int
from torch import Tensor

BINS, LEVELS = 8000, 20  # cells of the plane at least as large as one of so many, and of scale
_SMALLEST_CELL = 5.0  # pixels
_LOG_SCALE = 4.0  # the log2 of an area's growth goes from minus to plus this
_TAPS, _SIGMA = (
    5,
    5 / 2 / 2.354,
)  # of the smoothing, in bins: half of the kernel is its full width at half maximum
_ASPECT = 2.0  # quotient of two regions' aspect ratios from which on they cannot match


@dataclass(frozen=True)
class Space:
    """The bins of votes: where the first picture's lower right corner would lie in the second, and the scale.

    Attributes:
        columns: bins across, over twice the second picture's width.
        rows: bins down.
        width: of the second picture.
        height: of it.
    """

    columns: int
    rows: int
    width: float
    height: float

    @classmethod
    def of(cls, size: tuple[int, int]) -> Space:
        """For second pictures of a height and width."""
        height, width = size
        cell = max((4 * width * height / BINS) ** 0.5, _SMALLEST_CELL)
        return cls(max(1, round(2 * width / cell)), max(1, round(2 * height / cell)), width, height)

    @property
    def bins(self) -> int:
        """How many there are."""
        return self.columns * self.rows * LEVELS

    def places(
        self, votes: Float[Tensor, "*n 2"], scale: Float[Tensor, "*n"]
    ) -> tuple[Int[Tensor, "*n"], Tensor]:
        """The bin of each vote, and whether it lies in any."""
        x = (votes[..., 0] - 1) / (2 * self.width - 1) * self.columns
        y = (votes[..., 1] - 1) / (2 * self.height - 1) * self.rows
        z = (scale + _LOG_SCALE) / (2 * _LOG_SCALE) * LEVELS
        inside = (x >= 0) & (x < self.columns) & (y >= 0) & (y < self.rows) & (z >= 0) & (z < LEVELS)
        number = (y.floor().long() * self.columns + x.floor().long()) * LEVELS + z.floor().long()
        return torch.where(inside, number, 0), inside


def hough_confidence(
    similarity: Float[Tensor, "P n m"],
    first: Float[Tensor, "P n 4"],
    second: Float[Tensor, "P m 4"],
    sizes: tuple[tuple[int, int], tuple[int, int]],
) -> Float[Tensor, "P n m"]:
    """Confidences of matches between P pairs of pictures (PHM: Cho, Kwak, Schmid and Ponce, CVPR 2015).

    A match of appearance a votes for an offset and a scale; a bin gets the best vote of each region of the first
    picture, summed over these regions and smoothed; the confidence is the appearance times its own bin.

    Args:
        similarity: of appearance, not negative; rows that stand for no region are zero.
        first: regions x0, y0, x1, y1 of the first pictures.
        second: of the second ones.
        sizes: height and width of all first and of all second pictures.

    Returns:
        Confidences; zero where aspect ratios differ by a factor of two or more, and for votes outside all bins.
    """
    space = Space.of(sizes[1])
    pairs, count, _ = similarity.shape
    centre, half = _middle(first)
    other, wide = _middle(second)
    corner = torch.tensor(sizes[0][::-1], dtype=first.dtype, device=first.device)
    offset = (corner - centre) / half
    votes = other[:, None] + wide[:, None] * offset[:, :, None]
    scale = torch.log2(wide.prod(2)[:, None] / half.prod(2)[:, :, None])
    number, inside = space.places(votes, scale)
    valid = inside & _alike(half, wide) & (similarity > 0)
    best = torch.where(valid, similarity, 0.0)
    pair = torch.arange(pairs, device=first.device)[:, None, None]
    region = torch.arange(count, device=first.device)[None, :, None]
    key = ((pair * count + region) * space.bins + number)[valid]
    score = torch.zeros(pairs * space.bins, dtype=similarity.dtype, device=first.device)
    if len(key):
        kept, places = torch.unique(key, return_inverse=True)
        top = torch.zeros(len(kept), dtype=similarity.dtype, device=first.device)
        top.scatter_reduce_(0, places, best[valid], "amax")
        score.index_add_(0, (kept // (count * space.bins)) * space.bins + kept % space.bins, top)
    smooth = _smoothed(score.view(pairs, space.rows, space.columns, LEVELS)).flatten(1)
    return best * smooth.gather(1, number.flatten(1)).view_as(best)


def memory(sizes: tuple[tuple[int, int], tuple[int, int]], regions: int, pairs: int = 1) -> int:
    """Bytes that `hough_confidence` holds at once, at most, in float64: about twenty per vote, three per bin."""
    return 8 * pairs * (20 * regions**2 + 3 * Space.of(sizes[1]).bins)


def _middle(boxes: Float[Tensor, "P n 4"]) -> tuple[Float[Tensor, "P n 2"], Float[Tensor, "P n 2"]]:
    """Centres and half sizes; those of no region are 1."""
    return (boxes[..., :2] + boxes[..., 2:]) / 2, ((boxes[..., 2:] - boxes[..., :2]) / 2).clamp_min(1e-6)


def _alike(half: Float[Tensor, "P n 2"], wide: Float[Tensor, "P m 2"]) -> Tensor:
    """Whether the quotient of aspect ratios is less than two either way."""
    one, other = half[..., 0] / half[..., 1], wide[..., 0] / wide[..., 1]
    quotient = one[:, :, None] / other[:, None]
    return (quotient > 1 / _ASPECT) & (quotient < _ASPECT)


def _smoothed(score: Float[Tensor, "P y x z"]) -> Float[Tensor, "P y x z"]:
    """A Gaussian of 5 x 5 x 5 bins; nothing lies beyond the last ones."""
    places = torch.arange(_TAPS, dtype=score.dtype, device=score.device) - _TAPS // 2
    kernel = torch.exp(-places.square() / (2 * _SIGMA**2))
    kernel = kernel / kernel.sum()
    reach = _TAPS // 2
    for axis in (1, 2, 3):
        total = torch.zeros_like(score)
        size = score.shape[axis]
        for shift in range(-reach, reach + 1):
            if abs(shift) < size:
                length = size - abs(shift)
                into, out = max(0, -shift), max(0, shift)
                total.narrow(axis, into, length).add_(
                    score.narrow(axis, out, length), alpha=float(kernel[shift + reach])
                )
        score = total
    return score
