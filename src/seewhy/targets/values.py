"""Targets that read anything but class scores: embeddings, numbers, dense outputs, any function."""

from __future__ import annotations

import weakref
from collections.abc import Callable, Hashable, Sequence
from dataclasses import dataclass, replace
from typing import Any, ClassVar

import torch
from torch import Tensor

from seewhy.errors import TargetError
from seewhy.network.network import Network, main_output
from seewhy.targets.base import BoundTarget, ClassLike, Target
from seewhy.targets.classes import class_number


@dataclass(frozen=True)
class EmbeddingTarget(Target):
    """Base of targets that read an embedding (B, D)."""

    names_classes: ClassVar[bool] = False

    def read(self, outputs: Any) -> Tensor:
        """The embeddings (B, D) among the outputs.

        Raises:
            TargetError: there are none.
        """
        output = main_output(outputs, self.output)
        if output.ndim < 2:
            raise TargetError(f"{type(self).__name__} needs an embedding (B, D), not {tuple(output.shape)}")
        return output.flatten(1)

    def survey(self, outputs: Any) -> tuple[Tensor, int | None]:
        output = self.read(outputs).float()
        direction = torch.randn(output.shape[1], generator=torch.Generator().manual_seed(0))
        return (output @ direction.to(output.device)).sum(), None


@dataclass(frozen=True, eq=False)
class Direction(EmbeddingTarget):
    """The embedding along a direction, <v, e>.

    Args:
        vector: (D,) for all pictures, or (B, D).
    """

    vector: Tensor

    def pick(self, rows: Sequence[int], batch: int) -> Target:
        return replace(self, vector=rows_of(self.vector, 2, rows, batch))

    def bind(self, outputs: Any, network: Network) -> BoundTarget:
        output = self.read(outputs)
        vectors = per_picture(self.vector, output, "a direction")

        def ask(outputs: Any, rows: Tensor) -> Tensor:
            return (self.read(outputs) * vectors[rows.to(vectors.device)]).sum(1, keepdim=True)

        return BoundTarget(ask, (("direction",),) * len(output), torch.arange(len(output)))


@dataclass(frozen=True, eq=False)
class Similarity(EmbeddingTarget):
    """The cosine similarity of the embedding to a reference, as Grad-CAM for embedding networks uses it.

    Args:
        reference: (D,) for all pictures, or (B, D).
        normalize: cosine (True) or plain inner product.
    """

    reference: Tensor
    normalize: bool = True

    @property
    def key(self) -> tuple[Hashable, ...]:
        return (*super().key, self.normalize)

    def pick(self, rows: Sequence[int], batch: int) -> Target:
        return replace(self, reference=rows_of(self.reference, 2, rows, batch))

    def bind(self, outputs: Any, network: Network) -> BoundTarget:
        output = self.read(outputs)
        references = per_picture(self.reference, output, "a reference")

        def ask(outputs: Any, rows: Tensor) -> Tensor:
            embedding, reference = self.read(outputs), references[rows.to(references.device)]
            if self.normalize:
                return torch.cosine_similarity(embedding, reference, dim=1)[:, None]
            return (embedding * reference).sum(1, keepdim=True)

        return BoundTarget(ask, (("similarity",),) * len(output), torch.arange(len(output)))


@dataclass(frozen=True)
class Regression(Target):
    """One number of the output, as it is.

    Args:
        index: the column; outputs of shape (B,) have column 0.
    """

    names_classes: ClassVar[bool] = False

    index: int = 0

    def _read(self, outputs: Any) -> Tensor:
        output = main_output(outputs, self.output)
        output = output[:, None] if output.ndim == 1 else output.flatten(1)
        if not 0 <= self.index < output.shape[1]:
            raise TargetError(f"Regression({self.index}): the network returns {output.shape[1]} numbers")
        return output

    def bind(self, outputs: Any, network: Network) -> BoundTarget:
        def ask(outputs: Any, rows: Tensor) -> Tensor:
            return self._read(outputs)[:, self.index, None]

        batch = len(self._read(outputs))
        label = network.class_name(self.index) if network.classes else f"output {self.index}"
        return BoundTarget(ask, ((label,),) * batch, torch.arange(batch))

    def survey(self, outputs: Any) -> tuple[Tensor, int | None]:
        output = self._read(outputs).float()
        return output[:, self.index].sum(), output.shape[1]

    @property
    def key(self) -> tuple[Hashable, ...]:
        return (*super().key, self.index)


