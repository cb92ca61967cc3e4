"""The parametrised blocks of a network in order of computation, for what is done to a network block by block."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from torch import nn

from seewhy.errors import InputError, LayerError, NotApplicableError
from seewhy.network.survey import Survey

MOST = 20
"""Modules are taken apart, level by level, as long as there are no more stages than this."""

_NORMS = (
    nn.modules.batchnorm._BatchNorm,
    nn.modules.instancenorm._InstanceNorm,
    nn.LayerNorm,
    nn.GroupNorm,
)


@dataclass(frozen=True)
class Stage:
    """Modules whose parameters belong together.

    Attributes:
        name: the module that the stage is called after.
        modules: names of the modules that it is made of, each with everything inside it; "" is what the network
            itself owns, without the modules inside it.
    """

    name: str
    modules: tuple[str, ...]


def find_stages(module: nn.Module, survey: Survey, names: Sequence[str] | None = None) -> tuple[Stage, ...]:
    """Stages from the classifier to the input, together all of a network's parameters.

    The network is taken apart level by level (its children, their children and so on) as long as there are no more
    than `MOST` stages: convolutions of a small network, residual blocks of a ResNet-50, four groups of them of a
    ResNet-152. A module that has parameters of its own, or inside modules that are not called, stays whole. A
    normalisation belongs to the stage that runs before it; what the network itself owns, and what is not called, to
    the last stage, at the input.

    Args:
        module: the network.
        survey: what it computes.
        names: modules that are to be the stages instead, in any order.

    Raises:
        LayerError: there is no such module, or it has no parameters.
        InputError: one of the modules named lies in another, or none is named.
        NotApplicableError: the network has no parameters.
    """
    started: dict[str, int] = {}
    for call in survey.calls:
        started[call.name] = min(call.started, started.get(call.name, call.started))
    tree = _Tree(dict(module.named_modules()), started)
    if names is not None:
        return _named(tree, names)
    if not any(True for _ in module.parameters()):
        raise NotApplicableError("the network has no parameters, so nothing can be randomised")
    level = [""] if tree.whole("") else tree.children("")
    found = _merged(tree, level)
    while True:
        level = [deeper for name in level for deeper in ([name] if tree.whole(name) else tree.children(name))]
        finer = _merged(tree, level)
        if len(finer) > MOST or finer == found:
            return _with_the_rest(tree, found)
        found = finer


@dataclass(frozen=True)
class _Tree:
    """A network's modules by name, and when each was first called."""

    modules: dict[str, nn.Module]
    started: dict[str, int]

    def children(self, name: str) -> list[str]:
        """The modules right inside that have parameters and are called."""
        return [each for each in self.inside(name) if self.first(each) is not None]

    def inside(self, name: str) -> list[str]:
        """The modules right inside that have parameters."""
        prefix = f"{name}." if name else ""
        found = [f"{prefix}{key}" for key, _ in self.modules[name].named_children()]
        # A module that has two names is listed under its first.
        return [each for each in found if each in self.modules and _has_parameters(self.modules[each])]

    def first(self, name: str) -> int | None:
        """When the module, or something inside it, was first called."""
        calls = [each for key, each in self.started.items() if key == name or key.startswith(f"{name}.")]
        return min(calls, default=None)

    def whole(self, name: str) -> bool:
        """Whether a module is not to be taken apart."""
        inside = self.inside(name)
        if not name:
            return not self.children(name)
        own = any(True for _ in self.modules[name].parameters(recurse=False))
        return own or not inside or any(self.first(each) is None for each in inside)


def _merged(tree: _Tree, names: Sequence[str]) -> list[Stage]:
    """The modules as stages, last first, each normalisation with the module that runs before it."""
    ordered = sorted(names, key=lambda name: tree.first(name) or 0)
    groups: list[list[str]] = []
    for name in ordered:
        if groups and isinstance(tree.modules[name], _NORMS):
            groups[-1].append(name)
        else:
            groups.append([name])
    return [Stage(group[0], tuple(group)) for group in reversed(groups)]


def _with_the_rest(tree: _Tree, stages: list[Stage]) -> tuple[Stage, ...]:
    """The stages, the last of them with everything that is in none."""
    held = {id(each) for stage in stages for each in parametrised(tree.modules, stage)}
    rest = tuple(
        name
        for name, each in tree.modules.items()
        if id(each) not in held and any(True for _ in each.parameters(recurse=False))
    )
    if not stages:
        return (Stage(rest[0], rest),)
    *before, last = stages
    return (*before, Stage(last.name, last.modules + rest))


def parametrised(modules: dict[str, nn.Module], stage: Stage) -> list[nn.Module]:
    """The modules of a stage that have parameters of their own."""
    inside = [
        each
        for name in stage.modules
        for each in (modules[name].modules() if name else [modules[name]])
        if any(True for _ in each.parameters(recurse=False))
    ]
    return list({id(each): each for each in inside}.values())


def _named(tree: _Tree, names: Sequence[str]) -> tuple[Stage, ...]:
    if isinstance(names, str) or not names:
        raise InputError("stages is a list of module names")
    for name in names:
        if name not in tree.modules or not _has_parameters(tree.modules[name]) or not name:
            known = ", ".join(tree.inside(""))
            raise LayerError(f"no module {name!r} that has parameters; the outermost ones are {known}")
        if tree.first(name) is None:
            raise LayerError(f"{name!r} is not called by the network")
        if other := next((each for each in names if name.startswith(f"{each}.")), None):
            raise InputError(f"stage {name!r} lies in stage {other!r}; name one of the two")
    if len(set(names)) < len(names):
        raise InputError(f"a stage is named twice: {', '.join(names)}")
    last_first = sorted(names, key=lambda name: tree.first(name) or 0, reverse=True)
    return tuple(Stage(name, (name,)) for name in last_first)


def _has_parameters(module: nn.Module) -> bool:
    return any(True for _ in module.parameters())
