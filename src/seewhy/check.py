"""The contract that every method passes, built in or brought by others, checked by name."""

from __future__ import annotations

import copy
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any, Literal

import torch
from torch import Tensor, nn
from torch.utils._pytree import tree_leaves

from seewhy.errors import NotApplicableError
from seewhy.explainers.activation import UNSTABLE
from seewhy.explainers.base import Explainer
from seewhy.explanation import Cost, Explanation
from seewhy.leftovers import changed, disturbed, snapshot
from seewhy.network.inputs import is_picture
from seewhy.network.network import Network
from seewhy.network.preserve import replaced_forwards
from seewhy.targets import TargetLike, Top, as_target
from seewhy.toys import blobs, toy_networks

Status = Literal["passed", "failed", "inconclusive"]

# Relative to the largest value of a map: what another batch size may change in float32.
TOLERANCE = 1e-5


@dataclass(frozen=True)
class Check:
    """One promise and whether it was kept.

    Attributes:
        name: the promise.
        network: on which network.
        status: `inconclusive` where the network or the method leaves nothing to check.
        detail: what was seen.
    """

    name: str
    network: str
    status: Status
    detail: str = ""

    def __str__(self) -> str:
        return f"{self.status:12} {self.network}: {self.name}" + (f" ({self.detail})" if self.detail else "")


@dataclass(frozen=True)
class Contract:
    """The outcome of `check_explainer`.

    Attributes:
        checks: all of them, in order.
    """

    checks: tuple[Check, ...]

    @property
    def failed(self) -> tuple[Check, ...]:
        """The promises that were broken."""
        return tuple(check for check in self.checks if check.status == "failed")

    @property
    def passed(self) -> bool:
        """Whether none failed and at least one passed."""
        return not self.failed and any(check.status == "passed" for check in self.checks)

    def __str__(self) -> str:
        counts = [
            f"{sum(c.status == s for c in self.checks)} {s}" for s in ("passed", "failed", "inconclusive")
        ]
        return "\n".join([*(str(check) for check in self.checks), ", ".join(counts)])


class _BrokenError(Exception):
    """A promise was not kept."""


class _UnclearError(Exception):
    """Nothing could be said."""


def check_explainer(
    explainer: Explainer,
    network: Network | nn.Module | None = None,
    images: Any = None,
    target: TargetLike = None,
) -> Contract:
    """Check what every method promises: nothing left behind, a batch equals its pictures, honest cost …

    Args:
        explainer: the method, with its settings.
        network: on which network; three small ones by default.
        images: at least three pictures for it (B, C, H, W), or several inputs; noise by default.
        target: what is explained; the predicted class by default.

    Returns:
        The checks by name, each passed, failed or inconclusive. `print` shows a table.

    Example:
        >>> from seewhy import GradCAM
        >>> check_explainer(GradCAM()).passed
        True
    """
    if network is None:
        return Contract(
            tuple(
                check
                for name, module in toy_networks().items()
                for check in check_explainer(
                    explainer, Network(module, name=name), blobs(4, 3, 24, 24), target
                ).checks
            )
        )
    network = Network.of(network)
    if images is None:
        images = blobs(3, *network.example_input().shape[1:])
    case = _Case(explainer, network, images, target)
    try:
        case.result  # noqa: B018 - computed here so that a refusal is told from a broken promise
    except NotApplicableError as error:
        return Contract((Check("the method applies", network.name, "inconclusive", str(error)),))
    return Contract(tuple(_checked(name, check, case) for name, check in _CHECKS.items()))


@dataclass
class _Case:
    """A method on a network, and its explanation, computed once."""

    explainer: Explainer
    network: Network
    images: Any
    target: TargetLike

    @cached_property
    def result(self) -> Explanation:
        # The first call of a network surveys it; what is counted is the second.
        self.explainer(self.network, self.images, self.target)
        return self.explainer(self.network, self.images, self.target)

    @cached_property
    def batch(self) -> int:
        return len(self.result)

    def of(self, rows: Sequence[int], **options: Any) -> Explanation:
        """The explanation of some of the pictures."""
        images = _picked(self.images, list(rows), self.batch)
        target = as_target(self.target).pick(list(rows), self.batch)
        return self.explainer(self.network, images, target, **options)

    def on(self, module: nn.Module) -> Explanation:
        """The same pictures explained on other weights, at the same layers."""
        layers = tuple(dict.fromkeys(site.layer for site in self.result.maps))
        named = "layer" in type(self.explainer).model_fields
        explainer = self.explainer.model_copy(update={"layer": layers}) if named else self.explainer
        return explainer(Network(module, head=self.network.head), self.images, self.target)

    def filled(self, value: float) -> Any:
        """The same inputs with constant pictures."""
        return _mapped(self.images, lambda each: torch.full_like(each, value))


