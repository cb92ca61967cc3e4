"""The files that come with a network: weights, the card beside them, and the names of the classes."""

from __future__ import annotations

import csv
import json
import pickle
import re
import warnings
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from seewhy.errors import LoadError

_TENSOR_SUFFIXES = (".safetensors", ".pth", ".pt", ".bin")
_NESTS = ("state_dict", "model_state_dict", "model")
_WRAPPERS = ("module.", "_orig_mod.")  # of parallel and of compiled modules
_SAVE = "save `model.state_dict()`"
# torchvision's training heads: part of some files and not of others, and never run in eval mode.
_OPTIONAL_KEYS = re.compile(r"(.*\.)?num_batches_tracked|(AuxLogits|aux1|aux2|aux_classifier)\..*")


def read_weights(file: Path) -> dict[str, Tensor]:
    """The tensors of a weights file by name, on the CPU, without running any code of the file's.

    A checkpoint's tensors are found under state_dict, model_state_dict or model.

    Raises:
        LoadError: no such file, another suffix, broken, a pickle of more than tensors, or no tensors in it.
    """
    if not file.is_file():
        raise LoadError(
            f'no weights file {str(file)!r}; weights is a file, "random", or None for the source\'s own'
        )
    if file.suffix not in _TENSOR_SUFFIXES:
        raise LoadError(f"weights are read from {', '.join(_TENSOR_SUFFIXES)}, not {file.name!r}")
    try:
        if file.suffix == ".safetensors":
            from safetensors.torch import load_file

            found: Any = load_file(file)
        else:
            with warnings.catch_warnings():  # about old ways of pickling, which are refused or read
                warnings.simplefilter("ignore")
                found = torch.load(file, map_location="cpu", weights_only=True)
    except pickle.UnpicklingError as error:
        needs = re.search(r"GLOBAL (\S+)", str(error))
        raise LoadError(
            f"{file.name} is a pickle that needs {needs[1] if needs else 'more than tensors'}: loading it "
            "could run any code, so it is refused. Where it was made, save the tensors alone: "
            "`safetensors.torch.save_file(model.state_dict(), 'net.safetensors')` or "
            "`torch.save(model.state_dict(), 'net.pth')`"
        ) from error
    except Exception as error:  # what a reader of a broken archive raises is anybody's guess
        raise LoadError(f"{file.name} is not a weights file that can be read: {error}") from error
    while isinstance(found, Mapping) and (nest := next((key for key in _NESTS if _nested(found, key)), None)):
        found = found[nest]
    if not isinstance(found, Mapping):
        raise LoadError(f"{file.name} holds a {type(found).__name__}, not tensors by name; {_SAVE}")
    if not found or not all(isinstance(k, str) and isinstance(v, Tensor) for k, v in found.items()):
        raise LoadError(f"{file.name} holds {some(map(str, found))}, not only tensors by name; {_SAVE}")
    return dict(found)


def load_weights(module: nn.Module, state: Mapping[str, Tensor], name: str) -> None:
    """Put tensors into a module, in the module's own precision, less the prefixes module. and _orig_mod.

    Raises:
        LoadError: lists the keys that are missing, unexpected, or of another shape.
    """
    own = module.state_dict()
    while not own.keys() & state.keys() and (prefix := _wrapper(state)):
        state = {key.removeprefix(prefix): value for key, value in state.items()}
    problems = {
        "missing": [key for key in own if key not in state and not _OPTIONAL_KEYS.fullmatch(key)],
        "unexpected": [key for key in state if key not in own and not _OPTIONAL_KEYS.fullmatch(key)],
        "of another shape": [
            f"{key} {tuple(state[key].shape)} for {tuple(own[key].shape)}"
            for key in own
            if key in state and state[key].shape != own[key].shape
        ],
    }
    said = [f"{len(keys)} {kind}: {some(keys)}" for kind, keys in problems.items() if keys]
    if said:
        raise LoadError(
            f"{name} does not fit {type(module).__name__}: {'; '.join(said)}. "
            "If only the last layer differs, say its classes by classes= or by num_classes in the card"
        )
    module.load_state_dict(state, strict=False)


