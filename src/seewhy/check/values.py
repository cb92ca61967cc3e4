"""What maps are: finite, on the right device, zero where nothing speaks, different where the weights are."""

from __future__ import annotations

import copy
from collections.abc import Callable
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.utils._pytree import tree_leaves

from seewhy.check.case import BrokenError, Case, UnclearError, mapped
from seewhy.check.toys import spots
from seewhy.errors import SeewhyError
from seewhy.explainers.score_cam import CONCENTRATED, EVEN
from seewhy.explanation import Explanation
from seewhy.network.layers import PIXELS
from seewhy.network.network import Network
from seewhy.network.preserve import replaced_forwards


def _device_and_type(case: Case) -> None:
    for values in case.result.maps.values():
        if values.dtype != torch.float32 or values.device != case.network.device:
            raise BrokenError(f"{values.dtype} on {values.device}")
        if values.requires_grad or values.is_inference():
            raise BrokenError("the values are still tied to a graph or to inference mode")


def _finite(value: float) -> Callable[[Case], None]:
    def check(case: Case) -> None:
        case.again(case.filled(value))  # raises where a map is not finite

    return check


def _dead(case: Case) -> None:
    module = copy.deepcopy(case.network.module)
    with torch.no_grad():
        for parameter in module.parameters():
            parameter.zero_()
    found = case.on(module)
    for site, values in found.maps.items():
        if values.any() and site.layer != PIXELS and _activations(module, case, site.layer).any():
            raise UnclearError("without weights this network's activations are not zero")
        if values.any():
            raise BrokenError("the map is not zero")
    if not all(found.notes):
        raise BrokenError("nothing in the notes says so")


def _activations(module: nn.Module, case: Case, layer: str) -> Tensor:
    """Everything that a layer returns for the case's pictures, in one vector."""
    returned: list[Tensor] = []

    def keep(original: Any, *args: Any, **kwargs: Any) -> Any:
        output = original(*args, **kwargs)
        returned.extend(each.flatten() for each in tree_leaves(output) if isinstance(each, Tensor))
        return output

    network = Network(module)
    with replaced_forwards({module.get_submodule(layer): keep}), network.prepared(case.images) as arguments:
        arguments.call(module)
    return torch.cat(returned)


def _weights_matter(case: Case) -> None:
    module = copy.deepcopy(case.network.module)
    generator = torch.Generator().manual_seed(3)
    with torch.no_grad():
        for parameter in module.parameters():
            order = torch.randperm(parameter.numel(), generator=generator).to(parameter.device)
            signs = torch.randint(0, 2, (parameter.numel(),), generator=generator) * 2 - 1
            flat = parameter.flatten()[order] * signs.to(parameter.device)
            parameter.copy_(flat.view_as(parameter) if parameter.ndim > 1 else parameter)
    found = case.on(module)
    compared = False
    for site, values in case.result.maps.items():
        for one, other in zip(values.flatten(0, 1), found.maps[site].flatten(0, 1), strict=True):
            if one.std() > 0 and other.std() > 0:
                compared = True
                pair = torch.stack([one.flatten(), other.flatten()]).double()
                if torch.corrcoef(pair)[0, 1] < 0.99:
                    return
    if not compared:
        raise UnclearError("the maps are constant")
    raise BrokenError("the maps of a network with random weights are the same")


def _shape(case: Case) -> None:
    result = case.result
    batch, targets = result.scores.shape
    for site, values in result.maps.items():
        if values.shape[:2] != (batch, targets):
            raise BrokenError(
                f"values of shape {tuple(values.shape)} for {batch} pictures and {targets} targets"
            )
        evidence = result.evidence(site)
        if evidence.shape != (batch, targets, *result.size_at(site)) or bool((evidence < 0).any()):
            raise BrokenError(f"evidence of shape {tuple(evidence.shape)}, least {float(evidence.min()):.2g}")
        heatmaps = result.heatmaps(site=site)
        if float(heatmaps.min()) < 0 or float(heatmaps.max()) > 1:
            raise BrokenError("heatmaps outside 0 and 1")
    _grids(case, result, case.images)


