"""Which summaries of two networks are of the same places, over the same pictures."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from jaxtyping import Bool, Float

from seewhy.errors import InputError
from seewhy.evaluation.result import holm
from seewhy.summaries.importance import DRAWS, elsewhere, rank_test
from seewhy.summaries.result import SIGNIFICANT, Summaries
from seewhy.truth import from_run_lengths

Places = Mapping[str, np.ndarray]
"""Of one summary: by picture, the pixels of its regions there."""


@dataclass(frozen=True)
class Partner:
    """A summary of one network, and that of another network which is most in the same places.

    Attributes:
        number: of the summary, from 1.
        partner: number of the other network's; None where none is there more than chance would have it.
        overlap: mean intersection over union of their regions, over the pictures that have either.
        elsewhere: the same with the other's regions at random places.
        chance: of such an overlap if the other's places were random, corrected for all pairs (Holm, 1979).
    """

    number: int
    partner: int | None
    overlap: float
    elsewhere: float
    chance: float


def partners(
    first: Summaries | Mapping[str, Any],
    second: Summaries | Mapping[str, Any],
    counting: bool = True,
    seed: int = 0,
) -> list[Partner]:
    """For each summary of one network its partner among another's; several may have the same one.

    Only pictures that both took part in are compared. The networks must be shown the pictures alike, with one
    preprocessing, or pixels do not stand for the same places.

    Args:
        first: summaries of one network, or their JSON.
        second: of the other, of the same class and pictures.
        counting: only of those that count; else of all clusters.
        seed: of the random places.

    Raises:
        InputError: no picture took part in both, or pictures of another size; what is no JSON of summaries.

    Example:
        >>> partners(found, found)[0].overlap  # doctest: +SKIP
        1.0
    """
    one, other = (_known(each, counting) for each in (first, second))
    common = one[0] & other[0]
    if not common:
        raise InputError(
            "the two have no picture in common; compare summaries of the same class and pictures"
        )
    found = [
        [_overlap(mine, theirs, common, seed) for theirs in other[1].values()] for mine in one[1].values()
    ]
    chances = iter(holm([chance for row in found for _, _, chance in row]))
    made = []
    for number, row in zip(one[1], found, strict=True):
        corrected = [(overlap, random, next(chances)) for overlap, random, _ in row]
        if not corrected:
            made.append(Partner(number, None, 0.0, 0.0, 1.0))
            continue
        best = max(range(len(corrected)), key=lambda place: corrected[place][0])
        partner = list(other[1])[best] if corrected[best][2] < SIGNIFICANT else None
        made.append(Partner(number, partner, *corrected[best]))
    return made


def _known(found: Summaries | Mapping[str, Any], counting: bool) -> tuple[frozenset[str], dict[int, Places]]:
    """Which pictures took part, and the places of each summary by its number."""
    values = found.to_json() if isinstance(found, Summaries) else found
    try:
        places: dict[int, Places] = {}
        for each in values["summaries"]:
            if each["significant"] or not counting:
                own: dict[str, np.ndarray] = {}
                for member in each["members"]:
                    mask = from_run_lengths(member["mask"])
                    own[member["picture"]] = (
                        own[member["picture"]] | mask if member["picture"] in own else mask
                    )
                places[int(each["number"])] = own
        return frozenset(values["pictures"]), places
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        raise InputError(
            f"not summaries as `seewhy summarize` writes them: {type(error).__name__} {error}"
        ) from error


def _overlap(mine: Places, theirs: Places, common: frozenset[str], seed: int) -> tuple[float, float, float]:
    """The mean overlap of two summaries, the same at random places, and its chance."""
    pictures = sorted(common & (mine.keys() | theirs.keys()))
    both = [id for id in pictures if id in mine and id in theirs]
    if not both:
        return 0.0, 0.0, 1.0
    draws: Float[np.ndarray, "n d"] = np.array(
        [
            [_share(mine[id], each) for each in elsewhere(theirs[id], DRAWS, seed + 1000 * row)]
            for row, id in enumerate(both)
        ]
    )
    values = np.array([_share(mine[id], theirs[id]) for id in both])
    # Where only one of them is, they overlap nowhere, wherever the other one's regions are moved.
    return (
        float(values.sum() / len(pictures)),
        float(draws.mean(1).sum() / len(pictures)),
        rank_test(values, draws),
    )


def _share(one: Bool[np.ndarray, "H W"], other: Bool[np.ndarray, "h w"]) -> float:
    if one.shape != other.shape:
        sizes = " and ".join(" x ".join(map(str, each.shape)) for each in (one, other))
        raise InputError(f"masks of {sizes} pixels cannot be laid over one another")
    return float((one & other).sum() / max(1, int((one | other).sum())))