def read_classes(source: Sequence[str] | str | Path) -> tuple[str, ...]:
    """The names of the classes in order of their index.

    Args:
        source: the names, or a file: .txt (one per line), .json (a list, {index: name} or {name: index}; a
            name may be a [wnid, name] pair), .csv (names, or rows with an index, the name being the last of
            the other columns).

    Raises:
        LoadError: the file cannot be read, or its indices leave gaps.
    """
    if not isinstance(source, str | Path):
        return tuple(source)
    path = Path(source).expanduser()
    readers: dict[str, Callable[[str], Any]] = {
        ".txt": lambda text: text.rstrip().splitlines(),
        ".json": json.loads,
        ".csv": _csv_names,
    }
    if path.suffix.lower() not in readers:
        raise LoadError(f"class names are read from {', '.join(readers)}, not {path.name!r}")
    try:
        found = readers[path.suffix.lower()](path.read_text(encoding="utf-8-sig"))
    except (OSError, ValueError, IndexError) as error:
        raise LoadError(f"the class names in {str(source)!r} cannot be read: {error}") from error
    return class_names(found, path.name)


def _csv_names(text: str) -> list[str] | dict[Any, Any]:
    rows = [row for row in csv.reader(text.splitlines()) if row]
    header = ("class", "classes", "name", "names", "label", "labels")
    if len(rows[0]) == 1:
        return [row[0] for row in rows[rows[0][0].strip().lower() in header :]]
    width = len(rows[0])
    if any(len(row) != width for row in rows):  # the commas are between synonyms
        return [",".join(row) for row in rows]
    numbered = [i for i in range(width) if all(row[i].strip().isdecimal() for row in rows[1:])]
    titled = any(cell.strip().lower() in header for cell in rows[0])
    headed = titled or bool(len(rows) > 1 and numbered and not rows[0][numbered[0]].strip().isdecimal())
    body = rows[headed:]
    if not numbered or len(rows) == 1:
        return [row[-1] for row in body]
    column = numbered[0]
    return {row[column]: [cell for i, cell in enumerate(row) if i != column][-1] for row in body}


def class_names(found: Any, where: str) -> tuple[str, ...]:
    """Names from a list, {index: name} or {name: index}, each name a string or a [wnid, name] pair.

    Raises:
        LoadError: it is none of these, indices leave gaps, or a name is empty.
    """
    if isinstance(found, Mapping):
        if all(isinstance(value, int) for value in found.values()):
            found = {value: key for key, value in found.items()}
        by_index = {int(key): value for key, value in found.items() if str(key).strip().isdigit()}
        if sorted(by_index) != list(range(len(found))):
            raise LoadError(f"{where}: the indices must be 0 to {len(found) - 1}, each once")
        found = [by_index[index] for index in range(len(found))]
    if not isinstance(found, list | tuple) or not found:
        raise LoadError(f"{where} must hold a list of names, or names by index")
    names = [entry[-1] if isinstance(entry, list | tuple) and entry else entry for entry in found]
    wrong = next((i for i, name in enumerate(names) if not isinstance(name, str) or not name.strip()), None)
    if wrong is not None:
        raise LoadError(f"{where}: entry {wrong} is {found[wrong]!r}, not a name")
    return tuple(name.strip() for name in names)


def read_card(file: Path) -> Mapping[str, Any]:
    """The JSON card of the same stem as a weights file, or an empty one.

    Raises:
        LoadError: the card is there and cannot be read.
    """
    path = file.with_suffix(".json")
    if not path.is_file():
        return {}
    try:
        card = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise LoadError(f"the card {path} beside {file.name} cannot be read: {error}") from error
    return card if isinstance(card, Mapping) else {}


def some(keys: Iterable[str], most: int = 8) -> str:
    """The first of them, and how many more."""
    keys = list(keys)
    return ", ".join(keys[:most]) + (f" and {len(keys) - most} more" if len(keys) > most else "")


def _nested(found: Mapping[Any, Any], key: str) -> bool:
    return isinstance(found.get(key), Mapping)


def _wrapper(state: Mapping[str, Tensor]) -> str | None:
    return next((p for p in _WRAPPERS if all(key.startswith(p) for key in state)), None)