def _grids(case: Case, result: Explanation, images: Any) -> None:
    """Raise where a map is not on the grid of its layer, or of the pictures."""
    grids = {
        layer.name: layer.layout.grid for layer in case.network.layers(images, case.target) if layer.layout
    }
    for site, values in result.maps.items():
        expected = result.size_at(site) if site.layer == PIXELS else grids.get(site.layer)
        if expected is not None and tuple(values.shape[-2:]) != tuple(expected):
            raise BrokenError(
                f"a map of {tuple(values.shape[-2:])} cells at {site}, which has {tuple(expected)}"
            )


def _pointing(case: Case) -> None:
    """Of pictures that are black but for a square, the quarter with the square should have the most evidence."""
    network, pictures = spots()
    try:
        found = case.explainer(network.around(network.module.to(case.network.device)), pictures, 0)
    except SeewhyError as error:
        raise UnclearError(f"the method refuses the network that it is asked of: {error}") from error
    evidence = found.evidence()[:, 0]
    if not bool((evidence > 0).flatten(1).any(1).all()):
        raise UnclearError("the map has no evidence")
    quarters = F.adaptive_avg_pool2d(evidence[:, None], 2).flatten(1)
    shares = torch.stack([own[place] / own.max() for own, place in zip(quarters, (0, 1, 2), strict=True)])
    if bool((shares < 0.5).any()):
        raise BrokenError(
            f"picture {int(shares.argmin())} has its only object where the map has little evidence"
        )
    if bool((shares < 1).any()):
        raise UnclearError("the map has as much evidence where nothing is")


def _agnostic(case: Case) -> None:
    both = case.both
    equal = all(torch.equal(each[:, 0], each[:, 1]) for each in both.maps.values())
    said = [note for notes in both.notes for note in notes if note.startswith((CONCENTRATED, EVEN))]
    if equal and said:
        raise UnclearError(f"two classes have the same map, and the method says why: {said[0]}")
    if equal != case.explainer.class_agnostic and any(bool(each.any()) for each in both.maps.values()):
        raise BrokenError("two classes have " + ("the same map" if equal else "two maps"))


def _other_size(change: Callable[[Tensor], Tensor], may_refuse: bool) -> Callable[[Case], None]:
    def check(case: Case) -> None:
        images = mapped(case.images, change)
        try:
            with case.network.prepared(images) as arguments, torch.no_grad():
                arguments.call(case.network.module)
        except Exception as error:
            raise UnclearError("the network does not take such pictures") from error
        try:
            found = case.again(images)
        except SeewhyError as error:
            if len(str(error)) < 20 or "NaN" in str(error):
                raise BrokenError(f"refused without a reason: {error}") from error
            if may_refuse:
                return
            raise UnclearError(f"the method refuses such pictures: {error}") from error
        _grids(case, found, images)

    return check


def _not_a_number(case: Case) -> None:
    try:
        case.again(case.filled(float("nan")))
    except SeewhyError as error:
        if "NaN" not in str(error):
            raise BrokenError(f"the error does not say what is wrong: {error}") from error
    else:
        raise BrokenError("pictures of NaN were explained")


CHECKS = {
    "maps are float32, detached, on the network's device": _device_and_type,
    "maps, evidence and heatmaps have their shapes and ranges": _shape,
    "constant pictures give finite maps": _finite(0.5),
    "black pictures give finite maps": _finite(0.0),
    "pictures of NaN are refused": _not_a_number,
    "maps of pictures that are not square are not, either": _other_size(
        lambda each: each[..., : -(each.shape[-1] // 4)], may_refuse=False
    ),
    "tiny pictures give maps, or a refusal with a reason": _other_size(
        lambda each: each[..., :8, :8], may_refuse=True
    ),
    "the only object of a picture is where its evidence is": _pointing,
    "a dead layer gives a zero map and says so": _dead,
    "other weights give another map": _weights_matter,
    "two classes have two maps, or the method says that it ignores them": _agnostic,
}
