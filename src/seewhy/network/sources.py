"""Where networks come from: torchvision, timm, transformers, and Python modules of the user's own."""

from __future__ import annotations

import contextlib
import importlib
import inspect
import logging
import re
import sys
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from difflib import get_close_matches
from pathlib import Path
from types import ModuleType
from typing import Any, Literal

import torch
from torch import nn

from seewhy.errors import InputError, LoadError, MissingExtraError
from seewhy.network.checkpoint import read_weights, some
from seewhy.network.network import Head, Network
from seewhy.network.preprocess import Preprocess

_log = logging.getLogger(__name__)
_WITHOUT_DOWNLOAD = 'weights="random" builds it untrained, and weights=FILE takes a file that you have'
_schemas: list[torch.library.Library] = []


@dataclass(frozen=True)
class Request:
    """What a loader is asked for.

    Args:
        name: what stands behind the prefix; empty for a bare name.
        weights: the source's own, none, or none because a file's are loaded into the module afterwards.
        num_classes: the outputs to build, None for the source's own number; None for its own weights.
        offline: never touch a network.
    """

    name: str
    weights: Literal["pretrained", "random", "file"]
    num_classes: int | None
    offline: bool


@dataclass(frozen=True)
class Loaded:
    """What a loader gives: the module, and what the source knows about it."""

    module: nn.Module
    preprocess: Preprocess | None = None
    classes: Sequence[str] | None = None
    num_classes: int | None = None
    head: Head = "auto"
    notes: tuple[str, ...] = ()


Loader = Callable[[Request], Loaded | Network]


def import_torchvision() -> ModuleType:
    """torchvision, also where its compiled operators cannot be loaded (its wheel beside a CPU-only torch).

    There it refuses to import because two operators are not known. Declaring them is enough for its
    classifiers, its transforms and timm; its detectors then fail when they run.

    Raises:
        MissingExtraError: it is not installed.
    """
    try:
        return importlib.import_module("torchvision")
    except ModuleNotFoundError as error:
        if error.name != "torchvision":
            raise
        raise MissingExtraError("torchvision", "models") from error
    except RuntimeError as error:
        if "torchvision::" not in str(error):
            raise
        _log.warning(
            "torchvision's compiled operators cannot be loaded (%s); its detectors will not run", error
        )
    library = torch.library.Library("torchvision", "DEF")  # type: ignore[no-untyped-call]
    for name in ("nms", "qnms"):
        schema = f"{name}(Tensor dets, Tensor scores, float iou_threshold) -> Tensor"
        library.define(schema)  # type: ignore[no-untyped-call]
    _schemas.append(library)  # the declarations last as long as this object
    return importlib.import_module("torchvision")


def load_torchvision(request: Request) -> Loaded:
    """A torchvision network; NAME.WEIGHTS chooses among its trained weights."""
    import_torchvision()
    from torchvision import models

    name, _, tag = request.name.partition(".")
    if name not in models.list_models():
        raise _no_such("torchvision network", name, models.list_models())
    entries = models.get_model_weights(name)
    if tag and tag not in entries.__members__:
        raise _no_such(f"weights of torchvision:{name}", tag, entries.__members__)
    entry = entries[tag] if tag else entries.DEFAULT
    classes = entry.meta.get("categories")
    if request.weights == "pretrained":
        file = _torch_hub_file(entry.url, f"torchvision:{request.name}", request.offline)
        with _reading_safely(type(entry), file):
            module = models.get_model(name, weights=entry)
    else:
        takes = inspect.signature(models.get_model_builder(name)).parameters
        options: dict[str, Any] = {"weights_backbone": None} if "weights_backbone" in takes else {}
        if name in ("inception_v3", "googlenet"):
            options["init_weights"] = request.weights == "random"
        if request.num_classes is not None:
            options["num_classes"] = request.num_classes
        module = models.get_model(name, weights=None, **options)
    outputs = request.num_classes or (len(classes) if classes else None)
    preprocess: Preprocess | None = None
    notes: tuple[str, ...] = ()
    try:
        preprocess = Preprocess.from_torchvision(entry.transforms())
    except InputError as error:
        notes = (f"no preprocessing: {error}",)
    return Loaded(
        module, preprocess, classes if classes and len(classes) == outputs else None, outputs, notes=notes
    )


@contextlib.contextmanager
def _reading_safely(entries: Any, file: Path) -> Iterator[None]:
    """Let torchvision's builders, which know what each file needs, read it as tensors and nothing else."""
    entries.get_state_dict = lambda *args, **kwargs: read_weights(file)
    try:
        yield
    finally:
        del entries.get_state_dict


