"""From what people write to a target: None, a class, a list, a callable; or text on a command line."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor

from seewhy.errors import TargetError
from seewhy.network.network import Network
from seewhy.targets.base import ClassLike, Target
from seewhy.targets.classes import Contrast, Logit, Predicted, Top
from seewhy.targets.values import Function

TargetLike = (
    Target
    | ClassLike
    | Sequence[Any]
    | Tensor
    | np.integer[Any]
    | np.ndarray
    | Callable[[Any], Tensor]
    | None
)


def as_target(target: TargetLike) -> Target:
    """What is accepted everywhere: None (the prediction), a class, a list of them, a Target, a callable.

    Raises:
        TargetError: anything else.
    """
    if target is None:
        return Predicted()
    if isinstance(target, np.integer | np.ndarray):
        target = torch.as_tensor(target)
    if isinstance(target, Target):
        return target
    if isinstance(target, Tensor) and target.is_floating_point():
        raise TargetError("a target tensor holds class numbers; use Direction or Similarity for vectors")
    if isinstance(target, Tensor) and target.ndim == 0:
        return Logit(int(target))
    if isinstance(target, ClassLike | Sequence | Tensor) and not isinstance(target, bool):
        return Logit(target)
    if callable(target):
        return Function(target)
    raise TargetError(
        f"cannot explain {target!r}: a class number or name, a list of them, a Target or a callable"
    )


def parse_target(text: str, network: Network) -> Target:
    """A target as written on a command line: `243`, `boxer`, `top3`, `predicted`, `tabby-boxer`.

    Raises:
        TargetError: the text means nothing to this network.
    """
    if text == "predicted":
        return Predicted()
    if text.startswith("top") and text[3:].isdecimal():
        return Top(int(text[3:]))
    if text.isdecimal():
        return Logit(int(text))
    try:
        return Logit(network.class_index(text))
    except TargetError as error:
        whole = error
    for place in (place for place, letter in enumerate(text) if letter == "-"):
        try:
            first, second = (_parse_class(part, network) for part in (text[:place], text[place + 1 :]))
        except TargetError:
            continue
        return Contrast(first, second)
    raise whole


def _parse_class(text: str, network: Network) -> int:
    return int(text) if text.isdecimal() else network.class_index(text)
