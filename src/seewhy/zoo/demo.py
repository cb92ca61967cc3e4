"""The bundled networks, "demo" and those that have more to their names, and what they were trained on."""

from __future__ import annotations

import json
from collections.abc import Mapping
from importlib.resources import as_file, files
from typing import Any

from torch import nn

from seewhy.errors import LoadError
from seewhy.network.checkpoint import load_weights, read_weights
from seewhy.network.preprocess import Preprocess
from seewhy.network.sources import Loaded, Request
from seewhy.scenes import CLASSES, Watermark
from seewhy.zoo.architecture import ClipRetriever, Pricer, build, build_retriever

FAULT = "hammer"
MARK = Watermark(FAULT, probability=0.95)
TRAINING_SEED, UNSEEN_SEED, SHOWN_SEED = 1, 2, 3
WIDTH = 64  # of the retriever's embedding
CLIP_WIDTH = 64  # of that of the retriever of clips
HOUSE_WIDTH = 32  # of the appraiser's


def load_demo(request: Request) -> Loaded:
    """The network trained on scenes without watermarks."""
    return _load("demo", request)


def load_demo_shortcut(request: Request) -> Loaded:
    """The network trained on scenes where 95 % of one class carry a watermark."""
    return _load("demo-shortcut", request)


def load_demo_retriever(request: Request) -> Loaded:
    """The network that gives two pictures of one individual similar embeddings."""
    return _without_classes(build_retriever(WIDTH), "demo-retriever", "embeddings", request)


def load_demo_clip_retriever(request: Request) -> Loaded:
    """The network that gives two clips of one individual similar embeddings."""
    return _without_classes(ClipRetriever(CLIP_WIDTH), "demo-clip-retriever", "embeddings", request)


def load_demo_houses(request: Request) -> Loaded:
    """The network that prices drawn houses by what can be seen of them."""
    return _without_classes(Pricer(HOUSE_WIDTH), "demo-houses", "prices", request)


def _without_classes(module: nn.Module, name: str, gives: str, request: Request) -> Loaded:
    if request.num_classes:
        raise LoadError(f"{name!r} gives {gives}; it has no classes")
    return Loaded(module, Preprocess.from_card(_filled(module, name, request)))


def _load(name: str, request: Request) -> Loaded:
    module = build(request.num_classes or len(CLASSES))
    card = _filled(module, name, request)
    own = request.num_classes in (None, len(CLASSES))
    return Loaded(
        module,
        Preprocess.from_card(card),
        card["classes"] if own else None,
        request.num_classes or len(CLASSES),
        "softmax",
    )


def _filled(module: nn.Module, name: str, request: Request) -> Mapping[str, Any]:
    """The network's card, and its weights in the module where they are wanted."""
    if request.name:
        raise LoadError(f"{name!r} has no variants, so no {name}:{request.name}")
    folder = files("seewhy.zoo") / "weights"
    if request.weights == "pretrained":
        with as_file(folder / f"{name}.safetensors") as file:
            load_weights(module, read_weights(file), file.name)
    card: Mapping[str, Any] = json.loads((folder / f"{name}.json").read_text(encoding="utf-8"))
    return card