def _checked(name: str, check: Callable[[_Case], None], case: _Case) -> Check:
    try:
        check(case)
    except _BrokenError as error:
        return Check(name, case.network.name, "failed", str(error))
    except _UnclearError as error:
        return Check(name, case.network.name, "inconclusive", str(error))
    except Exception as error:
        return Check(name, case.network.name, "failed", f"{type(error).__name__}: {error}")
    return Check(name, case.network.name, "passed")


def _batch_equals_pictures(case: _Case) -> None:
    for row in range(case.batch):
        _same(case.of([row]), case.result.select([row]), f"picture {row}")


def _order(case: _Case) -> None:
    backwards = list(range(case.batch))[::-1]
    _same(case.of(backwards), case.result.select(backwards), "reversed")


def _chunks(case: _Case) -> None:
    for chunk in (1, 2):
        _same(case.of(range(case.batch), chunk=chunk), case.result, f"chunk={chunk}")


def _repeatable(case: _Case) -> None:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(11)  # another random state than before: results must not depend on it
        again = case.of(range(case.batch))
    for site, values in case.result.maps.items():
        if not torch.equal(values, again.maps[site]):
            raise _BrokenError(f"the second call differs by {(values - again.maps[site]).abs().max():.2g}")


def _several_targets(case: _Case) -> None:
    if not case.result.predictions[0] or len(case.result.predictions[0]) < 2 or case.target is not None:
        raise _UnclearError("the network has no classes to choose from")
    both = case.explainer(case.network, case.images, Top(2))
    for place in range(2):
        labels = [row[place].index for row in case.result.predictions]
        one = case.explainer(case.network, case.images, labels)
        for site, values in one.maps.items():
            _close(both.maps[site][:, place], values[:, 0], f"target {place}")


def _leaves(what: str) -> Callable[[_Case], None]:
    def check(case: _Case) -> None:
        with disturbed(case.network.module):
            before = snapshot(case.network.module)
            case.explainer(case.network, case.images, case.target)
            _unchanged(before, snapshot(case.network.module), what)

    return check


