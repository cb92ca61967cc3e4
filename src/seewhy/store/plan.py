"""What is to be done, written down before it begins: its digest names the work."""

from __future__ import annotations

import json
from collections.abc import Mapping
from functools import cached_property
from hashlib import file_digest, sha256
from itertools import pairwise
from pathlib import Path
from typing import Annotated, Any, Literal, NamedTuple

from pydantic import BaseModel, ConfigDict, Field, ValidationError, field_validator

from seewhy.errors import InputError, StoreError

ColumnType = Literal[
    "bool", "int64", "float32", "float64", "string", "binary", "map",
    "bool[]", "int64[]", "float32[]", "float64[]", "string[]",
]  # fmt: skip
Sha256 = Annotated[str, Field(pattern="^[0-9a-f]{64}$")]


class Item(NamedTuple):
    """One thing that gets one row.

    Attributes:
        id: what it is called; unlike any other of the plan.
        sha256: of its bytes, in hexadecimal; of whatever else decides the result where it is no file.
        size: in bytes, where known.
        label: its class, where known.
    """

    id: str
    sha256: Sha256
    size: int | None = None
    label: str | None = None

    @classmethod
    def of_file(cls, path: str | Path, label: str | None = None) -> Item:
        """A file, called by its path as given.

        Raises:
            InputError: it cannot be read.
        """
        try:
            with Path(path).open("rb") as file:
                digest = file_digest(file, "sha256").hexdigest()
                return cls(Path(path).as_posix(), digest, file.tell(), label)
        except OSError as error:
            raise InputError(f"{path} cannot be read: {error.strerror}") from None


class Plan(BaseModel):
    """The items, and all that decides what comes out for each.

    Whatever changes the results belongs in here: two plans with the same digest are the same work, and share
    its files.

    Example:
        >>> items = [Item("b", "0" * 64), Item("a", "1" * 64)]
        >>> plan = Plan(kind="brightness", items=items, columns={"mean": "float64"})
        >>> [item.id for item in plan.items], plan.shards
        (['a', 'b'], 1)
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    kind: str = Field(min_length=1, description="What is done, such as `planted-truth`.")
    items: tuple[Item, ...] = Field(description="What it is done to; kept sorted by id.")
    columns: Mapping[str, ColumnType] = Field(description="What each item's row holds, by name.")
    settings: Mapping[str, Any] = Field(
        default={}, description="How it is done, as JSON: method, target, preprocessing."
    )
    network: Sha256 | None = Field(default=None, description="Digest of the network, if there is one.")
    environment: Mapping[str, str] = Field(
        default={}, description="What the last bits depend on: versions, device, number format."
    )
    shard_size: int = Field(default=1000, ge=1, description="Items per file.")
    chunk_size: int = Field(
        default=32, ge=1, description="Items computed at once, at most; never free memory's say."
    )
    format: Literal[1] = Field(default=1, description="Of the files.")

    @field_validator("items")
    @classmethod
    def _sorted(cls, items: tuple[Item, ...]) -> tuple[Item, ...]:
        ordered = sorted(items, key=lambda item: item.id)
        for item, following in pairwise(ordered):
            if item.id == following.id:
                raise ValueError(f"two items are called {item.id!r}")
        for item in ordered:
            try:
                f"{item.id}{item.label}".encode()
            except UnicodeEncodeError:  # a file name that is not UTF-8
                raise ValueError(f"{item.id!r} of {item.label!r} is no text; give it another id") from None
        return tuple(ordered)

    @field_validator("columns")
    @classmethod
    def _not_reserved(cls, columns: Mapping[str, ColumnType]) -> Mapping[str, ColumnType]:
        if taken := sorted({"id", "failed"} & columns.keys()):
            raise ValueError(f"every row has a column {taken[0]!r} of its own; call yours something else")
        return columns

    @field_validator("settings", mode="before")
    @classmethod
    def _json(cls, settings: Any) -> Any:
        try:  # a copy, which no later change of the caller's dictionary reaches
            return json.loads(json.dumps(settings, allow_nan=False, ensure_ascii=False).encode())
        except (TypeError, ValueError) as error:
            raise ValueError(f"settings are JSON values: {error}") from None

    def __hash__(self) -> int:
        return hash(self.digest)

    @cached_property
    def digest(self) -> str:
        """SHA-256 of `to_json`, in hexadecimal."""
        return sha256(self.to_json()).hexdigest()

    @property
    def name(self) -> str:
        """What the work's folder is called: the first 16 digits of the digest."""
        return self.digest[:16]

    @property
    def shards(self) -> int:
        """How many files hold the results."""
        return -(-len(self.items) // self.shard_size)

    def shard(self, number: int) -> tuple[Item, ...]:
        """The items of one file.

        Raises:
            InputError: there is no such shard.
        """
        if not 0 <= number < self.shards:
            raise InputError(f"no shard {number}; the plan has {self.shards}, counted from 0")
        return self.items[number * self.shard_size : (number + 1) * self.shard_size]

    def chunks(self, number: int) -> list[tuple[Item, ...]]:
        """One shard's items as they are computed: the same whatever was interrupted, and wherever it runs."""
        items = self.shard(number)
        return [items[start : start + self.chunk_size] for start in range(0, len(items), self.chunk_size)]

    def to_json(self) -> bytes:
        """The plan as `plan.json` keeps it: equal plans give equal bytes."""
        values = {name: getattr(self, name) for name in type(self).model_fields}
        return json.dumps(values, sort_keys=True, separators=(",", ":"), allow_nan=False).encode()

    @classmethod
    def from_json(cls, data: bytes) -> Plan:
        """The plan that `to_json` wrote.

        Raises:
            StoreError: it was written by a version that plans differently.
        """
        try:
            return cls.model_validate_json(data)
        except ValidationError as error:
            raise StoreError(f"not a plan as this version writes it: {error}") from None
