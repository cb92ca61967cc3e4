"""What a network is called with: one picture tensor, or several inputs of any kind."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from itertools import islice
from typing import Any

import torch
from torch import Tensor, nn

from seewhy.errors import InputError


@dataclass(frozen=True)
class Arguments:
    """The positional and named arguments of one call, and which of them are pictures.

    Attributes:
        positional: arguments in order; tensors whose first axis is the batch are selected by row.
        named: keyword arguments.
        batch: the number of pictures B.
        pictures: the (B, C, H, W) inputs, by position or name, in order.
        shared: tensors that serve every picture, although their first axis is as long as the batch: a table of
            prompts or class embeddings.
    """

    positional: tuple[Any, ...]
    named: Mapping[str, Any]
    batch: int
    pictures: tuple[int | str, ...]
    shared: frozenset[int | str] = frozenset()

    @classmethod
    def of(cls, inputs: Any, device: torch.device, dtype: torch.dtype) -> Arguments:
        """Sort out what the user passed: a tensor, `Images`, a tuple of inputs or a mapping of named ones.

        Numbers among a mapping's keys are positions. Call it inside `preserved`, so that the copies made here
        can take part in gradients.

        Raises:
            InputError: nothing among it is a float tensor (B, C, H, W), or the batches differ.
        """
        if hasattr(inputs, "pixels"):
            inputs = inputs.pixels
        if isinstance(inputs, Tensor):
            inputs = (inputs,)
        keyed: dict[int | str, Any] = dict(inputs if isinstance(inputs, Mapping) else enumerate(inputs))
        pictures = tuple(key for key, value in keyed.items() if is_picture(value))
        if not pictures:
            raise InputError(
                f"no input is a float tensor of shape (B, C, H, W); got {_described(keyed.values())}. "
                "One picture needs a batch axis: `image[None]`; paths are read by `Network.read`"
            )
        batches = {keyed[key].shape[0] for key in pictures}
        if len(batches) > 1 or 0 in batches:
            raise InputError(
                f"picture inputs need one and the same batch size of at least 1; got {sorted(batches)}"
            )

        def move(value: Any) -> Any:
            if not isinstance(value, Tensor):
                return value
            value = value.clone() if value.is_inference() else value.detach()
            return value.to(device, dtype) if is_picture(value) else value.to(device)

        positions = sorted(key for key in keyed if isinstance(key, int))
        return cls(
            tuple(move(keyed[position]) for position in positions),
            {name: move(value) for name, value in keyed.items() if isinstance(name, str)},
            batches.pop(),
            pictures,
        )

    def __getitem__(self, key: int | str) -> Any:
        return self.positional[key] if isinstance(key, int) else self.named[key]

    @property
    def size(self) -> tuple[int, int]:
        """Height and width of the first picture input."""
        height, width = self[self.pictures[0]].shape[-2:]
        return height, width

    @property
    def other_sizes(self) -> dict[int | str, tuple[int, int]]:
        """Height and width of the picture inputs that are of another size than the first."""
        sizes = {key: (self[key].shape[-2], self[key].shape[-1]) for key in self.pictures}
        return {key: size for key, size in sizes.items() if size != self.size}

    @property
    def signature(self) -> tuple[object, ...]:
        """Shapes, types and settings, but not the batch: what a survey of the network depends on."""

        def each(value: Any) -> tuple[object, ...]:
            if isinstance(value, Tensor):
                return tuple(value.shape[1:]), value.dtype
            return type(value), value if isinstance(value, bool | int | float | str) else None

        return tuple((key, *each(value)) for key, value in [*enumerate(self.positional), *self.named.items()])

    def _per_picture(self, key: int | str, value: Any) -> bool:
        """Whether a value is a tensor with an entry for each picture."""
        batched = isinstance(value, Tensor) and value.ndim > 0 and value.shape[0] == self.batch
        return batched and key not in self.shared

    @property
    def ambiguous(self) -> frozenset[int | str]:
        """Tensors that are no pictures and as long as the batch: of each an entry, or all of it, may be a picture's."""
        every: dict[int | str, Any] = dict([*enumerate(self.positional), *self.named.items()])
        others = [key for key in every if key not in self.pictures]
        return frozenset(key for key in others if self._per_picture(key, every[key]))

    def map(self, function: Callable[[Tensor], Tensor]) -> Arguments:
        """Apply a function to every tensor that has an entry for each picture."""

        def each(key: int | str, value: Any) -> Any:
            return function(value) if self._per_picture(key, value) else value

        positional = tuple(each(key, value) for key, value in enumerate(self.positional))
        named = {name: each(name, value) for name, value in self.named.items()}
        first = self.pictures[0]
        batch = (positional[first] if isinstance(first, int) else named[first]).shape[0]
        return Arguments(positional, named, batch, self.pictures, self.shared)

    def select(self, rows: Tensor | slice) -> Arguments:
        """The same call for some of the pictures."""
        return self.map(lambda tensor: tensor[rows])

    def showing(self, pictures: Mapping[int | str, Tensor], rows: Tensor | None = None) -> Arguments:
        """A call with M other pictures in place of some inputs; all other inputs are those of the given rows.

        Args:
            pictures: per input the M pictures.
            rows: which of the B pictures each stands for; all in order by default.
        """
        first = next(iter(pictures.values()))

        def each(key: int | str, value: Any) -> Any:
            if key in pictures:
                return pictures[key]
            return value[rows] if rows is not None and self._per_picture(key, value) else value

        positional = tuple(each(key, value) for key, value in enumerate(self.positional))
        named = {name: each(name, value) for name, value in self.named.items()}
        return Arguments(positional, named, len(first), self.pictures, self.shared)

    def call(self, module: nn.Module) -> Any:
        """Run the module on copies of these arguments, as it may write to them."""
        named = {name: _copied(value) for name, value in self.named.items()}
        return module(*(_copied(value) for value in self.positional), **named)


def _copied(value: Any) -> Any:
    return value.clone() if isinstance(value, Tensor) else value


def _described(values: Iterable[Any]) -> str:
    shown = [
        f"{value.dtype} {tuple(value.shape)}".removeprefix("torch.")
        if isinstance(value, Tensor)
        else type(value).__name__
        for value in islice(values, 5)
    ]
    return ", ".join(shown) or "nothing"


def is_picture(value: object) -> bool:
    """Whether a value is a float tensor of shape (B, C, H, W)."""
    return isinstance(value, Tensor) and value.ndim == 4 and value.is_floating_point()
