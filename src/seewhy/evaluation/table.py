"""What a metric measured, one row per picture and target, and how rows are resampled."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import lru_cache

import torch
from jaxtyping import Float
from torch import Tensor

from seewhy.network.precision import exact_type

Key = tuple[str, str]
"""A picture's id, and the name of what was explained of it."""

_DRAWS, _RESAMPLES = 4_000_000, 500  # pictures, and resamples of them, drawn at once


@dataclass(frozen=True, eq=False)
class Table:
    """Rows in the order of their keys, so that neither batches nor merging leave a trace.

    Attributes:
        keys: the N pictures and targets, sorted.
        data: what the metric keeps of each (N, V); NaN throughout where it is undefined.
        remarks: why rows are undefined, or what to know of them.
    """

    keys: tuple[Key, ...]
    data: Float[Tensor, "N V"]
    remarks: Mapping[Key, str]

    @classmethod
    def sorted(cls, keys: Sequence[Key], data: Float[Tensor, "N V"], remarks: Mapping[Key, str]) -> Table:
        """The table of rows that came in any order."""
        order = sorted(range(len(keys)), key=lambda row: keys[row])
        index = torch.tensor(order, device=data.device)
        return cls(tuple(keys[row] for row in order), data[index], dict(sorted(remarks.items())))

    @property
    def exact(self) -> Float[Tensor, "N V"]:
        """The data in float64, where the device has it."""
        return self.data.to(exact_type(self.data.device))

    def only(self, keys: Sequence[Key]) -> Table:
        """The rows of some keys, in their order."""
        place = {key: row for row, key in enumerate(self.keys)}
        index = torch.tensor([place[key] for key in keys], dtype=torch.long, device=self.data.device)
        remarks = {key: self.remarks[key] for key in keys if key in self.remarks}
        return replace(self, keys=tuple(keys), data=self.data[index], remarks=remarks)

    def resampled(self, count: int, seed: int) -> Iterator[Float[Tensor, "R N"]]:
        """How often each row counts in resamples of the pictures; all targets of a picture travel with it."""
        images = {image: place for place, image in enumerate(sorted({image for image, _ in self.keys}))}
        rows = tuple(images[image] for image, _ in self.keys)
        parts = _kept(rows, count, seed) if count * len(rows) <= _DRAWS else _drawn(rows, count, seed)
        for times in parts:
            yield times.to(self.data.device, exact_type(self.data.device))


@lru_cache(maxsize=4)
def _kept(rows: tuple[int, ...], count: int, seed: int) -> list[Float[Tensor, "R N"]]:
    """The same pictures are resampled for every method and metric of a table."""
    return list(_drawn(rows, count, seed))


def _drawn(rows: tuple[int, ...], count: int, seed: int) -> Iterator[Float[Tensor, "R N"]]:
    draws = torch.Generator().manual_seed(seed)
    images, index = max(rows, default=-1) + 1, torch.tensor(rows, dtype=torch.long)
    most = max(1, min(_RESAMPLES, _DRAWS // max(len(rows), 1)))
    for start in range(0, count, most):
        size = min(most, count - start)
        drawn = torch.randint(images, (size, images), generator=draws)
        times = torch.zeros(drawn.shape).scatter_add_(1, drawn, torch.ones(drawn.shape))
        yield times[:, index]


def weighted_mean(values: Float[Tensor, " N"], weights: Float[Tensor, "R N"]) -> Float[Tensor, " R"]:
    """Mean of the values that are defined, under each row of weights; NaN where none is."""
    defined = torch.isfinite(values)
    filled = torch.where(defined, values, 0)
    return (weights @ filled) / (weights @ defined.to(values))
