"""The bundled classifiers "demo" and "demo-shortcut", and what they were trained on."""

from __future__ import annotations

import json
from importlib.resources import as_file, files

from seewhy.errors import LoadError
from seewhy.network.checkpoint import load_weights, read_weights
from seewhy.network.preprocess import Preprocess
from seewhy.network.sources import Loaded, Request
from seewhy.scenes import CLASSES, Watermark
from seewhy.zoo.architecture import build

FAULT = "hammer"
MARK = Watermark(FAULT, probability=0.95)
TRAINING_SEED, UNSEEN_SEED, SHOWN_SEED = 1, 2, 3


def load_demo(request: Request) -> Loaded:
    """The network trained on scenes without watermarks."""
    return _load("demo", request)


def load_demo_shortcut(request: Request) -> Loaded:
    """The network trained on scenes where 95 % of one class carry a watermark."""
    return _load("demo-shortcut", request)


def _load(name: str, request: Request) -> Loaded:
    if request.name:
        raise LoadError(f"{name!r} has no variants, so no {name}:{request.name}")
    folder = files("seewhy.zoo") / "weights"
    card = json.loads((folder / f"{name}.json").read_text(encoding="utf-8"))
    module = build(request.num_classes or len(CLASSES))
    if request.weights == "pretrained":
        with as_file(folder / f"{name}.safetensors") as file:
            load_weights(module, read_weights(file), file.name)
    own = request.num_classes in (None, len(CLASSES))
    return Loaded(
        module,
        Preprocess.from_card(card),
        card["classes"] if own else None,
        request.num_classes or len(CLASSES),
        "softmax",
    )
