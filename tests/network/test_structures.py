from __future__ import annotations

from collections import OrderedDict
from dataclasses import dataclass, field
from typing import Any, NamedTuple

import pytest
import torch

from seewhy.network.structures import flatten, map_tensors, tensors


class Pair(NamedTuple):
    first: Any
    second: Any


@dataclass
class Open:
    value: Any
    name: str = "open"


@dataclass(frozen=True, slots=True)
class Closed:
    value: Any
    inner: Any = None


@dataclass
class Computed:
    value: Any
    derived: Any = field(init=False)

    def __post_init__(self) -> None:
        self.derived = self.value + 1


A, B, C = (torch.full((2,), float(number)) for number in range(3))

STRUCTURES = {
    "tensor": A,
    "tuple": (A, [B, "text"], None),
    "dict": {"b": A, "a": {"c": B}},
    "ordered": OrderedDict(z=A, y=B),
    "named tuple": Pair(A, Pair(B, C)),
    "dataclass": Open(A),
    "frozen": Closed(A, {"x": Closed(B)}),
    "dataclass in a list": [Open((A, B)), C],
    "computed field": Computed(A),
}


@pytest.mark.parametrize("value", STRUCTURES.values(), ids=list(STRUCTURES))
def test_a_structure_taken_apart_is_built_again(value):
    leaves, rebuild = flatten(value)
    again = rebuild(leaves)
    assert type(again) is type(value)
    assert all(one is other for one, other in zip(flatten(again)[0], leaves, strict=True))


@pytest.mark.parametrize("value", STRUCTURES.values(), ids=list(STRUCTURES))
def test_every_tensor_is_changed_and_the_given_structure_is_not(value):
    before = [each.clone() for each in tensors(value)]
    changed = map_tensors(lambda tensor: tensor + 10, value)
    assert [each.tolist() for each in tensors(changed)] == [(each + 10).tolist() for each in before]
    assert all(torch.equal(one, other) for one, other in zip(tensors(value), before, strict=True))


def test_what_is_no_tensor_stays():
    assert map_tensors(lambda tensor: tensor, Open(A, "kept")).name == "kept"
    assert map_tensors(lambda tensor: tensor, {"a": (1, None, "x")}) == {"a": (1, None, "x")}


def test_dataclass_types_are_not_opened():
    assert flatten([Open, A])[0] == [Open, A]
