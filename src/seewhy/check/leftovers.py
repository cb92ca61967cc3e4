"""What a method must leave alone: disturb a network, look at it before and after, and compare."""

from __future__ import annotations

import random
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

_SETTINGS = (bool, int, float, str, tuple, list, type(None))


@contextmanager
def disturbed(module: nn.Module) -> Iterator[None]:
    """A state worth preserving: training mode, some gradients, some frozen parameters; put back afterwards."""
    modes = [(each, each.training) for each in module.modules()]
    parameters = list(module.parameters())
    before = [(each.requires_grad, each.grad) for each in parameters]
    try:
        module.train()
        for place, parameter in enumerate(parameters):
            parameter.requires_grad_(place % 3 != 2)
            parameter.grad = torch.ones_like(parameter) if place % 3 == 0 else None
        yield
    finally:
        for parameter, (flag, gradient) in zip(parameters, before, strict=True):
            parameter.requires_grad_(flag)
            parameter.grad = gradient
        for each, mode in modes:
            each.training = mode


def snapshot(module: nn.Module) -> dict[str, Any]:
    """Everything about a network, and around it, that a method must leave alone."""
    tensors = {**dict(module.named_parameters()), **dict(module.named_buffers())}
    kind, keys, *rest = np.random.get_state()
    return {
        "state": {name: (id(each), each.detach().clone()) for name, each in tensors.items()},
        "gradients": {
            name: (each.requires_grad, None if each.grad is None else each.grad.clone())
            for name, each in module.named_parameters()
        },
        "modes": [each.training for each in module.modules()],
        "attributes": {name: (type(each), _attributes(each)) for name, each in module.named_modules()},
        "strides": {name: (each.stride(), each.dtype, each.device) for name, each in tensors.items()},
        "random states": (
            random.getstate(), (kind, tuple(keys), *rest), torch.get_rng_state(),
            torch.cuda.get_rng_state_all() if torch.cuda.is_available() else (),
        ),
        "modes of torch": (
            torch.is_grad_enabled(), torch.is_inference_mode_enabled(), torch.backends.cudnn.enabled,
            torch.backends.mha.get_fastpath_enabled(), torch.is_autocast_enabled("cpu"),
        ),
    }  # fmt: skip


def _attributes(module: nn.Module) -> dict[str, Any]:
    """What a module holds beside its mode and its tensors: settings, submodules, hooks."""

    def mark(value: Any) -> Any:
        if isinstance(value, dict):
            return [(key, id(each)) for key, each in value.items()]
        return repr(value) if isinstance(value, _SETTINGS) else id(value)

    left_out = ("training", "_parameters", "_buffers")
    return {name: mark(value) for name, value in vars(module).items() if name not in left_out}


def changed(before: dict[str, Any], after: dict[str, Any]) -> list[str]:
    """Names of what differs between two snapshots."""
    return [what for what in before if not _equal(before[what], after[what])]


def _equal(one: Any, other: Any) -> bool:
    if isinstance(one, Tensor):
        return isinstance(other, Tensor) and torch.equal(one, other)
    if isinstance(one, dict):
        return one.keys() == other.keys() and all(_equal(one[key], other[key]) for key in one)
    if isinstance(one, list | tuple):
        return len(one) == len(other) and all(_equal(a, b) for a, b in zip(one, other, strict=True))
    return bool(one == other)
