"""What a network is called with: one picture tensor, or several inputs of any kind."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn

from seewhy.errors import InputError

if TYPE_CHECKING:
    from seewhy.network.images import Images

Inputs = "Tensor | Images | Sequence[Any] | Mapping[str, Any]"


@dataclass(frozen=True)
class Arguments:
    """The positional and named arguments of one call, and which of them are pictures.

    Attributes:
        positional: arguments in order; tensors whose first axis is the batch are selected by row.
        named: keyword arguments.
        batch: the number of pictures B.
        pictures: the (B, C, H, W) inputs, by position or name, in order.
    """

    positional: tuple[Any, ...]
    named: Mapping[str, Any]
    batch: int
    pictures: tuple[int | str, ...]

    @classmethod
    def of(cls, inputs: Any, device: torch.device, dtype: torch.dtype) -> Arguments:
        """Sort out what the user passed: a tensor, `Images`, a tuple of inputs or a mapping of named ones.

        Raises:
            InputError: nothing among it is a float tensor (B, C, H, W), or the batches differ.
        """
        if hasattr(inputs, "pixels"):
            inputs = inputs.pixels
        if isinstance(inputs, Tensor):
            inputs = (inputs,)
        positional = () if isinstance(inputs, Mapping) else tuple(inputs)
        named = dict(inputs) if isinstance(inputs, Mapping) else {}
        keyed: dict[int | str, Any] = {**dict(enumerate(positional)), **named}
        pictures = tuple(key for key, value in keyed.items() if is_picture(value))
        if not pictures:
            shapes = [tuple(v.shape) if isinstance(v, Tensor) else type(v).__name__ for v in keyed.values()]
            raise InputError(
                f"no input is a float tensor of shape (B, C, H, W); got {shapes}. "
                "One picture needs a batch axis: `image[None]`"
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

        return cls(
            tuple(move(value) for value in positional),
            {name: move(value) for name, value in named.items()},
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
    def signature(self) -> tuple[object, ...]:
        """Shapes and types of everything but the batch: what a survey of the network depends on."""
        return tuple(
            (key, tuple(value.shape[1:]), value.dtype) if isinstance(value, Tensor) else (key, type(value))
            for key, value in [*enumerate(self.positional), *self.named.items()]
        )

    def map(self, function: Callable[[Tensor], Tensor]) -> Arguments:
        """Apply a function to every tensor that has the batch as its first axis."""

        def each(value: Any) -> Any:
            per_picture = isinstance(value, Tensor) and value.ndim > 0 and value.shape[0] == self.batch
            return function(value) if per_picture else value

        positional = tuple(each(value) for value in self.positional)
        named = {name: each(value) for name, value in self.named.items()}
        first = self.pictures[0]
        batch = (positional[first] if isinstance(first, int) else named[first]).shape[0]
        return Arguments(positional, named, batch, self.pictures)

    def select(self, rows: Tensor | slice) -> Arguments:
        """The same call for some of the pictures."""
        return self.map(lambda tensor: tensor[rows])

    def call(self, module: nn.Module) -> Any:
        """Run the module on these arguments."""
        return module(*self.positional, **self.named)


def is_picture(value: object) -> bool:
    """Whether a value is a float tensor of shape (B, C, H, W)."""
    return isinstance(value, Tensor) and value.ndim == 4 and value.is_floating_point()
