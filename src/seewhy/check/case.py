"""A method on a network under check, and how its results are compared."""

from __future__ import annotations

import copy
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import torch
from torch import Tensor, nn

from seewhy.check.leftovers import changed, disturbed, snapshot
from seewhy.errors import NotApplicableError
from seewhy.explainers.ablation_cam import HARDLY_OFF
from seewhy.explainers.activation import UNSTABLE
from seewhy.explainers.base import Explainer
from seewhy.explainers.crisp_mask import ROUNDED
from seewhy.explainers.l2_caf import SEVERAL, UNSETTLED
from seewhy.explainers.masked_input import HARDLY
from seewhy.explanation import Explanation
from seewhy.network.layers import PIXELS
from seewhy.network.network import Network
from seewhy.relevance.conservation import LOST
from seewhy.targets import TargetLike, Top, as_target

# Relative to the largest value of a map: what another batch size may change in float32, where values follow scores
# and gradients, and where they are small differences of scores.
TOLERANCE, OF_DIFFERENCES = 1e-5, 1e-4
# What it changes where a ReLU, or the winner of a pooling, flips: at a layer, and at the pixels, where it was 0.005 of
# the gradient of a ResNet-50 with random weights. That no method is to blame is then shown in float64.
_FLIPPED, _FLIPPED_AT_PIXELS = 1e-3, 1e-2
_ADMITTED = (UNSTABLE, HARDLY, HARDLY_OFF, UNSETTLED, SEVERAL, ROUNDED, LOST)
"""How notes begin by which a method says itself that rounding may decide a map."""


class BrokenError(Exception):
    """A promise was not kept."""


class DiffersError(BrokenError):
    """Two maps that should be the same differ by so little that rounding may be why."""


class UnclearError(Exception):
    """Nothing could be said."""


@dataclass
class Case:
    """A method on a network, and its explanation, computed once."""

    explainer: Explainer
    network: Network
    images: Any
    target: TargetLike

    @cached_property
    def result(self) -> Explanation:
        # The first call of a network surveys it; what is counted is the second.
        self.left  # noqa: B018 - the first call, of which is seen what it leaves
        return self.explainer(self.network, self.images, self.target)

    @cached_property
    def both(self) -> Explanation:
        """The two best classes of each picture, explained together."""
        if self.target is not None or len(self.result.predictions[0]) < 2:
            raise UnclearError("the network has no classes to choose from")
        found = self.explainer(self.network, self.images, Top(2))
        if found.scores.shape[1] < 2:
            raise UnclearError("the network has a single answer")
        return found

    @cached_property
    def left(self) -> frozenset[str]:
        """What the first call left changed, of a network with gradients, frozen parameters and in training mode."""
        with disturbed(self.network.module):
            before = snapshot(self.network.module)
            self.explainer(self.network, self.images, self.target)
            return frozenset(changed(before, snapshot(self.network.module)))

    @cached_property
    def batch(self) -> int:
        return len(self.result)

    def of(self, rows: Sequence[int], **options: Any) -> Explanation:
        """The explanation of some of the pictures."""
        images = picked(self.images, list(rows), self.batch)
        target = as_target(self.target).pick(list(rows), self.batch)
        return self.explainer(self.network, images, target, **options)

    @cached_property
    def in_float64(self) -> Case:
        """The same on a copy of the network in float64."""
        network = self.network.around(copy.deepcopy(self.network.module).double())
        return Case(self.explainer, network, self.images, self.target)

    def on(self, module: nn.Module) -> Explanation:
        """The same pictures explained on other weights, at the same layers."""
        layers = tuple(dict.fromkeys(site.layer for site in self.result.maps))
        named = "layer" in type(self.explainer).model_fields and PIXELS not in layers
        explainer = self.explainer.model_copy(update={"layer": layers}) if named else self.explainer
        try:
            return explainer(self.network.around(module), self.images, self.target)
        except NotApplicableError as error:
            raise UnclearError(f"the method refuses these weights: {error}") from error

    def again(self, images: Any = None, **settings: Any) -> Explanation:
        """The explanation once more, of these or of other pictures, with the same or with other settings."""
        explainer = self.explainer.model_copy(update=settings)
        return explainer(self.network, self.images if images is None else images, self.target)

    def filled(self, value: float) -> Any:
        """The same inputs with constant pictures."""
        return mapped(self.images, lambda each: torch.full_like(each, value))

    def same(self, one: Explanation, other: Explanation, what: str) -> None:
        """Raise where two explanations differ by more than another batch size makes of float32."""
        unclear = ""
        for row, notes in enumerate(zip(one.notes, other.notes, strict=True)):
            try:
                for site, values in one.maps.items():
                    self.close(values[row], other.maps[site][row], what)
            except BrokenError as error:
                admitted = next(filter(None, map(admission, notes)), "")
                if not admitted:
                    raise
                unclear = f"{error}, but the method says so itself: {admitted}"
        if unclear:
            raise UnclearError(unclear)

    def close(self, one: Tensor, other: Tensor, what: str) -> None:
        """Raise where two maps differ by more than the tolerance."""
        tolerance = OF_DIFFERENCES if self.explainer.subtracts_scores else TOLERANCE
        difference, largest = float((one - other).abs().max()), max(float(other.abs().max()), 1e-30)
        if difference > tolerance * largest:
            at_pixels = all(site.layer == PIXELS for site in self.result.maps)
            flipped = _FLIPPED_AT_PIXELS if at_pixels else _FLIPPED
            kind = DiffersError if difference <= flipped * largest else BrokenError
            raise kind(f"{what}: differs by {difference:.2g}, {difference / largest:.1g} of the largest")


def admission(notes: Sequence[str]) -> str:
    """The note by which a method says that rounding may decide a picture's map; empty where there is none."""
    return next((note for note in notes if note.startswith(_ADMITTED)), "")


def picked(images: Any, rows: list[int], batch: int) -> Any:
    """The call for some of the pictures."""
    return mapped(images, lambda each: each[rows] if len(each) == batch else each, pictures_only=False)


def mapped(images: Any, change: Callable[[Tensor], Tensor], pictures_only: bool = True) -> Any:
    """Change the tensors of a call; only pictures, or whatever has a batch."""

    def each(value: Any) -> Any:
        if isinstance(value, Tensor) and value.ndim > 0 and (value.ndim == 4 or not pictures_only):
            return change(value)
        return value

    if hasattr(images, "pixels"):
        return each(images.pixels)
    if isinstance(images, dict):
        return {name: each(value) for name, value in images.items()}
    return tuple(each(value) for value in images) if isinstance(images, tuple | list) else each(images)
