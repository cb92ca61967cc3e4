"""Settings survive, costs are honest, errors say what is wrong."""

from __future__ import annotations

import json
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, get_args

import torch
from PIL import Image

from seewhy import registry
from seewhy.check.case import BrokenError, Case, UnclearError
from seewhy.errors import InputError, LayerError, TargetError
from seewhy.explainers.base import Workload
from seewhy.explainers.baseline import Baseline, Beginning
from seewhy.explanation import Cost, Explanation
from seewhy.network.inputs import is_picture
from seewhy.network.network import Network
from seewhy.network.preserve import replaced_forwards


def _round_trip(case: Case) -> None:
    kind = type(case.explainer)
    again = kind.model_validate_json(case.explainer.model_dump_json())
    if again != case.explainer or hash(again) != hash(case.explainer):
        raise BrokenError(f"{again!r} is not {case.explainer!r}")
    try:
        kind.model_validate({"no_such_setting": 1})
    except ValueError:
        return
    raise BrokenError("an unknown setting was accepted")


def _cost(case: Case) -> None:
    result = case.result
    with case.network.prepared(case.images) as arguments:
        sizes = tuple(tuple(arguments[key].shape[-2:]) for key in arguments.pictures)
    work = Workload(case.batch, result.scores.shape[1], sizes)
    declared = case.explainer.plan(work, case.network)
    if not result.cost.within(declared):
        raise BrokenError(f"counted {result.cost}, declared {declared}")
    if result.cost.setup:
        raise BrokenError(f"a second call spent {result.cost.setup} forwards on set-up")
    seen = 0

    def count(original: Any, *args: Any, **kwargs: Any) -> Any:
        nonlocal seen
        seen += next(len(value) for value in (*args, *kwargs.values()) if is_picture(value))
        return original(*args, **kwargs)

    with replaced_forwards({case.network.module: count}):
        cost: Cost = case.again().cost
    if seen > cost.forwards + cost.replays:
        raise BrokenError(f"{seen} pictures ran for {cost}")


def _named(case: Case) -> None:
    known = {entry.name for entry in registry.explainers()}
    if case.explainer.name in known:
        made = registry.explainer(case.explainer.name)
        if not issubclass(type(case.explainer), made):
            raise BrokenError(f"{case.explainer.name!r} is the name of {made.__name__}")
    for name, field in type(case.explainer).model_fields.items():
        if name != "name" and not field.description:
            raise BrokenError(f"the setting {name} has no description")


def _presets(case: Case) -> None:
    kind = type(case.explainer)
    if not kind.presets:
        raise UnclearError("the method has no presets")
    for preset, settings in kind.presets.items():
        made = kind.from_preset(preset)
        if any(getattr(made, key) != value for key, value in settings.items()):
            raise BrokenError(f"preset {preset!r} does not give its settings")
    try:
        kind.from_preset("no-such-preset")
    except InputError as error:
        if not all(preset in str(error) for preset in kind.presets):
            raise BrokenError(f"the error does not list the presets: {error}") from error
        return
    raise BrokenError("an unknown preset was accepted")


def _result_says_how(case: Case) -> None:
    result = case.result
    again = type(case.explainer).model_validate_json(json.dumps(dict(result.settings)))
    if again != case.explainer:
        raise BrokenError("the settings in the result make another method")
    if result.method != case.explainer.name or not result.reason or not result.digest:
        raise BrokenError("the result does not say by which method, where and why")


def _saved(case: Case) -> None:
    with TemporaryDirectory() as folder:
        again = Explanation.from_npz(case.result.to_npz(Path(folder) / "map.npz"))
    for site, values in case.result.maps.items():
        if not torch.equal(again.maps[site], values.cpu()):
            raise BrokenError("the map read back is another")
    if again.notes != case.result.notes or again.settings != json.loads(
        json.dumps(dict(case.result.settings))
    ):
        raise BrokenError("notes or settings read back are others")


def _unknown_layer(case: Case) -> None:
    if "layer" not in type(case.explainer).model_fields:
        raise UnclearError("the method reads no layer")
    try:
        case.again(layer="no_such_layer")
    except LayerError as error:
        if "no_such_layer" not in str(error):
            raise BrokenError(f"the error does not name what was asked for: {error}") from error
        return
    raise BrokenError("an unknown layer was accepted")


def _unknown_class(case: Case) -> None:
    if not case.result.predictions[0]:
        raise UnclearError("the network has no classes")
    try:
        case.explainer(case.network, case.images, 10**6)
    except TargetError as error:
        if str(10**6) not in str(error):
            raise BrokenError(f"the error does not name the class: {error}") from error
        return
    raise BrokenError("a class that does not exist was explained")


_BASELINES = (Baseline, get_args(Beginning)[0])  # without the validator, as fields have it


def _files(case: Case) -> None:
    kind = type(case.explainer)
    taking = [name for name, field in kind.model_fields.items() if field.annotation in _BASELINES]
    if not taking:
        raise UnclearError("no setting takes a picture from a file")
    network, (height, width) = case.network, case.result.size
    if network.preprocess is None:
        raise UnclearError("the network came without a preprocess, so that it reads no files")
    preprocess = network.preprocess.model_copy(update={"resize": (height, width), "crop": None})
    network = Network(network.module, preprocess=preprocess, head=network.head)
    for setting in taking:
        with TemporaryDirectory() as folder:
            path = Path(folder) / "grey.png"
            Image.new("RGB", (width, height), "grey").save(path)
            explainer = kind.model_validate({**case.explainer.model_dump(), setting: str(path)})
            found = explainer(network, case.images, case.target)
            if kind.model_validate_json(json.dumps(dict(found.settings))) != explainer:
                raise BrokenError(f"the result does not say which file was the {setting}")
            path.write_bytes(b"something else")
            try:
                explainer(network, case.images, case.target)
            except InputError as error:
                if path.name not in str(error):
                    raise BrokenError(f"the error does not name the file: {error}") from error
            else:
                raise BrokenError(f"a file that has changed was used as the {setting}")


CHECKS = {
    "settings survive a round trip": _round_trip,
    "every setting is described, and the name is the method's own": _named,
    "a file in a setting is known by what it holds": _files,
    "presets give their settings, and unknown ones an error": _presets,
    "the result says how to repeat it": _result_says_how,
    "a saved result is read back whole": _saved,
    "the counted cost is within the declared cost": _cost,
    "an unknown layer is an error that names it": _unknown_layer,
    "an unknown class is an error that names it": _unknown_class,
}
