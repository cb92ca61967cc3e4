"""Explaining once more: the method, the settings and the classes of maps at hand, for other pictures or seeds."""

from __future__ import annotations

from typing import Any

from jaxtyping import Float, Int
from pydantic import ValidationError
from torch import Tensor

from seewhy import registry
from seewhy.errors import InputError
from seewhy.evaluation.metric import Batch
from seewhy.evaluation.perturbed import Explained
from seewhy.explainers.base import Explainer, explain_all
from seewhy.explanation import Explanation


def again(
    batch: Batch,
    pixels: Float[Tensor, "M C H W"],
    rows: Int[Tensor, " M"] | None = None,
    *,
    seed: int | None = None,
) -> Explanation:
    """The same method's maps of M other pictures, for the classes of those that they are made from.

    Args:
        batch: pictures and their maps.
        pixels: what stands in place of the first picture input.
        rows: which of the batch's pictures each is made from; all in order by default.
        seed: instead of the one in the settings.

    Raises:
        InputError: the method is not registered, does not take its own settings, or has no seed; the maps explain
            no classes.
    """
    chosen = range(len(pixels)) if rows is None else rows.tolist()
    labels = tuple(batch.explanation.labels[row] for row in chosen)
    with batch.network.prepared(batch.images) as arguments:
        shown = arguments.showing({arguments.pictures[0]: pixels}, rows)
    inputs: dict[int | str, Any] = dict([*enumerate(shown.positional), *shown.named.items()])
    method = explainer(batch, seed=seed)
    found = explain_all(batch.network, inputs, [method], Explained(labels), chunk=len(batch.pixels))
    return found[method.name]


def explainer(batch: Batch, *, seed: int | None = None) -> Explainer:
    """The method that made the batch's maps.

    Raises:
        InputError: see `again`.
    """
    name = batch.explanation.method
    settings: dict[str, Any] = dict(batch.explanation.settings)
    try:
        kind = registry.explainer(name)
    except InputError as error:
        raise InputError(
            f"pictures are explained again by the method's name: {error}; a method of your own is registered by the "
            f"entry point {registry.ENTRY_POINTS}"
        ) from None
    if seed is not None:
        if "seed" not in kind.model_fields:
            raise InputError(f"{name} has no seed")
        settings["seed"] = seed
    try:
        return kind.model_validate(settings)
    except ValidationError as error:
        raise InputError(
            f"{name} does not take the settings of its maps: {error.errors()[0]['msg']}"
        ) from None