@dataclass(frozen=True, eq=False)
class Pixels(Target):
    """A class summed over a region of a dense output (B, C, H, W), as segmentation networks give.

    Args:
        label: the class.
        mask: (H, W) or (B, H, W), true where it counts, at the output's size; everywhere by default.
    """

    label: ClassLike
    mask: Tensor | None = None

    def pick(self, rows: Sequence[int], batch: int) -> Target:
        if self.mask is None:
            return self
        return replace(self, mask=rows_of(self.mask, 3, rows, batch))

    def bind(self, outputs: Any, network: Network) -> BoundTarget:
        output = main_output(outputs, self.output)
        if output.ndim != 4:
            raise TargetError(f"Pixels needs a dense output (B, C, H, W), not {tuple(output.shape)}")
        channel = class_number(self.label, network, output.shape[1])
        mask = torch.ones(output.shape[-2:]) if self.mask is None else self.mask
        if mask.shape[-2:] != output.shape[-2:]:
            raise TargetError(f"the mask is {tuple(mask.shape)}, the output {tuple(output.shape[-2:])}")
        masks = mask.to(output.device, output.dtype).expand(len(output), *output.shape[-2:])

        def ask(outputs: Any, rows: Tensor) -> Tensor:
            dense = main_output(outputs, self.output)[:, channel]
            return (dense * masks[rows.to(masks.device)]).sum((1, 2))[:, None]

        labels = ((network.class_name(channel),),) * len(output)
        return BoundTarget(ask, labels, torch.arange(len(output)))


@dataclass(frozen=True)
class Function(Target):
    """Any scalar: a function from the outputs to (B,) or (B, T). It cannot be written down or cached.

    Args:
        function: the function.
    """

    function: Callable[[Any], Tensor]

    def bind(self, outputs: Any, network: Network) -> BoundTarget:
        scores = self.function(outputs)
        if not isinstance(scores, Tensor) or scores.ndim not in (1, 2):
            raise TargetError("a target function must return a tensor of shape (B,) or (B, T)")
        count = 1 if scores.ndim == 1 else scores.shape[1]
        name = getattr(self.function, "__name__", "function")
        labels = tuple(f"{name} {t}" if count > 1 else name for t in range(count))
        return BoundTarget(
            lambda outputs, rows: self.function(outputs),
            (labels,) * len(scores),
            torch.arange(len(scores)),
            cacheable=False,
        )

    def survey(self, outputs: Any) -> tuple[Tensor, int | None]:
        try:
            return self.function(outputs).float().sum(), None
        except (IndexError, RuntimeError):
            # Written for as many pictures as will be explained; a survey has one.
            return super().survey(outputs)

    @property
    def key(self) -> tuple[Hashable, ...]:
        code = getattr(self.function, "__code__", None)
        if code is None:
            return ("Function", _known(self.function))
        cells = [_content(cell) for cell in self.function.__closure__ or ()]
        defaults = self.function.__defaults__ or ()
        owner = getattr(self.function, "__self__", None)
        return ("Function", code, *(_known(each) for each in (*cells, *defaults, owner)))


def _content(cell: Any) -> object:
    try:
        return cell.cell_contents
    except ValueError:  # a variable that has no value yet
        return None


def _known(value: object) -> Hashable:
    """Equal for the same value as long as it lives, without keeping it alive."""
    if value is None or isinstance(value, bool | int | float | str):
        return value
    try:
        reference = weakref.ref(value)
        hash(reference)  # while it lives; remembered by the reference
        return reference
    except TypeError:
        return object()  # not to be told again: equal to nothing


def rows_of(tensor: Tensor, dimensions: int, rows: Sequence[int], batch: int) -> Tensor:
    """Some rows of a tensor that has one per picture; the whole of one that serves all pictures."""
    if tensor.ndim < dimensions or len(tensor) == 1:
        return tensor
    if len(tensor) != batch:
        raise TargetError(f"a target of shape {tuple(tensor.shape)} for {batch} pictures")
    return tensor[list(rows)]


def per_picture(vector: Tensor, output: Tensor, what: str) -> Tensor:
    """A (D,) or (B, D) vector as (B, D)."""
    batch, width = output.shape
    vector = vector.detach().to(output.device, output.dtype)
    if vector.shape not in ((width,), (batch, width), (1, width)):
        raise TargetError(f"{what} of shape {tuple(vector.shape)} for embeddings {(batch, width)}")
    return vector.expand(batch, width)
