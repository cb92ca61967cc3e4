"""What a normalised embedding was before, found among what the head computed."""

from __future__ import annotations

from typing import Any

import torch
from jaxtyping import Bool, Float
from torch import Tensor
from torch.linalg import vector_norm
from torch.overrides import TorchFunctionMode

_UNIT = 1e-4


def normalised(embeddings: Float[Tensor, "B D"]) -> bool:
    """Whether all have length one."""
    return embeddings.shape[1] > 1 and bool(_unit(embeddings).all())


class BeforeNormalisation(TorchFunctionMode):
    """Notes what goes through the network's functions, to find what became the normalised output."""

    def __init__(self) -> None:
        super().__init__()
        self._seen: list[tuple[Tensor, Tensor]] = []

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        result = func(*args, **(kwargs or {}))
        if args and isinstance(args[0], Tensor) and isinstance(result, Tensor) and result is not args[0]:
            self._note(args[0], result)
        return result

    def _note(self, given: Tensor, result: Tensor) -> None:
        if given.ndim == 2 and given.shape == result.shape and given.is_floating_point():
            self._seen.append((given, result))

    def of(self, output: Float[Tensor, "M D"]) -> Float[Tensor, "M D"] | None:
        """The same directions with the lengths that they had; None where no function's argument was that."""
        with torch.no_grad():
            for given, result in reversed(self._seen):
                if result.shape == output.shape and torch.equal(result, output):
                    along = torch.cosine_similarity(given, output, dim=1)
                    if bool((along > 1 - _UNIT).all()) and not bool(_unit(given).all()):
                        return given
        return None


def _unit(vectors: Float[Tensor, "M D"]) -> Bool[Tensor, " M"]:
    found: Tensor = (vector_norm(vectors, dim=1) - 1).abs() < _UNIT
    return found
