"""Chance that is the same on any machine and does not depend on numpy's generators."""

from __future__ import annotations

from collections.abc import Sequence
from random import Random
from typing import TypeVar

import numpy as np
from jaxtyping import UInt8

T = TypeVar("T")


class Chance:
    """A stream of draws named by its arguments; two streams know nothing of each other.

    Python guarantees the sequence of `Random.random` for a seed across its versions, which neither `choice` and
    `randrange` nor numpy's generators have. So everything here is made of `random`, and of raw bits, whose sequence
    is as old as the generator.
    """

    def __init__(self, *name: int | str) -> None:
        self._random = Random()
        self._random.seed("/".join(map(str, name)), version=2)

    def uniform(self, low: float, high: float) -> float:
        """A number from low up to high."""
        return low + (high - low) * self._random.random()

    def integer(self, count: int) -> int:
        """A number of 0 … count - 1."""
        return int(self._random.random() * count)

    def pick(self, among: Sequence[T]) -> T:
        """One of several."""
        return among[self.integer(len(among))]

    def happens(self, probability: float) -> bool:
        """Whether something of this probability happens."""
        return self._random.random() < probability

    def vary(self, value: float, share: float = 0.15) -> float:
        """A value up to a share smaller or larger."""
        return value * self.uniform(1 - share, 1 + share)

    def noise(self, height: int, width: int) -> UInt8[np.ndarray, "height width"]:
        """Independent bytes."""
        data = self._random.getrandbits(8 * height * width).to_bytes(height * width, "little")
        return np.frombuffer(data, np.uint8).reshape(height, width)
