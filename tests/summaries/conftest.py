"""A network that needs either of two parts, and masks of its pictures: made once, as both take seconds."""

from __future__ import annotations

import numpy as np
import pytest
import torch
import two_parts

from seewhy import CrispMask
from seewhy.summaries.result import Subject


@pytest.fixture(autouse=True, scope="package")
def one_thread():
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


@pytest.fixture(scope="package")
def network():
    with torch.random.fork_rng(devices=[]):
        return two_parts.trained()


class Case:
    """Pictures of the class with their masks and what is true of them."""

    def __init__(self, network, count, seed=0):
        self.pictures = two_parts.of_class(count, seed)
        self.pixels = two_parts.inputs(self.pictures)
        probabilities = network.probabilities(network(self.pixels))[:, 1]
        masks = CrispMask(smooth=60, sharp=30)(network, self.pixels, 1).values[:, 0].numpy()
        self.subjects = [
            Subject(f"{n:03}", pixels, mask, float(p), 0.0)
            for n, ((pixels, _), mask, p) in enumerate(zip(self.pictures, masks, probabilities, strict=True))
        ]

    def part(self, member):
        """The part that most of a region lies on: 0 or 1, or 2 for clutter."""
        masks = self.pictures[member.subject][1]
        shares = [(member.mask & masks.get(part, np.zeros_like(member.mask))).sum() for part in (0, 1)]
        return int(np.argmax(shares)) if max(shares) > 0.3 * member.mask.sum() else 2


@pytest.fixture(scope="package")
def case(network):
    return Case(network, 24)
