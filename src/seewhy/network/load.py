"""Networks by name: "timm:…", "torchvision:…", "hf:…", "py:…", "file:…", and whatever others register."""

from __future__ import annotations

import difflib
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Literal

from seewhy import registry
from seewhy.errors import LoadError
from seewhy.network.checkpoint import (
    class_names,
    load_weights,
    read_card,
    read_classes,
    read_weights,
)
from seewhy.network.network import Network
from seewhy.network.preprocess import Preprocess
from seewhy.network.sources import (
    Loaded,
    Loader,
    Request,
    import_torchvision,
    load_hf,
    load_python,
    load_timm,
    load_torchvision,
)

__all__ = ["Loaded", "Loader", "Request", "import_torchvision", "load", "register_loader"]


def _bundled(path: str) -> Loader:
    """A loader of a floor above this one, imported when it is asked for."""

    def load(request: Request) -> Loaded | Network:
        loader: Loader = registry.imported(path)
        return loader(request)

    return load


_SOURCES: dict[str, Loader] = {
    "torchvision": load_torchvision,
    "timm": load_timm,
    "hf": load_hf,
    "py": load_python,
}
_LOADERS = _SOURCES | {name: _bundled(path) for name, path in registry.LOADERS.items()}


def register_loader(prefix: str, function: Loader) -> None:
    """Let `load("prefix:name")`, or `load("prefix")`, call a function.

    Raises:
        LoadError: the prefix holds a colon, or is taken.
    """
    if ":" in prefix or prefix in _LOADERS:
        raise LoadError(f"cannot register a loader as {prefix!r}: it holds a colon or is taken")
    _LOADERS[prefix] = function


def load(
    spec: str,
    *,
    weights: str | Path | None = None,
    classes: Sequence[str] | str | Path | None = None,
    preprocess: Preprocess | Mapping[str, Any] | str | Path | None = None,
    offline: bool = False,
) -> Network:
    """A network in eval mode, with its preprocessing and the names of its classes.

    Args:
        spec: "timm:NAME", "torchvision:NAME" or "torchvision:NAME.WEIGHTS", "hf:ORG/REPO" or "hf:FOLDER",
            "py:MODULE:FACTORY" (the current folder is searched too), "file:NET.safetensors" (its card, the
            JSON file of the same stem, names the architecture by one of the others), the bundled "demo",
            "demo-shortcut", "demo-retriever", "demo-clip-retriever" and "demo-houses", or a registered name.
        weights: None for the source's own, "random", or a file (.safetensors, or tensors in .pth, .pt, .bin).
            A card of the same stem gives the number of classes and the preprocessing.
        classes: the names, or a file of them (.txt, .json, .csv).
        preprocess: settings, or a mapping or JSON file of them; wins over the card's and the source's.
        offline: use what is on this machine only, never a network.

    Raises:
        LoadError: nothing of that name, no download, a pickle, wrong keys in a file, counts that differ.
        InputError: preprocess settings that are not understood.
        MissingExtraError: the source's package is not installed.

    Example:
        >>> network = load("torchvision:mobilenet_v2", weights="mobilenet.safetensors", offline=True)
    """
    source, file = spec, None if weights is None or weights == "random" else Path(weights).expanduser()
    card: Mapping[str, Any] = {}
    if spec.startswith("file:"):
        if file is not None:
            raise LoadError(f"{spec} has weights of its own; weights={str(weights)!r} would replace them")
        own = Path(spec.removeprefix("file:")).expanduser()
        source, card = _architecture(own)
        file = own if weights is None else None
    elif file is not None:
        card = read_card(file)
    names = None if classes is None else read_classes(classes)
    if names is None and "classes" in card:
        names = class_names(card["classes"], "the card's classes")
    num_classes = _agreed(names, card)
    state = None if file is None else read_weights(file)
    kind: Literal["pretrained", "random", "file"] = (
        "file" if file is not None else "pretrained" if weights is None else "random"
    )

    prefix, _, name = source.partition(":")
    if prefix not in _LOADERS:
        raise _unknown_source(source)
    request = Request(name, kind, None if kind == "pretrained" else num_classes, offline)
    loaded = _as_loaded(_LOADERS[prefix](request))
    outputs = loaded.num_classes
    if num_classes is not None and outputs is not None and num_classes != outputs:
        raise LoadError(
            f"{spec} has {outputs} outputs, not the {num_classes} that classes or the card name; "
            'with weights="random" or weights=FILE the head is built for them'
        )
    if state is not None and file is not None:
        load_weights(loaded.module, state, file.name)
    if preprocess is not None:
        settings: Preprocess | None = Preprocess.of(preprocess)
    elif "input_size" in card:
        settings = Preprocess.from_card(card)
    else:
        settings = loaded.preprocess
    notes = list(loaded.notes)
    if kind != "pretrained":
        notes.append("untrained weights" if file is None else f"weights from {file.name}")
    return Network(
        loaded.module.eval(),
        preprocess=settings,
        classes=loaded.classes if names is None else names,
        name=spec,
        head=loaded.head,
        notes=notes,
    )


def _agreed(names: Sequence[str] | None, card: Mapping[str, Any]) -> int | None:
    said = card.get("num_classes")
    if names is not None and said is not None and len(names) != said:
        raise LoadError(f"classes holds {len(names)} names, but the card says num_classes {said}")
    return said if names is None else len(names)


def _architecture(file: Path) -> tuple[str, Mapping[str, Any]]:
    """The spec that a file's card names, and the card."""
    if not file.is_file():
        raise LoadError(f"no file {str(file)!r}")
    card = read_card(file)
    named = str(card.get("architecture", ""))
    if named.partition(":")[0] in _LOADERS and not named.startswith("file:"):
        return named, card
    says = f"says architecture {named!r}" if named else "names no architecture" if card else "is missing"
    raise LoadError(
        f"file:{file.name} needs its card {file.with_suffix('.json').name} to name an architecture that can "
        f'be built, such as "torchvision:mobilenet_v2" or "py:my_models:net"; the card {says}. '
        f"Or give the architecture here: load('py:my_models:net', weights={str(file)!r})"
    )


def _as_loaded(given: Loaded | Network) -> Loaded:
    if isinstance(given, Loaded):
        return given
    return Loaded(
        module=given.module,
        preprocess=given.preprocess,
        classes=given.classes,
        num_classes=None if given.classes is None else len(given.classes),
        head=given.head,
        notes=given.notes,
    )


def _unknown_source(spec: str) -> LoadError:
    ways = "timm:NAME, torchvision:NAME, hf:ORG/REPO, py:MODULE:FACTORY, file:NET.safetensors"
    others = "".join(f", {name}" for name in sorted(set(_LOADERS) - set(_SOURCES)))
    prefix, colon, _ = spec.partition(":")
    close = difflib.get_close_matches(prefix, [*_LOADERS, "file"], n=1)
    if not close and not colon:
        close = [f"file:{spec}"] if Path(spec).is_file() else [f"timm:{spec}", f"torchvision:{spec}"]
    hint = f"did you mean {' or '.join(close)}? " if close else ""
    return LoadError(f"{spec!r} names no source; {hint}A network is given as {ways}{others}")
