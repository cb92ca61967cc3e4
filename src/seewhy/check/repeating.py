"""The same question gives the same map: alone, in a batch, in any order, chunk, mode, format and layout."""

from __future__ import annotations

import copy
from dataclasses import replace

import torch

from seewhy.check.case import BrokenError, Case, UnclearError, admission, mapped
from seewhy.errors import NotApplicableError
from seewhy.evaluation.similarity import spearman
from seewhy.explainers.base import explain_all
from seewhy.explainers.grad_cam import GradCAM
from seewhy.explainers.hires_cam import HiResCAM
from seewhy.explanation import Explanation

_AGREES = 0.99
_HARDLY = 1e-4  # of the largest value


def _batch_equals_pictures(case: Case) -> None:
    for row in range(case.batch):
        case.same(case.of([row]), case.result.select([row]), f"picture {row}")


def _order(case: Case) -> None:
    backwards = list(range(case.batch))[::-1]
    case.same(case.of(backwards), case.result.select(backwards), "reversed")


def _chunks(case: Case) -> None:
    for chunk in (1, 2):
        case.same(case.of(range(case.batch), chunk=chunk), case.result, f"chunk={chunk}")


def _repeatable(case: Case) -> None:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(11)  # another random state than before: results must not depend on it
        again = case.of(range(case.batch))
    for site, values in case.result.maps.items():
        if not torch.equal(values, again.maps[site]):
            raise BrokenError(f"the second call differs by {(values - again.maps[site]).abs().max():.2g}")


def _several_targets(case: Case) -> None:
    both = case.both
    for place in range(2):
        labels = [row[place].index for row in case.result.predictions]
        one = case.explainer(case.network, case.images, labels)
        alone = {site: values[:, place : place + 1] for site, values in both.maps.items()}
        case.same(replace(one, maps=alone, notes=both.notes), one, f"target {place}")


def _duplicates(case: Case) -> None:
    found = case.of([0, 1, 0])
    case.same(found.select([2]), found.select([0]), "the same picture twice")


def _without_gradients(case: Case) -> None:
    with torch.no_grad():
        case.same(case.again(), case.result, "inside torch.no_grad")
    with torch.inference_mode():
        found = case.again()
    case.same(found, case.result, "inside torch.inference_mode")


def _channels_last(case: Case) -> None:
    # Not to the last digit: other kernels round otherwise, and a gradient jumps where a ReLU or a pooling flips.
    found = case.again(mapped(case.images, lambda each: each.contiguous(memory_format=torch.channels_last)))
    _agree(found, case.result, "of channels-last pictures")


def _views(case: Case) -> None:
    """Pictures that are every second row of a larger tensor."""
    strided = mapped(case.images, lambda each: torch.stack([each, each], 1).flatten(0, 1)[::2])
    case.same(case.again(strided), case.result, "pictures that are not contiguous")


def _double(case: Case) -> None:
    module = copy.deepcopy(case.network.module).double()
    _agree(case.on(module), case.result, "in float64")


def _bfloat16(case: Case) -> None:
    if "precision" not in type(case.explainer).model_fields:
        raise UnclearError("the method has no setting for it")
    found = case.again(precision="bfloat16")
    correlation = _least_correlation(found, case.result)
    if correlation < _AGREES:
        # On small random networks rounding may turn a map round; docs/precision.md measures trained ones.
        raise UnclearError(f"on this network the maps correlate by {correlation:.3f}")


def _seed(case: Case) -> None:
    if not case.explainer.randomized:
        raise UnclearError("nothing about the method is random")
    found, repeated = case.again(seed=12_345), case.again(seed=12_345)
    for site, values in found.maps.items():
        if not torch.equal(values, repeated.maps[site]):
            raise BrokenError("one seed gives two maps")
    if not any(values.any() for values in found.maps.values()):
        raise UnclearError("the map is zero")
    if all(torch.equal(values, case.result.maps[site]) for site, values in found.maps.items()):
        raise BrokenError("another seed gives the same map")


def _repeated_layers(case: Case) -> None:
    field = type(case.explainer).model_fields.get("layer")
    if field is None or "tuple" not in str(field.annotation):
        raise UnclearError("the method takes one layer or none")
    places = [
        layer.name for layer in case.network.layers(case.images, case.target) if layer.layout is not None
    ]
    chosen = next(iter(case.result.maps)).layer
    others = [name for name in places if name and name != chosen and "[" not in name]
    if not others:
        raise UnclearError("the network has one layer with feature maps")
    pair = (others[len(others) // 2], chosen)
    try:
        both = case.again(layer=pair)
    except NotApplicableError as error:
        raise UnclearError(str(error)) from error
    for name in pair:
        one = case.again(layer=name)
        for site, values in one.maps.items():
            case.close(both.maps[site], values, f"{name} beside another layer")


def _shared(case: Case) -> None:
    """Asked for together with another method."""
    other = GradCAM() if case.explainer.name != "grad-cam" else HiResCAM()
    found = explain_all(case.network, case.images, [other, case.explainer], case.target)
    case.same(list(found.values())[1], case.result, f"together with {other.name}")


def _agree(found: Explanation, expected: Explanation, what: str) -> None:
    """Raise where the map of a picture and a target is another; how far off is a matter of rank correlation."""
    unclear = ""
    for row, notes in enumerate(expected.notes):
        correlation = _least_correlation(found.select([row]), expected.select([row]))
        if correlation < _AGREES:
            said = f"the map {what} correlates by {correlation:.3f}"
            if not (admitted := admission(notes)):
                raise BrokenError(f"{said} only")
            unclear = f"{said}, but the method says so itself: {admitted}"
    if unclear:
        raise UnclearError(unclear)


def _least_correlation(found: Explanation, expected: Explanation) -> float:
    """The lowest rank correlation of two maps; 1 where they hardly differ, whose zeros rounding ranks at random."""
    least = 1.0
    for site, values in found.maps.items():
        one, other = values.flatten(2).double(), expected.maps[site].flatten(2).double()
        same = (one - other).abs().amax(-1) <= _HARDLY * other.abs().amax(-1)
        correlation = spearman(one, other).nan_to_num(0.0)
        least = min(least, float(torch.where(same, 1.0, correlation).min()))
    return least


CHECKS = {
    "a batch gives what its pictures give": _batch_equals_pictures,
    "the order of the pictures changes nothing": _order,
    "the chunk size changes nothing": _chunks,
    "the same call gives the same map": _repeatable,
    "the same picture twice gets the same map": _duplicates,
    "a seed fixes what is random": _seed,
    "several targets give what single ones give": _several_targets,
    "several layers give what single ones give": _repeated_layers,
    "methods asked for together give what each gives": _shared,
    "it works where gradients are switched off": _without_gradients,
    "channels-last pictures change nothing": _channels_last,
    "strided pictures change nothing": _views,
    "a float64 network gives the same map": _double,
    "bfloat16 gives the same map": _bfloat16,
}
