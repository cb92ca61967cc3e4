"""Which of a network's outputs is its embedding, and whether its rows are of unit length."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import torch
from jaxtyping import Float
from torch import Tensor

from seewhy.errors import TargetError
from seewhy.network.network import main_output
from seewhy.network.structures import tensors

if TYPE_CHECKING:
    from seewhy.network.network import Network

# What retrieval networks call it, the most telling first; `image_embeds` and `pooler_output` are transformers'.
NAMES = ("embedding", "embeddings", "image_embeds", "embeds", "pooler_output")
TOLERANCE = 1e-3  # of a row's length


@dataclass(frozen=True)
class Embedding:
    """Which output of a network is its embedding.

    Attributes:
        output: as targets take it (`Similarity(reference, output=…)`): a key or attribute, a position among the
            output's tensors, or None where the output is one tensor.
        width: how many numbers (D) it has per picture.
        normalised: whether every row had unit length for the pictures that were run: within a thousandth, or what the
            number format can tell.
    """

    output: str | int | None
    width: int
    normalised: bool

    def read(self, outputs: Any) -> Float[Tensor, "B D"]:
        """The embeddings in what the network returned, float32.

        Raises:
            TargetError: they are not there, or of another width.
        """
        rows = main_output(outputs, self.output).flatten(1).float()
        if rows.shape[1] != self.width:
            raise TargetError(f"embeddings of {rows.shape[1]} numbers, where {self.width} were found before")
        return rows


def find_embedding(network: Network, inputs: Any = None, output: str | int | None = None) -> Embedding:
    """The embedding, found by running the network once; arguments as for `Network.embedding`.

    Raises:
        TargetError: no output could be it.
    """
    if inputs is None:
        one = network.example_input()
        inputs = torch.cat([one, one.flip(3)])
    outputs = network(inputs)
    if output is None:
        output = _place(outputs)
    found = main_output(outputs, output)
    if found.ndim < 2:
        raise TargetError(f"an embedding is (B, D); output {output!r} of {network.name} is {_shape(found)}")
    rows = found.flatten(1).float()
    off = (torch.linalg.vector_norm(rows, dim=1) - 1).abs()
    # A normalised row of few digits is off by the last of them.
    within = max(TOLERANCE, torch.finfo(found.dtype).eps) if found.is_floating_point() else TOLERANCE
    return Embedding(output, rows.shape[1], bool((off <= within).all()))


def _place(outputs: Any) -> str | int | None:
    """The name or position of the output that is most likely the embedding; None for a single tensor."""
    for name in NAMES:
        named = outputs.get(name) if isinstance(outputs, Mapping) else getattr(outputs, name, None)
        if isinstance(named, Tensor) and _is_vector(named):
            return name
    found = tensors(outputs)
    places = [place for place, each in enumerate(found) if _is_vector(each)]
    if not places:
        raise TargetError(
            f"no output is an embedding (B, D); they are {', '.join(map(_shape, found)) or 'not tensors'}; "
            "name one with output="
        )
    return None if isinstance(outputs, Tensor) else places[0]


def _is_vector(tensor: Tensor) -> bool:
    """Whether it holds a vector per picture; pooled maps (B, D, 1, 1) do."""
    return tensor.is_floating_point() and tensor.ndim >= 2 and tensor[0].numel() == max(tensor.shape[1:])


def _shape(tensor: Tensor) -> str:
    return f"({', '.join(map(str, tensor.shape))})"