def _torch_hub_file(url: str, spec: str, offline: bool) -> Path:
    file = Path(torch.hub.get_dir()) / "checkpoints" / url.rsplit("/", 1)[-1]
    if file.is_file():
        return file
    if offline:
        raise LoadError(
            f"offline: the weights of {spec} are not on this machine ({file}); {_WITHOUT_DOWNLOAD}"
        )
    file.parent.mkdir(parents=True, exist_ok=True)
    stated = re.search(r"-([0-9a-f]{8,})\.", file.name)
    try:
        torch.hub.download_url_to_file(url, str(file), stated and stated[1], progress=sys.stderr.isatty())
    except Exception as error:
        raise _no_download(spec, error) from error
    return file


def load_timm(request: Request) -> Loaded:
    """A timm network; weights that are on this machine are read without asking any server."""
    timm = _import_timm()
    spec, remote = f"timm:{request.name}", ":" in request.name
    if remote and request.offline and not request.name.startswith("local-dir:"):
        raise LoadError(f"offline: {spec} reads its settings from the hub; `hf:` reads downloaded networks")
    options: dict[str, Any] = {"pretrained": request.weights == "pretrained"}
    if request.num_classes is not None:
        options["num_classes"] = request.num_classes
    if not remote:
        settings = _timm_settings(timm, request.name)
        if options["pretrained"] and not settings.has_weights:
            raise LoadError(f"timm has no trained weights for {request.name}; {_WITHOUT_DOWNLOAD}")
        if options["pretrained"] and (file := _timm_file(settings, spec, request.offline)):
            options["pretrained_cfg_overlay"] = {"state_dict": read_weights(file)}
    try:
        module = timm.create_model(request.name, **options)
    except Exception as error:
        if options["pretrained"] or remote:
            raise _no_download(spec, error) from error
        raise LoadError(f"timm cannot build {request.name}: {error}") from error
    module.pretrained_cfg.pop("state_dict", None)
    outputs = int(module.num_classes)
    classes = module.pretrained_cfg.get("label_names")
    if not classes and (subset := timm.data.infer_imagenet_subset(module)):
        classes = timm.data.ImageNetInfo(subset).label_descriptions()
    return Loaded(
        module,
        Preprocess.from_timm(timm.data.resolve_model_data_config(module)),
        list(classes) if classes and len(classes) == outputs else None,
        outputs or None,
    )


def _import_timm() -> Any:
    import_torchvision()
    try:
        timm = importlib.import_module("timm")
        importlib.import_module("timm.data")
        return timm
    except ModuleNotFoundError as error:
        if error.name != "timm":
            raise
        raise MissingExtraError("timm", "models") from error


def _timm_settings(timm: Any, name: str) -> Any:
    base = name.partition(".")[0]
    if not timm.is_model(base):
        raise _no_such("timm network", name, [*timm.list_models(), *timm.list_pretrained()])
    try:
        return timm.get_pretrained_cfg(name, allow_unregistered=False)
    except RuntimeError:
        raise _no_such(f"weights of timm:{base}", name, timm.list_pretrained(f"{base}.*")) from None


def _timm_file(settings: Any, spec: str, offline: bool) -> Path | None:
    """The file of a timm network's weights, None where timm has to fetch it."""
    if not settings.hf_hub_id:
        return _torch_hub_file(settings.url, spec, offline)
    wanted = (
        [settings.hf_hub_filename] if settings.hf_hub_filename else ["model.safetensors", "pytorch_model.bin"]
    )
    file = _cached(settings.hf_hub_id, wanted)
    if file is None and offline:
        raise LoadError(
            f"offline: {' or '.join(wanted)} of {settings.hf_hub_id}, the weights of {spec}, "
            f"is not on this machine; {_WITHOUT_DOWNLOAD}"
        )
    return file


def _cached(repository: str, names: Iterable[str]) -> Path | None:
    """The first of these files that huggingface_hub has on this machine."""
    from huggingface_hub import try_to_load_from_cache

    found = (try_to_load_from_cache(repository, name) for name in names)
    return next((Path(path) for path in found if isinstance(path, str)), None)


