"""Tensors inside what modules return: tuples, mappings, registered classes, and dataclasses of them."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from copy import copy
from dataclasses import fields, is_dataclass
from typing import Any

from torch import Tensor
from torch.utils._pytree import tree_flatten, tree_unflatten

Rebuild = Callable[[list[Any]], Any]


def flatten(value: Any) -> tuple[list[Any], Rebuild]:
    """Everything inside a structure, and the function that builds the structure again from such a list."""
    found, structure = tree_flatten(value)
    records = {place: flatten(_fields(leaf)) for place, leaf in enumerate(found) if _is_record(leaf)}

    def rebuild(leaves: list[Any]) -> Any:
        remaining = iter(leaves)
        built = []
        for place, leaf in enumerate(found):
            if place in records:
                own, inner = records[place]
                built.append(_with_fields(leaf, inner([next(remaining) for _ in own])))
            else:
                built.append(next(remaining))
        return tree_unflatten(built, structure)

    flat = [
        each
        for place, leaf in enumerate(found)
        for each in (records[place][0] if place in records else [leaf])
    ]
    return flat, rebuild


def tensors(value: Any) -> list[Tensor]:
    """All tensors inside a structure, in order."""
    return [leaf for leaf in flatten(value)[0] if isinstance(leaf, Tensor)]


def operands(values: Iterable[Any]) -> Iterator[Tensor]:
    """The tensors among what a function of torch is given, and in sequences of them, as `torch.cat` takes."""
    for each in values:
        if isinstance(each, Tensor):
            yield each
        elif isinstance(each, list | tuple):
            yield from operands(each)


def map_tensors(function: Callable[[Tensor], Tensor], value: Any) -> Any:
    """The structure with every tensor changed."""
    if isinstance(value, Tensor):
        return function(value)
    flat, rebuild = flatten(value)
    return rebuild([function(leaf) if isinstance(leaf, Tensor) else leaf for leaf in flat])


def _is_record(value: object) -> bool:
    """Whether this is a dataclass that torch does not open by itself."""
    return is_dataclass(value) and not isinstance(value, type)


def _fields(record: Any) -> dict[str, Any]:
    return {
        field.name: getattr(record, field.name) for field in fields(record) if hasattr(record, field.name)
    }


def _with_fields(record: Any, values: dict[str, Any]) -> Any:
    changed = copy(record)
    for name, value in values.items():
        object.__setattr__(changed, name, value)  # frozen dataclasses too
    return changed
