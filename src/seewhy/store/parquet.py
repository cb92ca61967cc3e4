"""Parquet files that know whether they are whole.

A Parquet reader starts from the file's end and finds all else by absolute offsets, so the 32 bytes before the footer
can hold the SHA-256 of all the others, and pandas, DuckDB or Spark read the file as any other.
"""

from __future__ import annotations

from hashlib import sha256
from typing import Any

from seewhy.errors import MissingExtraError, StoreError

_SEAL = 32  # bytes of a SHA-256


def arrow() -> Any:
    """The pyarrow package, with `pyarrow.parquet`.

    Raises:
        MissingExtraError: it is not installed.
    """
    try:
        import pyarrow
        import pyarrow.parquet
    except ImportError as error:
        raise MissingExtraError("pyarrow", "store") from error
    return pyarrow


def to_bytes(table: Any) -> bytes:
    """A pyarrow table as a sealed Parquet file; equal tables give equal bytes under one version of pyarrow."""
    pa = arrow()
    sink = pa.BufferOutputStream()
    pa.parquet.write_table(table, sink, compression="zstd", row_group_size=max(1, len(table)))
    data: bytes = sink.getvalue().to_pybytes()
    footer = _footer(data)
    return data[:footer] + sha256(data).digest() + data[footer:]


def from_bytes(data: bytes, name: str, columns: list[str] | None = None) -> Any:
    """The table in a file that `to_bytes` made, or some of its columns.

    Raises:
        StoreError: it is not what was written; the message calls it by `name`.
    """
    pa = arrow()
    footer = _footer(data)
    body = footer - _SEAL
    whole = sha256(data[: max(body, 0)] + data[footer:]).digest()
    if body < 0 or whole != data[body:footer]:
        raise StoreError(
            f"{name} is damaged: its {len(data)} bytes are not those that were written; delete it, and the same "
            "command computes it again"
        )
    return pa.parquet.read_table(pa.BufferReader(data), columns=columns, use_threads=False)


def _footer(data: bytes) -> int:
    """Where the footer begins: its length stands before the last four bytes."""
    return max(0, len(data) - 8 - int.from_bytes(data[-8:-4], "little"))
