"""The work of a call, counted from outside: pictures through the first and last layer, backward calls."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any
from unittest.mock import patch

import torch
from torch import Tensor, nn


@dataclass
class Counts:
    """Calls seen.

    Attributes:
        trunk: pictures that the first layer saw.
        head: pictures that the last layer saw.
        backwards: calls of the backward engine.
    """

    trunk: int = 0
    head: int = 0
    backwards: int = 0

    def __str__(self) -> str:
        return f"{self.trunk} / {self.head} / {self.backwards}"


def counted(call: Callable[[], object], first: nn.Module, last: nn.Module) -> Counts:
    """Run a call and count.

    Args:
        call: what is counted.
        first: the network's first layer.
        last: its last layer.
    """
    counts, grad = Counts(), torch.autograd.grad

    def trunk(_module: nn.Module, _inputs: Any, output: Tensor) -> None:
        counts.trunk += len(output)

    def head(_module: nn.Module, _inputs: Any, output: Tensor) -> None:
        counts.head += len(output)

    def counting(*args: Any, **kwargs: Any) -> Any:
        counts.backwards += 1
        return grad(*args, **kwargs)

    hooks = [first.register_forward_hook(trunk), last.register_forward_hook(head)]
    try:
        with patch.object(torch.autograd, "grad", counting):
            call()
    finally:
        for hook in hooks:
            hook.remove()
    return counts
