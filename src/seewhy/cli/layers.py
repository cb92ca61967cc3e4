"""`seewhy layers`: what a network computes, and which layer a map is drawn on."""

from __future__ import annotations

import json as to_json
from dataclasses import asdict
from pathlib import Path
from typing import Annotated

from cyclopts import Parameter
from rich.console import Console
from rich.table import Table

from seewhy.cli.options import Model
from seewhy.errors import SeewhyError


def layers(
    model: Annotated[str, Parameter(help="The network, as for `seewhy explain --model`.")],
    *,
    weights: str | None = None,
    preprocess: Path | None = None,
    offline: bool = False,
    size: tuple[int, int] | None = None,
    all: bool = False,
    json: bool = False,
) -> None:
    """List the layers of a network in order of computation, which one is chosen by default, and why.

    Args:
        weights: "random", or a file; the source's own pretrained weights by default.
        preprocess: JSON card, as for `seewhy explain`; it says how large the example picture is.
        offline: Never touch a network.
        size: Height and width of the example picture; the preprocessing decides by default.
        all: Also those without positions to draw a map on.
        json: Print JSON.
    """
    network = Model(model, weights=weights, preprocess=preprocess, offline=offline, device="cpu").load()
    example = network.example_input(size)
    try:
        listed = network.layers(example)
    except RuntimeError as error:
        shape = " x ".join(map(str, example.shape[1:]))
        raise SeewhyError(
            f"{network.name} does not run on a picture of {shape}; pass --size: {error}"
        ) from error
    found = [layer for layer in listed if all or layer.layout is not None]
    if json:
        print(to_json.dumps([asdict(layer) for layer in found], indent=1))
        return
    table = Table(box=None, pad_edge=False)
    for column in ("", "layer", "kind", "output", "grid", "why"):
        table.add_column(column, no_wrap=column in ("", "output", "grid"), overflow="fold")
    for layer in found:
        table.add_row(
            "*" if layer.chosen else "",
            layer.name,
            layer.kind,
            " x ".join(map(str, layer.shape)),
            " x ".join(map(str, layer.layout.grid)) if layer.layout else "",
            layer.reason,
            style="bold" if layer.chosen else None,
        )
    Console().print(table)
