"""Surveys and replay plans: made once per network and kind of input, kept as long as the network lives."""

from __future__ import annotations

import itertools
from collections.abc import Hashable
from typing import TYPE_CHECKING, Any
from weakref import WeakKeyDictionary

from torch import Tensor, nn

from seewhy.errors import TargetError
from seewhy.network.inputs import Arguments
from seewhy.network.replay import Plan, plan_replay
from seewhy.network.survey import Call, Survey, noisy_pair, survey

if TYPE_CHECKING:
    from seewhy.network.network import Network
    from seewhy.targets import Target

_count = itertools.count()
_numbers: WeakKeyDictionary[nn.Module, int] = WeakKeyDictionary()
_kept: WeakKeyDictionary[nn.Module, dict[Hashable, Any]] = WeakKeyDictionary()
_squashed: WeakKeyDictionary[nn.Module, tuple[tuple[int, ...], bool]] = WeakKeyDictionary()
_MOST = 64


def surveyed(network: Network, arguments: Arguments, target: Target) -> tuple[Survey, int]:
    """The survey of a network for inputs and a target like these, and the forwards that it cost now.

    It is made anew when a module is exchanged, not when weights change. Call it inside `preserved`.
    """
    key = ("survey", module_numbers(network.module), arguments.signature, target.key)
    kept = _kept.setdefault(network.module, {})
    found = kept.get(key)
    if found is None:
        prefix = getattr(network.module, "num_prefix_tokens", None)
        found = survey(
            network.module,
            arguments,
            target.survey,
            lambda outputs: _answers(outputs, target),
            prefix if isinstance(prefix, int) else None,
        )
        if any(call.positions == "used" for call in found.calls):
            # Zero weights hide what depends on what; such a survey must not outlive them.
            _keep(kept, key, found)
        if target.names_classes:
            _squashed[network.module] = module_numbers(network.module), found.squashed
        return found, found.forwards
    return found, 0


def known_as_squashed(module: nn.Module) -> bool | None:
    """Whether the output comes out of a sigmoid or softmax; None where no survey has looked."""
    numbers, squashed = _squashed.get(module, ((), False))
    return squashed if numbers == module_numbers(module) else None


def _answers(outputs: Any, target: Target) -> Tensor | None:
    """The output that a target reads, where there is such a tensor."""
    from seewhy.network.network import main_output  # which imports this module

    try:
        return main_output(outputs, target.output)
    except TargetError:
        return None


def planned(
    network: Network, arguments: Arguments, found: Survey, call: Call, digest: str
) -> tuple[Plan, int]:
    """The verified replay plan from one call on, and the forwards that it cost now.

    A plan that could not be verified is kept for these weights (`digest`) only.
    """
    key = ("plan", module_numbers(network.module), arguments.signature, call.name, call.index)
    kept = _kept.setdefault(network.module, {})
    plan = kept.get(key) or kept.get((*key, digest))
    if plan is None:
        plan = plan_replay(network.module, noisy_pair(arguments), found, call)
        # What could not be verified may be so with other weights.
        _keep(kept, key if plan.verified else (*key, digest), plan)
        # Two pictures recorded, two others, four in full, four replayed, and four replayed with less memory.
        return plan, 16 if plan.order else 0
    return plan, 0


def remembered(network: Network, key: Hashable) -> Any:
    """Something small that was kept about this network, or None; keys that depend on weights must say so."""
    return _kept.setdefault(network.module, {}).get((module_numbers(network.module), key))


def remember(network: Network, key: Hashable, value: Any) -> None:
    """Keep something small about a network; it must not refer to the module."""
    _keep(_kept.setdefault(network.module, {}), (module_numbers(network.module), key), value)


def module_numbers(module: nn.Module) -> tuple[int, ...]:
    """Numbers of all modules; unlike addresses, they are never given to another module later."""
    return tuple(_numbers.setdefault(each, next(_count)) for each in module.modules())


def _keep(kept: dict[Hashable, Any], key: Hashable, value: Any) -> None:
    """Keep the newest; inputs of ever new sizes must not pile up."""
    if len(kept) >= _MOST:
        kept.pop(next(iter(kept)))
    kept[key] = value
