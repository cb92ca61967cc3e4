"""The crisp masks of a class's pictures: the expensive part, kept by the store."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from seewhy.datasets import Item as Picture
from seewhy.datasets import Manifest
from seewhy.errors import InputError
from seewhy.evaluation.subjects import read_pictures, reading_of
from seewhy.explainers.crisp_mask import CrispMask
from seewhy.explainers.perturbation.regions import perturbed
from seewhy.explainers.study import best_classes
from seewhy.network.network import Network, main_output
from seewhy.store import Counts, Failed, Item, Plan, Store, Work

SKIPPED = "taken for "
"""How the reason begins for a picture that the network takes for another class."""


def of_class(manifest: Manifest, label: str, count: int | None) -> list[Picture]:
    """The pictures of a class, in an order that no name decides: by the SHA-256 of their bytes.

    Raises:
        InputError: the dataset has no such class; the message lists those that it has.
    """
    names = {label, *(key for key, name in manifest.classes.items() if name == label)}
    found = [each for each in manifest.faultless if each.labels and each.labels[0] in names]
    if not found:
        known = sorted({each.labels[0] for each in manifest.faultless if each.labels})
        shown = ", ".join(manifest.classes.get(each, each) for each in known[:20])
        raise InputError(
            f"{manifest.root} has no pictures of {label!r}; its classes are {shown or 'not known'}"
        )
    found.sort(key=lambda each: each.sha256)
    return found if count is None else found[:count]


def mask_work(
    network: Network,
    pictures: Sequence[Picture],
    index: int,
    method: CrispMask,
    store: Store,
    batch: int,
    environment: dict[str, str],
    progress: Callable[[Counts], object] | None = None,
) -> Work:
    """Compute the masks that are not kept yet.

    Args:
        network: with preprocessing.
        pictures: of the class.
        index: number of the class.
        method: of the masks.
        store: where they are kept.
        batch: pictures computed at once; a file holds as many.
        environment: what the last bits depend on.
        progress: called with the counts after each file.
    """
    by_id = {each.id: each for each in pictures}

    def rows(items: Sequence[Item]) -> list[dict[str, Any] | Failed]:
        return _rows(network, [by_id[item.id] for item in items], index, method)

    plan = Plan.model_validate(
        {
            "kind": "crisp-masks",
            "items": [Item(each.id, each.sha256, label=each.labels[0]) for each in pictures],
            "columns": {"mask": "map", "probability": "float64", "masked": "float64", "notes": "string"},
            "settings": {"mask": method.model_dump(mode="json"), "class": index, **reading_of(network)},
            "network": network.digest,
            "environment": environment,
            "shard_size": batch,
            "chunk_size": batch,
        }
    )
    work = store.open(plan)
    work.run(rows, progress)
    return work


def _rows(
    network: Network, pictures: Sequence[Picture], index: int, method: CrispMask
) -> list[dict[str, Any] | Failed]:
    images, good, broken = read_pictures(network, pictures)
    made: dict[str, dict[str, Any] | Failed] = {id: Failed(reason) for id, reason in broken.items()}
    output = main_output(network(images.pixels)).float() if good else None
    best = [] if output is None else [best for (best,) in best_classes(network, output, 1)]
    right = [row for row, each in enumerate(best) if each.index == index]
    for picture, each in zip(good, best, strict=True):
        if each.index != index:
            made[picture.id] = Failed(f"{SKIPPED}{each.label}")
    if right:
        chosen = images.select(right)
        found = method(network, chosen, index)
        masks = found.grid()[:, 0].clamp(0, 1).cpu().numpy()
        before, after = perturbed(
            network, chosen, index, range(len(right)), [0] * len(right), list(masks), method.baseline
        )
        for place, row in enumerate(right):
            made[good[row].id] = {
                "mask": masks[place],
                "probability": float(before[place, 0]),
                "masked": after[place],
                "notes": "; ".join(found.notes[place]),
            }
    return [made[each.id] for each in pictures]
