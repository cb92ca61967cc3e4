"""Results of several methods as a table: values with intervals, ranks, and how each compares with the first."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from seewhy.errors import InputError
from seewhy.evaluation.result import Result, compare, finite_or_none, holm

_OF_A_CELL = ("value", "low", "high", "rank", "pictures", "undefined", "protocol")
COLUMNS = ("part", "subset", "method", "metric", *_OF_A_CELL)
"""What `rows` gives: numbers, and the preset and settings behind them."""


def standings(
    results: Mapping[str, Mapping[str, Result]], methods: Sequence[str]
) -> dict[str, dict[str, Any]]:
    """Values with intervals, ranks among the methods, and what they have more than the first method."""
    found: dict[str, dict[str, Any]] = {name: {} for name in results}
    names = list(dict.fromkeys(name for own in results.values() for name in own))
    for metric in names:
        cells = {name: _cell(own[metric]) for name, own in results.items()}
        better = next(iter(results.values()))[metric].metric.better
        ranked = [n for n in methods if n in cells and cells[n]["value"] is not None and better != "neither"]
        ranked.sort(key=lambda name: cells[name]["value"] * (-1 if better == "higher" else 1))
        for place, name in enumerate(ranked):
            cells[name]["rank"] = place + 1
        first = "grad-cam" if "grad-cam" in cells else next(iter(cells))
        compared = {}
        for name in cells:
            if name != first:
                try:
                    compared[name] = compare(results[name][metric], results[first][metric])
                except InputError:
                    continue
        adjusted = holm([each.p if math.isfinite(each.p) else 1.0 for each in compared.values()])
        for (name, each), p in zip(compared.items(), adjusted, strict=True):
            low, high = each.interval.tolist()
            cells[name]["against"] = {
                "method": first,
                "difference": finite_or_none(each.difference.item()),
                "low": finite_or_none(low),
                "high": finite_or_none(high),
                "p": p,
                "clear": each.clear,
            }
        for name, cell in cells.items():
            found[name][metric] = cell
    return found


def _cell(result: Result) -> dict[str, Any]:
    low, high = result.interval.tolist()
    return {
        "value": finite_or_none(result.value.item()),
        "low": finite_or_none(low),
        "high": finite_or_none(high),
        "rank": None,
        "pictures": len({image for image, _ in result.keys}),
        "undefined": result.undefined,
        "protocol": result.metric.protocol,
        "details": {
            key: [finite_or_none(each) for each in value.flatten().tolist()]
            for key, value in result.details.items()
            if value.numel() <= 256 and not key.endswith(("curves", "gains", "normalised"))
        },
    }


def rows(results: Mapping[str, Any]) -> Iterator[dict[str, Any]]:
    """The values of `Campaign.to_json`, one per part, subset, method and metric: what the CSV holds."""
    for part in results["parts"]:
        for subset, table in part["tables"].items():
            for method, own in table.items():
                for metric, cell in own.items():
                    yield {
                        "part": part["title"], "subset": subset, "method": method, "metric": metric,
                        **{key: cell[key] for key in _OF_A_CELL},
                    }  # fmt: skip


def cell_text(cell: Mapping[str, Any] | None) -> str:
    """A cell for people: value, interval, rank, and † where it clearly differs from the first method."""
    if cell is None or cell["value"] is None:
        return "undefined"
    text = f"{cell['value']:.3f}"
    if cell["low"] is not None and cell["high"] is not None:
        text += f" [{cell['low']:.3f}, {cell['high']:.3f}]"
    if cell["rank"] is not None:
        text += f" #{cell['rank']}"
    return text + (" †" if clearly_differs(cell) else "")


def clearly_differs(cell: Mapping[str, Any]) -> bool:
    """Whether it differs from the first method: interval and adjusted p say so both."""
    against = cell.get("against")
    return bool(against and against["clear"] and against["p"] < 0.05)