def _put_back_after_error(case: _Case) -> None:
    module = case.network.module
    names = [layer.name for layer in case.network.layers(case.images)]
    modules = dict(module.named_modules())
    leaves = [name for name in names if name in modules and not list(modules[name].children())]
    if not leaves:
        raise _UnclearError("no module to fail in")

    def fail(original: Any, *args: Any, **kwargs: Any) -> Any:
        raise RuntimeError("the network fails half-way")

    with disturbed(module):
        before = snapshot(module)
        with replaced_forwards({modules[leaves[len(leaves) // 2]]: fail}):
            try:
                case.explainer(case.network, case.images, case.target)
            except RuntimeError:
                pass
            else:
                raise _BrokenError("the network's own error did not come through")
        _unchanged(before, snapshot(module), *before)


def _device_and_type(case: _Case) -> None:
    for values in case.result.maps.values():
        if values.dtype != torch.float32 or values.device != case.network.device:
            raise _BrokenError(f"{values.dtype} on {values.device}")
        if values.requires_grad or values.is_inference():
            raise _BrokenError("the values are still tied to a graph or to inference mode")


def _finite(value: float) -> Callable[[_Case], None]:
    def check(case: _Case) -> None:
        found = case.explainer(case.network, case.filled(value), case.target)
        for values in found.maps.values():
            if not torch.isfinite(values).all():
                raise _BrokenError("the map holds NaN or infinity")

    return check


def _dead(case: _Case) -> None:
    module = copy.deepcopy(case.network.module)
    with torch.no_grad():
        for parameter in module.parameters():
            parameter.zero_()
    found = case.on(module)
    for site, values in found.maps.items():
        if not torch.isfinite(values).all():
            raise _BrokenError("the map holds NaN or infinity")
        if values.any() and _activations(module, case, site.layer).any():
            raise _UnclearError("without weights this network's activations are not zero")
        if values.any():
            raise _BrokenError("the map is not zero")
    if not all(found.notes):
        raise _BrokenError("nothing in the notes says so")


def _activations(module: nn.Module, case: _Case, layer: str) -> Tensor:
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


def _round_trip(case: _Case) -> None:
    kind = type(case.explainer)
    again = kind.model_validate_json(case.explainer.model_dump_json())
    if again != case.explainer or hash(again) != hash(case.explainer):
        raise _BrokenError(f"{again!r} is not {case.explainer!r}")
    try:
        kind.model_validate({"no_such_setting": 1})
    except ValueError:
        return
    raise _BrokenError("an unknown setting was accepted")


def _cost(case: _Case) -> None:
    result = case.result
    declared = case.explainer.plan(case.batch, result.scores.shape[1], case.network)
    if not result.cost.within(declared):
        raise _BrokenError(f"counted {result.cost}, declared {declared}")
    if result.cost.setup:
        raise _BrokenError(f"a second call spent {result.cost.setup} forwards on set-up")
    seen = 0

    def count(original: Any, *args: Any, **kwargs: Any) -> Any:
        nonlocal seen
        seen += next(len(value) for value in (*args, *kwargs.values()) if is_picture(value))
        return original(*args, **kwargs)

    with replaced_forwards({case.network.module: count}):
        cost: Cost = case.explainer(case.network, case.images, case.target).cost
    if seen > cost.forwards + cost.replays:
        raise _BrokenError(f"{seen} pictures ran for {cost}")


def _weights_matter(case: _Case) -> None:
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
        raise _UnclearError("the maps are constant")
    raise _BrokenError("the maps of a network with random weights are the same")


_CHECKS: dict[str, Callable[[_Case], None]] = {
    "a batch gives what its pictures give": _batch_equals_pictures,
    "the order of the pictures changes nothing": _order,
    "the chunk size changes nothing": _chunks,
    "the same call gives the same map": _repeatable,
    "several targets give what single ones give": _several_targets,
    "parameters and buffers are as they were": _leaves("state"),
    "gradients and their flags are as they were": _leaves("gradients"),
    "training modes are as they were": _leaves("modes"),
    "hooks and attributes are as they were": _leaves("attributes"),
    "memory layouts are as they were": _leaves("strides"),
    "random states are as they were": _leaves("random states"),
    "everything is put back when the network raises": _put_back_after_error,
    "maps are float32, detached, on the network's device": _device_and_type,
    "constant pictures give finite maps": _finite(0.5),
    "black pictures give finite maps": _finite(0.0),
    "a dead layer gives a zero map and says so": _dead,
    "settings survive a round trip": _round_trip,
    "the counted cost is within the declared cost": _cost,
    "other weights give another map": _weights_matter,
}


def _unchanged(before: dict[str, Any], after: dict[str, Any], *what: str) -> None:
    broken = set(changed(before, after)) & {*what, "modes of torch"}
    if broken:
        raise _BrokenError(f"changed: {', '.join(sorted(broken))}")


def _same(one: Explanation, other: Explanation, what: str) -> None:
    try:
        for site, values in one.maps.items():
            _close(values, other.maps[site], what)
    except _BrokenError as error:
        unstable = [note for notes in other.notes for note in notes if note.startswith(UNSTABLE)]
        if unstable:
            raise _UnclearError(f"{error}, but the method says so itself: {unstable[0]}") from error
        raise


def _close(one: Tensor, other: Tensor, what: str) -> None:
    difference = float((one - other).abs().max())
    bound = TOLERANCE * max(float(other.abs().max()), 1e-30)
    if difference > bound:
        raise _BrokenError(
            f"{what}: differs by {difference:.2g}, {difference / bound * TOLERANCE:.1g} of the largest"
        )


def _picked(images: Any, rows: list[int], batch: int) -> Any:
    return _mapped(images, lambda each: each[rows] if len(each) == batch else each, pictures_only=False)


def _mapped(images: Any, change: Callable[[Tensor], Tensor], pictures_only: bool = True) -> Any:
    """Change the tensors of a call; only pictures, or whatever has a batch."""

    def each(value: Any) -> Any:
        if isinstance(value, Tensor) and value.ndim > 0 and (value.ndim == 4 or not pictures_only):
            return change(value)
        return value

    if hasattr(images, "pixels"):
        return each(images.pixels)
    if isinstance(images, dict):
        return {name: each(value) for name, value in images.items()}
    return tuple(each(value) for value in images) if isinstance(images, tuple | list) else each(images)
