"""The order in which pictures are gone through, so that every batch holds several of a class and several classes."""

from __future__ import annotations

from collections.abc import Sequence
from random import Random

_GROUP = 6


def arranged(labels: Sequence[str], batch_size: int, seed: int) -> tuple[list[int], int]:
    """Pictures in the order of their batches, as metric learning samples them: up to six of a class side by side.

    Every picture shares its batch with another of its class, if there is one. Classes are cut into groups of six, three
    and two, which tile batches of a multiple of six; pictures that are alone in their class come last.

    Args:
        labels: the pictures' classes.
        batch_size: at most, at least six.
        seed: of the order.

    Returns:
        The pictures' numbers in order, and the size of a batch; the last one may be smaller.
    """
    chance = Random(seed)
    classes: dict[str, list[int]] = {}
    for number, label in enumerate(labels):
        classes.setdefault(label, []).append(number)
    groups: dict[int, list[list[int]]] = {6: [], 3: [], 2: [], 1: []}
    for label in sorted(classes):
        members = classes[label]
        chance.shuffle(members)
        for size in _sizes(len(members)):
            groups[size].append([members.pop() for _ in range(size)])
    for each in groups.values():
        chance.shuffle(each)
    # An even number of threes ends where a pair may begin; one that is left over ends the last batch.
    last = [groups[3].pop()] if len(groups[3]) % 2 else []
    paired = [*groups[6], *groups[3], *groups[2], *last]
    order = [number for group in [*paired, *groups[1]] for number in group]
    return order, _even(sum(map(len, paired)), batch_size)


def shuffled(count: int, batch_size: int, seed: int) -> tuple[list[int], int]:
    """Pictures at random, where values and not classes tell which belong together."""
    order = list(range(count))
    Random(seed).shuffle(order)
    return order, _even(count, batch_size)


def _sizes(count: int) -> list[int]:
    """A class's groups: of six, and what is left in threes and twos, never one unless it is all."""
    if count == 1:
        return [1]
    sixes, left = divmod(count, _GROUP)
    if left == 1:
        sixes, left = sixes - 1, left + _GROUP
    rest = {0: [], 2: [2], 3: [3], 4: [2, 2], 5: [3, 2], 7: [3, 2, 2]}[left]
    return [_GROUP] * sixes + rest


def _even(count: int, batch_size: int) -> int:
    """A multiple of six, at most the batch size, that leaves no small batch at the end, if there is one."""
    sizes = range(batch_size // _GROUP * _GROUP, 0, -_GROUP)
    return next((size for size in sizes if count % size == 0 or count % size >= size // 2), sizes[0])
