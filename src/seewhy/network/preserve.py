"""Run a network in a known state and put back everything that its owner could notice."""

from __future__ import annotations

import random
import threading
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

Forward = Callable[..., Any]
"""What stands in for a module's forward: called with the original forward, then its arguments."""

_MISSING = object()
_turn = threading.RLock()
_TABLES = (dict, list, set)


@contextmanager
def preserved(module: nn.Module, device: torch.device) -> Iterator[None]:
    """Evaluation mode, frozen parameters, gradients on; every flag, buffer and random state is put back.

    Freezing the parameters is what makes trunks cheap: a graph then begins only where an activation is
    made a leaf, whatever comes before it. One thread at a time: random states and backend flags belong to the
    process, and two that put them back in turn would leave each other's.
    """
    modules = list(module.modules())
    with (
        _turn,
        _random_state(device),
        _backends(modules, device),
        torch.inference_mode(False),
        torch.enable_grad(),
        torch.autocast(device.type, enabled=False),
        kept_attributes(modules),
        _buffers(modules),
        _frozen(list(module.parameters())),
    ):
        for each in modules:
            _evaluate(each)
        yield


def _evaluate(module: nn.Module) -> None:
    """Evaluation mode, uncompiled; without calling `eval`, which owners override with side effects."""
    if isinstance(module, torch.jit.ScriptModule):
        torch.jit.ScriptModule.train(module, False)
        return
    attributes = module.__dict__
    attributes["training"] = False
    if module._compiled_call_impl is not None:
        attributes["_compiled_call_impl"] = None
    if isinstance(original := module._modules.get("_orig_mod"), nn.Module):
        attributes["forward"] = original.__call__


@contextmanager
def _frozen(parameters: list[nn.Parameter]) -> Iterator[None]:
    trainable = [each.requires_grad for each in parameters]
    try:
        for each in parameters:
            each.requires_grad_(False)
        yield
    finally:
        for each, flag in zip(parameters, trainable, strict=True):
            each.requires_grad_(flag)


@contextmanager
def kept_attributes(modules: Iterable[nn.Module]) -> Iterator[None]:
    """Whatever a forward assigns to its module, or puts into the module's tables and lists, is taken back.

    Attention biases that are cached in evaluation mode, for one, must not be met by later training steps.
    """
    modules = list(modules)
    kept = [(each.__dict__, dict(each.__dict__)) for each in modules]
    tables = [value for _, old in kept for value in old.values() if isinstance(value, _TABLES)]
    empty = [table for table in tables if not table]
    filled = [(table, _copied(table)) for table in tables if table]
    modes = [(each, each.training) for each in modules if isinstance(each, torch.jit.ScriptModule)]
    try:
        yield
    finally:
        for live, old in kept:
            live.update(old)
            if len(live) > len(old):
                for name in live.keys() - old.keys():
                    del live[name]
        for table in empty:
            if table:
                table.clear()
        for table, copy in filled:
            if _changed(table, copy):
                table.clear()
                table.extend(copy) if isinstance(table, list) else table.update(copy)
        for scripted, mode in modes:
            torch.jit.ScriptModule.train(scripted, mode)


def _copied(table: Any) -> Any:
    return dict(table) if isinstance(table, dict) else list(table)


def _changed(table: Any, copy: Any) -> bool:
    """Whether a table holds other objects than before; by identity, as tensors have no truth value."""
    if len(table) != len(copy):
        return True
    if isinstance(table, dict):
        return any(table.get(key, _MISSING) is not value for key, value in copy.items())
    return any(a is not b for a, b in zip(table, copy, strict=True))


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
    """Buffers have the same contents afterwards; which tensors they are is an attribute of their module."""
    groups: dict[tuple[torch.dtype, torch.device, bool], list[Tensor]] = {}
    buffers = (buffer for each in modules for buffer in each._buffers.values())
    for buffer in {id(each): each for each in buffers if each is not None}.values():
        if buffer.layout == torch.strided and not buffer.is_meta:
            groups.setdefault((buffer.dtype, buffer.device, buffer.ndim == 0), []).append(buffer)
    copies = {key: _flat(group) for key, group in groups.items()}
    try:
        yield
    finally:
        for key, group in groups.items():
            # Contents, not version counters, as writes through `.data` do not count. On an accelerator all
            # at once, as every comparison waits for it; elsewhere small ones, which need no second thread.
            if copies[key].device.type == "cpu" or not torch.equal(_flat(group), copies[key]):
                _restore(group, copies[key])


def _flat(tensors: list[Tensor]) -> Tensor:
    """All values in one tensor: one copy for the hundred small buffers of a network."""
    with torch.no_grad():
        if tensors[0].ndim == 0:
            return torch.stack(tensors)
        return torch.cat([each if each.ndim == 1 else each.flatten() for each in tensors])


def _restore(tensors: list[Tensor], values: Tensor) -> None:
    """Write the values back where they differ."""
    with torch.no_grad():
        parts = torch.split(values, [each.numel() for each in tensors])
        for each, old in zip(tensors, parts, strict=True):
            if not torch.equal(each.flatten(), old):
                each.copy_(old.view(each.shape))


def version(tensor: Tensor) -> int:
    """How often a tensor was written to; inference tensors do not count, so nothing is known of them."""
    return -1 if tensor.is_inference() else tensor._version
