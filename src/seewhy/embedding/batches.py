"""The order in which pictures are gone through, so that every batch holds several of a class and several classes."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import chain
from itertools import count as naturals
from random import Random

LEAST = 12
_UNIT = 6  # batches are multiples of it, which groups of six, three and two tile
_WITH_SIXES = 24


def arranged(labels: Sequence[str], batch_size: int, seed: int) -> tuple[list[int], int]:
    """Pictures in the order of their batches, as metric learning samples them: a few of a class side by side.

    Every picture shares its batch with another of its class, if there is one. Classes are cut into groups of six (where
    a batch holds at least four of them), three and two, and each class's groups are spread over all batches. Pictures
    that are alone in their class come last.

    Args:
        labels: the pictures' classes.
        batch_size: about how many pictures, at least twelve.
        seed: of the order.

    Returns:
        The pictures' numbers in order, and the size of a batch; the last one may be smaller.
    """
    chance = Random(seed)
    classes: dict[str, list[int]] = {}
    for number, label in enumerate(labels):
        classes.setdefault(label, []).append(number)
    size = _even(sum(len(members) for members in classes.values() if len(members) > 1), batch_size)
    placed: dict[int, list[tuple[float, list[int]]]] = {6: [], 3: [], 2: [], 1: []}
    for label in sorted(classes):
        members, start = classes[label], chance.random()
        chance.shuffle(members)
        cut = _sizes(len(members), size >= _WITH_SIXES)
        for place, each in enumerate(cut):
            group = [members.pop() for _ in range(each)]
            placed[each].append(((place + start) / len(cut), group))
    groups = {each: [group for _, group in sorted(found)] for each, found in placed.items()}
    # An even number of threes ends where a pair may begin; one that is left over ends the last batch.
    last = [groups[3].pop()] if len(groups[3]) % 2 else []
    order = [*groups[6], *groups[3], *groups[2], *last, *groups[1]]
    return [number for group in order for number in group], size


def shuffled(count: int, batch_size: int, seed: int) -> tuple[list[int], int]:
    """Pictures at random, where values and not classes tell which belong together."""
    order = list(range(count))
    Random(seed).shuffle(order)
    return order, _even(count, batch_size)


def _sizes(count: int, with_sixes: bool) -> list[int]:
    """A class's groups: of six, and what is left in threes and twos, never one unless it is all."""
    if count == 1:
        return [1]
    sixes, left = divmod(count, 6)
    if left == 1:
        sixes, left = sixes - 1, 7
    rest = {0: [], 2: [2], 3: [3], 4: [2, 2], 5: [3, 2], 7: [3, 2, 2]}[left]
    return ([6] if with_sixes else [3, 3]) * sixes + rest


def _even(count: int, batch_size: int) -> int:
    """A multiple of six that leaves no small batch at the end: the batch size or the next below, or else above."""
    most = batch_size // _UNIT * _UNIT
    sizes = chain(range(most, LEAST - 1, -_UNIT), naturals(most + _UNIT, _UNIT))
    return next(size for size in sizes if size >= count or count % size == 0 or count % size >= size // 2)
