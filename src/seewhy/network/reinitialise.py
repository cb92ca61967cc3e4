"""New random weights for parts of a network, by its own initialisers."""

from __future__ import annotations

from collections.abc import Iterable
from hashlib import sha256
from typing import Any

import torch
from torch import Tensor, nn

from seewhy.network.inputs import Arguments
from seewhy.network.network import Network
from seewhy.network.preserve import preserved

_STATISTICS = (nn.modules.batchnorm._BatchNorm, nn.modules.instancenorm._InstanceNorm)


def reinitialise(network: Network, modules: Iterable[nn.Module], seed: str) -> None:
    """Give modules' own parameters new values, in place; buffers, all else and the random state stay as they are.

    `reset_parameters` decides where a module has it: batch normalisation, for one, scales by one and shifts by zero
    after it, and keeps its running statistics here. Parameters that it leaves untouched although their values differ,
    as those behind a weight normalisation, and those of modules without it, such as class tokens and layer scales,
    get normal noise of mean zero with the same root mean square. Zeros thus stay zeros.

    Args:
        network: the network.
        modules: some of its modules; those inside them are not touched.
        seed: the same one gives the same values on the same kind of device.
    """
    number = int.from_bytes(sha256(seed.encode()).digest()[:8], "little") >> 1
    chosen = list(modules)
    mine = {id(each) for module in chosen for each in module.parameters(recurse=False)}
    others = {id(each): each for each in network.module.parameters() if id(each) not in mine}
    kept = [(each, each.detach().clone()) for each in others.values()]
    with preserved(network.module, network.device), torch.no_grad():
        torch.manual_seed(number)
        for module in chosen:
            _reset(module)
        for parameter, values in kept:
            if not torch.equal(parameter, values):  # tied weights, or an initialiser that reaches further
                parameter.copy_(values)


def _reset(module: nn.Module) -> None:
    own = list(module.parameters(recurse=False))
    before = [each.clone() for each in own]
    reset: Any = getattr(module, "reset_parameters", None)
    if callable(reset):
        reset()
    for parameter, old in zip(own, before, strict=True):
        untouched = torch.equal(parameter, old)
        if untouched and not (callable(reset) and _constant(old)):
            parameter.normal_().mul_(old.float().square().mean().sqrt().to(old.dtype))


def _constant(values: Tensor) -> bool:
    return bool((values == values.flatten()[:1]).all())


def recompute_statistics(network: Network, arguments: Arguments) -> None:
    """Set the running statistics of normalisations to those of one batch of pictures.

    Everything else runs in evaluation mode, without dropout.
    """
    norms = [
        each
        for each in network.module.modules()
        if isinstance(each, _STATISTICS) and each.track_running_stats and each.running_mean is not None
    ]
    with preserved(network.module, network.device), torch.no_grad():
        for each in norms:
            each.reset_running_stats()
            each.training, each.momentum = True, None
        arguments.call(network.module)
        found = [
            [buffer.clone() for buffer in (each.running_mean, each.running_var) if buffer is not None]
            for each in norms
        ]
    with torch.no_grad():
        for each, values in zip(norms, found, strict=True):
            assert each.running_mean is not None
            assert each.running_var is not None
            each.running_mean.copy_(values[0])
            each.running_var.copy_(values[1])
