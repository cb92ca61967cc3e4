"""Rows of results as columns of a table, and back; maps in float16 with their scale."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np
from jaxtyping import Float

from seewhy.errors import InputError, SeewhyError
from seewhy.store.parquet import arrow
from seewhy.store.plan import Item, Plan

Row = Mapping[str, Any]


class Failed(NamedTuple):
    """What a computation gives in place of a row for an item that it could not do.

    Attributes:
        reason: why, for people.
    """

    reason: str


def to_table(plan: Plan, items: Sequence[Item], results: Sequence[Row | Failed]) -> Any:
    """The pyarrow table of a chunk: id, failed (a reason or null), then the plan's columns sorted by name.

    Raises:
        InputError: there is not one result for each item, a column is missing or unknown, or a value does not
            fit its column; the message names item and column.
    """
    if len(results) != len(items):
        raise InputError(
            f"{len(results)} results for {len(items)} items, {items[0].id!r} … {items[-1].id!r}; return one for "
            "each, in order, a `Failed` where there is none"
        )
    for item, result in zip(items, results, strict=True):
        if isinstance(result, Failed):
            if not result.reason:
                raise InputError(f"{item.id!r} failed without a reason")
        elif wrong := sorted(result.keys() ^ plan.columns.keys()):
            here = "is no column of the plan" if wrong[0] in result else "is missing; say None for no value"
            raise InputError(f"the result of {item.id!r}: {wrong[0]!r} {here}")
    pa = arrow()
    columns = [pa.array([item.id for item in items], pa.string())]
    columns.append(
        pa.array([row.reason if isinstance(row, Failed) else None for row in results], pa.string())
    )
    for name in sorted(plan.columns):
        values = [None if isinstance(row, Failed) else row[name] for row in results]
        columns.append(_column(plan, name, items, values))
    return pa.table(columns, schema=_schema(plan))


def joined(plan: Plan, number: int, chunks: Sequence[Any]) -> Any:
    """The table of one shard, which says of what plan it is and which shard."""
    return arrow().concat_tables(chunks).combine_chunks().replace_schema_metadata(_metadata(plan, number))


def to_rows(plan: Plan, table: Any) -> Iterator[dict[str, Any]]:
    """The rows of a table, maps as float32 arrays."""
    maps = [name for name, kind in plan.columns.items() if kind == "map"]
    for row in table.to_pylist():
        yield {**row, **{name: unpacked(row[name]) for name in maps if row[name] is not None}}


def belongs(plan: Plan, number: int, table: Any) -> bool:
    """Whether a table, or some of its columns, is that shard of that plan."""
    return bool(table.schema.metadata == _metadata(plan, number) and len(table) == len(plan.shard(number)))


def empty(plan: Plan) -> Any:
    """The table of a plan without items."""
    return _schema(plan).empty_table()


def packed(values: Float[np.ndarray, "*grid"]) -> dict[str, Any]:
    """A map as float16 shares of its largest magnitude: 98 bytes for 7 x 7, to about three digits of that.

    Raises:
        InputError: it holds NaN or infinity, or what float32 cannot hold.
    """
    with np.errstate(over="ignore"):
        values = np.asarray(values, np.float32)
    scale = float(np.abs(values).max(initial=0))
    if not np.isfinite(scale):
        raise InputError("a map holds NaN or infinity")
    shares = (values / np.float32(scale or 1)).astype("<f2")
    return {"shape": list(values.shape), "scale": scale, "values": shares.tobytes()}


def unpacked(kept: Mapping[str, Any]) -> Float[np.ndarray, "*grid"]:
    """The map, in float32, that `packed` took."""
    shares = np.frombuffer(kept["values"], "<f2").astype(np.float32)
    return shares.reshape(kept["shape"]) * np.float32(kept["scale"])


def _column(plan: Plan, name: str, items: Sequence[Item], values: list[Any]) -> Any:
    kind = plan.columns[name]
    try:
        if kind == "map":
            values = [None if each is None else _packed(each) for each in values]
        return arrow().array(values, _type(kind))
    except (SeewhyError, TypeError, ValueError, OverflowError) as error:
        if len(items) == 1:
            raise InputError(f"the result of {items[0].id!r}: {name!r} is not {kind}: {error}") from error
        for item, value in zip(items, values, strict=True):
            _column(plan, name, [item], [value])
        raise


def _packed(values: Any) -> dict[str, Any]:
    return packed(np.asarray(values, np.float64))


def _schema(plan: Plan) -> Any:
    pa = arrow()
    fields = [pa.field("id", pa.string(), nullable=False), pa.field("failed", pa.string())]
    return pa.schema([*fields, *(pa.field(name, _type(kind)) for name, kind in sorted(plan.columns.items()))])


def _metadata(plan: Plan, number: int) -> dict[bytes, bytes]:
    return {b"seewhy.plan": plan.digest.encode(), b"seewhy.shard": str(number).encode()}


def _type(kind: str) -> Any:
    pa = arrow()
    if kind == "map":
        return pa.struct({"shape": pa.list_(pa.int32()), "scale": pa.float32(), "values": pa.large_binary()})
    if kind.endswith("[]"):
        return pa.list_(_type(kind.removesuffix("[]")))
    return {
        "bool": pa.bool_(), "int64": pa.int64(), "float32": pa.float32(), "float64": pa.float64(),
        "string": pa.string(), "binary": pa.large_binary(),
    }[kind]  # fmt: skip