def load_hf(request: Request) -> Loaded:
    """A transformers image classifier, from the hub or from a folder that `save_pretrained` wrote."""
    with contextlib.suppress(MissingExtraError):
        import_torchvision()  # transformers imports it where it is installed
    try:
        from transformers import AutoConfig, AutoModelForImageClassification
    except ModuleNotFoundError as error:
        raise MissingExtraError("transformers", "hf") from error
    name, spec = request.name, f"hf:{request.name}"
    folder = Path(name).expanduser()
    if folder.exists() or name.startswith((".", "/", "~")):
        if not (folder / "config.json").is_file():
            raise LoadError(f"{spec}: no config.json in {folder}; give a folder that save_pretrained wrote")
        name = str(folder)
    elif request.offline:
        _check_hf_cache(name, request)
    where = {"local_files_only": request.offline, "trust_remote_code": False}
    absent: Iterable[str] = ()
    try:
        config = AutoConfig.from_pretrained(name, **where)
        if request.num_classes is not None and request.num_classes != config.num_labels:
            config.num_labels = request.num_classes
        if request.weights == "pretrained":
            module, report = AutoModelForImageClassification.from_pretrained(
                name, config=config, output_loading_info=True, **where
            )
            absent = sorted(report["missing_keys"])
        else:
            module = AutoModelForImageClassification.from_config(config, trust_remote_code=False)
    except Exception as error:
        raise _no_download(spec, error, request.offline) from error
    if absent:
        raise LoadError(
            f"{spec} holds no trained weights for {some(absent)}; it is not a classifier as it stands"
        )
    labels = [str(config.id2label[index]) for index in range(config.num_labels)]
    preprocess, notes = _hf_preprocess(name, where)
    return Loaded(
        module.float(),
        preprocess,
        None if labels[0] == "LABEL_0" else labels,
        config.num_labels,
        head="sigmoid" if config.problem_type == "multi_label_classification" else "auto",
        notes=notes,
    )


def _check_hf_cache(name: str, request: Request) -> None:
    """Say which file is missing, where transformers says that it could not connect."""
    if _cached(name, ["config.json"]) is None:
        raise LoadError(
            f"offline: config.json of {name} is not on this machine; load hf:{name} once without offline, "
            "or give a folder that save_pretrained wrote"
        )
    wanted = [
        f"{stem}{index}"
        for stem in ("model.safetensors", "pytorch_model.bin")
        for index in ("", ".index.json")
    ]
    if request.weights == "pretrained" and _cached(name, wanted) is None:
        raise LoadError(f"offline: {wanted[0]} of {name} is not on this machine; {_WITHOUT_DOWNLOAD}")


def _hf_preprocess(name: str, where: Mapping[str, Any]) -> tuple[Preprocess | None, tuple[str, ...]]:
    from transformers import AutoImageProcessor

    try:
        return Preprocess.from_huggingface(AutoImageProcessor.from_pretrained(name, **where).to_dict()), ()
    except (InputError, OSError, ValueError, ImportError) as error:
        return None, (f"no preprocessing: {error}",)


def load_python(request: Request) -> Loaded | Network:
    """What a factory in an importable module gives; classes= is passed on as `num_classes` if it takes it."""
    where, _, attribute = request.name.partition(":")
    spec = f"py:{request.name}"
    if not where or not attribute:
        raise LoadError(f"{spec} must name a module and a factory in it, as in py:my_models:build")
    if request.weights == "random":
        raise LoadError(
            f"{spec} decides about its weights itself; make the factory return an untrained network"
        )
    with _current_folder_importable():
        try:
            module = importlib.import_module(where)
        except ModuleNotFoundError as error:
            if error.name is None or not f"{where}.".startswith(f"{error.name}."):
                raise
            raise _no_such("module", where, [path.stem for path in Path.cwd().glob("*.py")]) from error
        if not hasattr(module, attribute):
            raise _no_such(
                f"factory in {where}", attribute, [n for n in vars(module) if not n.startswith("_")]
            )
        made = getattr(module, attribute)
        if not isinstance(made, nn.Module | Network):
            takes = inspect.signature(made).parameters if callable(made) else {}
            asked = request.num_classes is not None and "num_classes" in takes
            made = made(**({"num_classes": request.num_classes} if asked else {})) if callable(made) else made
    if isinstance(made, nn.Module):
        outputs = getattr(made, "num_classes", None)
        return Loaded(made, num_classes=outputs if isinstance(outputs, int) else None)
    if isinstance(made, Network):
        return made
    raise LoadError(f"{spec} gives a {type(made).__name__}; it must give an nn.Module or a seewhy.Network")


@contextlib.contextmanager
def _current_folder_importable() -> Iterator[None]:
    here = str(Path.cwd())
    sys.path.insert(0, here)
    try:
        yield
    finally:
        with contextlib.suppress(ValueError):
            sys.path.remove(here)


def _no_such(what: str, name: str, known: Iterable[str]) -> LoadError:
    known = sorted(set(known))
    close = get_close_matches(name, known, n=5, cutoff=0.5)
    hint = f"; did you mean {', '.join(close)}?" if close else f"; there are {some(known)}" if known else ""
    return LoadError(f"no {what} {name!r}{hint}")


def _no_download(spec: str, error: Exception, offline: bool = False) -> LoadError:
    first = str(error).strip().splitlines()[0] if str(error).strip() else type(error).__name__
    how = "is not complete on this machine (offline)" if offline else "could not be fetched or built"
    return LoadError(f"{spec} {how}: {first}; {_WITHOUT_DOWNLOAD}")
