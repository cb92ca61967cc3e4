"""Run a network in a known state and put back everything that its owner could notice."""

from __future__ import annotations

import random
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

Forward = Callable[..., Any]
"""What stands in for a module's forward: called with the original forward, then its arguments."""

_MISSING = object()


@contextmanager
def preserved(module: nn.Module, device: torch.device) -> Iterator[None]:
    """Evaluation mode, frozen parameters, gradients on; every flag, buffer and random state is put back.

    Freezing the parameters is what makes trunks cheap: a graph then begins only where an activation is
    made a leaf, whatever comes before it.
    """
    modules = list(module.modules())
    parameters = list(module.parameters())
    modes = [each.training for each in modules]
    trainable = [each.requires_grad for each in parameters]
    compiled = [(each, call) for each in modules if (call := each._compiled_call_impl) is not None]
    try:
        for each in modules:
            each.__dict__["training"] = False
        for parameter in parameters:
            parameter.requires_grad_(False)
        for each, _ in compiled:
            each.__dict__["_compiled_call_impl"] = None
        with (
            _random_state(device),
            _backends(modules, device),
            _buffers(modules),
            torch.inference_mode(False),
            torch.enable_grad(),
            torch.autocast(device.type, enabled=False),
        ):
            yield
    finally:
        for each, call in compiled:
            each.__dict__["_compiled_call_impl"] = call
        for parameter, flag in zip(parameters, trainable, strict=True):
            parameter.requires_grad_(flag)
        for each, mode in zip(modules, modes, strict=True):
            each.__dict__["training"] = mode


@contextmanager
def replaced_forwards(replacements: Mapping[nn.Module, Forward]) -> Iterator[None]:
    """Within the block, `module(...)` runs `replacement(original_forward, ...)`.

    It works below hooks, so that the owner's own hooks run once and see what they always see, and it
    also catches code that calls `module.forward` directly.
    """
    before = {module: module.__dict__.get("forward", _MISSING) for module in replacements}
    try:
        for module, replacement in replacements.items():
            module.__dict__["forward"] = _bind(replacement, module.forward)
        yield
    finally:
        for module, forward in before.items():
            if forward is _MISSING:
                module.__dict__.pop("forward", None)
            else:
                module.__dict__["forward"] = forward


def _bind(replacement: Forward, original: Forward) -> Forward:
    def forward(*args: Any, **kwargs: Any) -> Any:
        return replacement(original, *args, **kwargs)

    return forward


@contextmanager
def _random_state(device: torch.device) -> Iterator[None]:
    """The random states of Python, numpy and torch (processor and the network's own device)."""
    python, numpy = random.getstate(), np.random.get_state()
    accelerators = [device] if device.type not in ("cpu", "meta") else []
    kind = device.type if accelerators else "cuda"
    try:
        with torch.random.fork_rng(devices=accelerators, device_type=kind):
            yield
    finally:
        random.setstate(python)
        np.random.set_state(numpy)


@contextmanager
def _backends(modules: list[nn.Module], device: torch.device) -> Iterator[None]:
    """Attention calls its sub-modules, and recurrent layers can be differentiated in evaluation mode.

    The fused attention path skips the modules inside it; cuDNN refuses to differentiate a recurrent
    layer that is not in training mode, so those networks run without it.
    """
    fused = torch.backends.mha.get_fastpath_enabled()
    recurrent = device.type == "cuda" and any(isinstance(each, nn.RNNBase) for each in modules)
    cudnn = torch.backends.cudnn.enabled
    try:
        torch.backends.mha.set_fastpath_enabled(False)
        if recurrent:
            torch.backends.cudnn.enabled = False
        yield
    finally:
        torch.backends.mha.set_fastpath_enabled(fused)
        torch.backends.cudnn.enabled = cudnn


@contextmanager
def _buffers(modules: list[nn.Module]) -> Iterator[None]:
    """Buffers are the same tensors with the same contents afterwards."""
    tables = [(each._buffers, dict(each._buffers)) for each in modules if each._buffers]
    tensors = [buffer for _, table in tables for buffer in table.values() if buffer is not None]
    copies = [buffer.detach().clone() for buffer in tensors]
    versions = [_version(buffer) for buffer in tensors]
    try:
        yield
    finally:
        for live, table in tables:
            live.clear()
            live.update(table)
        with torch.no_grad():
            for buffer, copy, version in zip(tensors, copies, versions, strict=True):
                if _version(buffer) != version:
                    buffer.copy_(copy)


def _version(tensor: Tensor) -> int:
    """How often a tensor was written to; inference tensors do not count, so nothing is known of them."""
    return -1 if tensor.is_inference() else tensor._version
