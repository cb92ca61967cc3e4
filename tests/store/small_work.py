"""A small work whose results are known, for this process and for those that are killed."""

from collections.abc import Mapping, Sequence
from hashlib import sha256
from pathlib import Path
from typing import Any

import numpy as np

from seewhy.store import Failed, Item, Plan

COLUMNS = {"mean": "float64", "map": "map", "tags": "string[]"}


def small_plan(count: int = 22, **changes: Any) -> Plan:
    """By default six shards, the last of them short, of up to two chunks each."""
    made = [Item(f"p{i:03}", sha256(b"%d" % i).hexdigest(), i, f"label {i % 3}") for i in range(count)]
    values = {"kind": "small", "items": made, "columns": COLUMNS, "settings": {"method": "none"}}
    return Plan(**{**values, "shard_size": 4, "chunk_size": 3, **changes})


def small_row(item: Item) -> Mapping[str, Any] | Failed:
    noise = np.random.default_rng(int(item.sha256[:8], 16)).normal(size=(7, 7))
    if item.id.endswith("5"):
        return Failed("not a picture")
    return {"mean": float(noise.mean()), "map": noise, "tags": [item.id, item.label]}


def compute(items: Sequence[Item]) -> list[Mapping[str, Any] | Failed]:
    return [small_row(item) for item in items]


def contents(folder: Path) -> dict[str, bytes]:
    """Every file below a folder, hidden ones too."""
    return {
        path.relative_to(folder).as_posix(): path.read_bytes()
        for path in sorted(folder.rglob("*"))
        if path.is_file()
    }


def leftovers(folder: Path) -> list[str]:
    return [name for name in contents(folder) if name.endswith(".part")]
