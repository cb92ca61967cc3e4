"""How alike two networks' maps of the same pictures are, by the four measures of the sanity checks."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property

import torch
from jaxtyping import Float
from torch import Tensor

from seewhy.errors import InputError
from seewhy.evaluation.result import finite_or_none
from seewhy.evaluation.similarity import hog, pearson, spearman, ssim
from seewhy.evaluation.table import Table, weighted_mean
from seewhy.explanation import Explanation

MEASURES = {
    "spearman": "rank correlation of the signed values on the method's own grid",
    "spearman-absolute": "rank correlation of their magnitudes",
    "ssim": "structural similarity of the evidence stretched to [0, 1]; zeros match zeros, high for sparse maps",
    "hog": "correlation of the histograms of oriented gradients of the evidence stretched to [0, 1]",
}
_SHIFTS = 3  # other pictures that each one is compared to
_RESAMPLES, _CONFIDENCE, _SEED = 10_000, 0.95, 0


@dataclass(frozen=True, eq=False)
class Reading:
    """One site's maps, as the measures read them.

    Attributes:
        raw: signed values (B, T, h, w).
        stretched: evidence over its range (B, T, H, W); 0 where it is constant.
    """

    raw: Float[Tensor, "B T h w"]
    stretched: Float[Tensor, "B T H W"]

    @classmethod
    def all_of(cls, explanations: Mapping[str, Explanation]) -> dict[str, Reading]:
        """By method, and by site where a method has several."""
        return {
            name if len(found.maps) == 1 else f"{name} at {site}": cls(
                found.grid(site), found.heatmaps("minmax", site)
            )
            for name, found in explanations.items()
            for site in found.maps
        }

    @classmethod
    def joined(cls, parts: Sequence[Reading]) -> Reading:
        """Of all pictures, from those of consecutive parts."""
        return cls(torch.cat([each.raw for each in parts]), torch.cat([each.stretched for each in parts]))

    @cached_property
    def hog(self) -> Float[Tensor, "B T n"]:
        """The stretched evidence's histograms."""
        return hog(self.stretched)

    @property
    def constant(self) -> Tensor:
        """Which maps (B, T) are the same everywhere, and so are like no other."""
        return self.raw.amax((-2, -1)) == self.raw.amin((-2, -1))

    def rolled(self, shift: int) -> Reading:
        """Every picture's maps in the place of another's."""
        return Reading(self.raw.roll(shift, 0), self.stretched.roll(shift, 0))


def likeness(first: Reading, second: Reading) -> dict[str, Float[Tensor, "B T"]]:
    """Each measure for each picture and target, on the processor; NaN where what it reads is constant on a side."""
    a, b = first.raw.flatten(2), second.raw.flatten(2)
    flat = [each.stretched.amax((-2, -1)) == 0 for each in (first, second)]
    found = {
        "spearman": spearman(a, b),
        "spearman-absolute": spearman(a.abs(), b.abs()),
        "ssim": ssim(first.stretched, second.stretched),
        "hog": pearson(first.hog, second.hog),
    }
    for name in ("ssim", "hog"):
        found[name] = torch.where(flat[0] | flat[1], math.nan, found[name])
    return {name: values.cpu() for name, values in found.items()}


def noise_floor(clean: Reading) -> dict[str, Float[Tensor, "P B T"]]:
    """How alike maps of different pictures are: each with up to three others; P is 0 for a single picture."""
    batch, targets = clean.raw.shape[:2]
    shifts = range(1, min(_SHIFTS, batch - 1) + 1)
    found = [likeness(clean, clean.rolled(shift)) for shift in shifts]
    empty = torch.empty(0, batch, targets)
    return {name: torch.stack([each[name] for each in found]) if found else empty for name in MEASURES}


def looked_up(table: Mapping[str, Mapping[str, Tensor]], method: str, measure: str) -> Tensor:
    """One method's values of one measure.

    Raises:
        InputError: no such method or measure.
    """
    if method not in table:
        raise InputError(f"no method {method!r} was checked; there are {', '.join(table)}")
    if measure not in MEASURES:
        raise InputError(f"no measure {measure!r}; there are {', '.join(MEASURES)}")
    return table[method][measure]


def mean(values: Float[Tensor, "R B T"]) -> float:
    """Over pictures and targets, after that over repetitions; NaN where nothing is defined."""
    return float(_per_picture(values).nanmean())


def _per_picture(values: Float[Tensor, "R B T"]) -> Float[Tensor, "B T"]:
    return values.nanmean(0)


@dataclass(frozen=True)
class Estimate:
    """A mean over pictures.

    Attributes:
        value: the mean of those that are defined; NaN where none is.
        low, high: 95 % interval by bootstrap over pictures, seeded; NaN below two pictures.
        undefined: how many of the comparisons have no value, because a map was constant.
        compared: how many there were.
    """

    value: float
    low: float
    high: float
    undefined: int
    compared: int

    @classmethod
    def of(cls, values: Float[Tensor, "R B T"]) -> Estimate:
        """From repetitions for pictures and targets; a picture's targets and repetitions travel with it."""
        undefined, compared = int(values.isnan().sum()), values.numel()
        batch, targets = values.shape[1:]
        rows = _per_picture(values).flatten()
        keys = [(f"{row:09d}", f"{column:09d}") for row in range(batch) for column in range(targets)]
        table = Table.sorted(keys, rows[:, None], {})
        low = high = math.nan
        if int(rows.view(batch, targets).isfinite().any(1).sum()) > 1:
            drawn = table.resampled(_RESAMPLES, _SEED)
            means = torch.cat([weighted_mean(table.exact[:, 0], weights) for weights in drawn])
            tail = (1 - _CONFIDENCE) / 2
            low, high = torch.nanquantile(means, means.new_tensor([tail, 1 - tail])).tolist()
        return cls(mean(values), low, high, undefined, compared)

    def __str__(self) -> str:
        return f"{self.value:.2f} ({self.low:.2f} to {self.high:.2f})"

    def to_json(self) -> dict[str, float | int | None]:
        """As JSON values; null where undefined."""
        numbers = {"value": self.value, "low": self.low, "high": self.high}
        rounded = {name: finite_or_none(each, 6) for name, each in numbers.items()}
        return {**rounded, "undefined": self.undefined, "compared": self.compared}
