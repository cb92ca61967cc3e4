"""A folder of works: begin one, go on with it, read it."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Sequence
from hashlib import sha256
from pathlib import Path
from typing import Any, NamedTuple

from seewhy.errors import InputError, StoreError
from seewhy.store import commit
from seewhy.store.parquet import arrow, from_bytes, to_bytes
from seewhy.store.plan import Item, Plan
from seewhy.store.rows import Failed, Row, belongs, empty, joined, to_rows, to_table

Compute = Callable[[Sequence[Item]], Sequence[Row | Failed]]


class Counts(NamedTuple):
    """Items of a work; asked = done + failed + left.

    Attributes:
        asked: in the plan.
        done: with a row of results.
        failed: with a reason in its place.
    """

    asked: int
    done: int = 0
    failed: int = 0

    @property
    def left(self) -> int:
        """Not computed yet."""
        return self.asked - self.done - self.failed


class Store:
    """A folder with a folder for each work, which the plan's digest names.

    Args:
        folder: made when it is first needed; on a file system with hard links.
    """

    def __init__(self, folder: str | Path) -> None:
        self.folder = Path(folder)

    def __repr__(self) -> str:
        return f"Store({str(self.folder)!r})"

    def open(self, plan: Plan | str) -> Work:
        """A work to run or to read: by its plan, which is written down if it is new, or by its digest.

        Args:
            plan: the plan, or its digest or at least the first 16 digits of it.

        Raises:
            InputError: no work of that digest is kept here.
            StoreError: `plan.json` is damaged, or cannot be read or written.
        """
        if isinstance(plan, str):
            return self._found(plan)
        path = self.folder / plan.name / "plan.json"
        data = plan.to_json()
        if sha256(data).hexdigest() != plan.digest:
            raise InputError("the plan's settings were changed after it was made; make a new one")
        if not commit.exists(path):
            commit.make_folder(path.parent)
            commit.place(path, data)
        if commit.read(path) != data:
            raise _damaged(path)
        return Work(path.parent, plan)

    def _found(self, digest: str) -> Work:
        if not re.fullmatch("[0-9a-f]{16,64}", digest):
            raise InputError(f"{digest!r} is not the digest of a plan, nor its first 16 digits or more")
        path = self.folder / digest[:16] / "plan.json"
        try:
            data = commit.read(path)
        except FileNotFoundError:
            raise InputError(f"{self.folder} holds no work {digest!r}: there is no {path}") from None
        found = sha256(data).hexdigest()
        if not found.startswith(path.parent.name):
            raise _damaged(path)
        if not found.startswith(digest):
            raise InputError(f"{self.folder} holds no work {digest!r}, but {found!r}")
        return Work(path.parent, Plan.from_json(data))


class Work:
    """One plan and what has been kept of its results; `Store.open` gives it.

    Attributes:
        folder: of its files.
        plan: what is to be done.
    """

    def __init__(self, folder: Path, plan: Plan) -> None:
        self.folder = folder
        self.plan = plan

    def __repr__(self) -> str:
        return f"Work({self.plan.kind} of {len(self.plan.items)} items in {str(self.folder)!r})"

    def path(self, number: int) -> Path:
        """The file of one shard, whether it is there or not.

        Raises:
            InputError: there is no such shard.
        """
        self.plan.shard(number)
        return self.folder / f"{number:06}.parquet"

    def missing(self) -> list[int]:
        """The shards that are not committed yet."""
        return [number for number in range(self.plan.shards) if not commit.exists(self.path(number))]

    def run(self, compute: Compute, progress: Callable[[Counts], object] | None = None) -> Counts:
        """Compute what is missing, shard by shard, and check what is there.

        It may be stopped at any moment, and run by several processes at once; each shard is kept once.

        Args:
            compute: from at most `chunk_size` items to a row for each, with the plan's columns; a `Failed` for
                an item that it cannot do. Rows must not depend on other chunks, nor on what ran before.
            progress: called with the counts after each shard.

        Returns:
            The counts, with none left.

        Raises:
            InputError: rows that the plan does not foresee.
            StoreError: a damaged shard, or one that cannot be written; the message names the file.
            MissingExtraError: pyarrow is not installed.
        """
        self.remove_leftovers()
        counts = Counts(len(self.plan.items))
        for number in range(self.plan.shards):
            self.complete(number, compute)
            failed, rows = self._failures(number), len(self.plan.shard(number))
            counts = Counts(counts.asked, counts.done + rows - failed, counts.failed + failed)
            if progress is not None:
                progress(counts)
        return counts

    def remove_leftovers(self) -> None:
        """Remove what killed processes left half-written; `run` does so by itself.

        Raises:
            StoreError: the operating system refuses.
        """
        commit.remove_leftovers(self.folder)

    def complete(self, number: int, compute: Compute) -> bool:
        """Compute and commit one shard, unless it is there: what an executor gives to a worker.

        Returns:
            Whether it was committed now; of several that compute it at once, for one only.

        Raises:
            InputError: no such shard, or rows that the plan does not foresee.
            StoreError: it cannot be written.
            MissingExtraError: pyarrow is not installed.
        """
        path = self.path(number)
        if commit.exists(path):
            return False
        arrow()  # before the work, which would be lost without it
        chunks = []
        for items in self.plan.chunks(number):
            try:
                chunks.append(to_table(self.plan, items, compute(items)))
            except Exception as error:
                error.add_note(f"while computing {items[0].id!r} … {items[-1].id!r}, of shard {number}")
                raise
        return commit.place(path, to_bytes(joined(self.plan, number, chunks)))

    def rows(self, partial: bool = False) -> Iterator[dict[str, Any]]:
        """The rows in the plan's order: `id`, `failed` (a reason, or None) and the columns.

        Args:
            partial: read what is there, instead of asking that all be there.

        Raises:
            StoreError: a shard is damaged, or missing.
        """
        for number in self._readable(partial):
            yield from to_rows(self.plan, self._table(number))

    def table(self, partial: bool = False) -> Any:
        """All rows as one pyarrow table; maps as they are kept: shape, scale and float16 shares of it.

        Raises:
            StoreError: a shard is damaged, or missing.
        """
        tables = [self._table(number).replace_schema_metadata() for number in self._readable(partial)]
        return arrow().concat_tables(tables) if tables else empty(self.plan)

    def counts(self) -> Counts:
        """How far it is.

        Raises:
            StoreError: a shard is damaged.
        """
        present = self._readable(partial=True)
        failed = sum(self._failures(number) for number in present)
        rows = sum(len(self.plan.shard(number)) for number in present)
        return Counts(len(self.plan.items), rows - failed, failed)

    def damaged(self) -> list[Path]:
        """The files of committed shards that are not what was written."""
        found = []
        for number in self._readable(partial=True):
            try:
                self._failures(number)
            except StoreError:
                found.append(self.path(number))
        return found

    def _readable(self, partial: bool) -> list[int]:
        missing = self.missing()
        if missing and not partial:
            raise StoreError(
                f"{len(missing)} of {self.plan.shards} shards are not computed yet, the first of them "
                f"{self.path(missing[0])}; the same command goes on, `partial=True` reads what is there"
            )
        return sorted(set(range(self.plan.shards)) - set(missing))

    def _failures(self, number: int) -> int:
        failed = self._table(number, ["failed"]).column("failed")
        return len(failed) - int(failed.null_count)

    def _table(self, number: int, columns: list[str] | None = None) -> Any:
        path = self.path(number)
        try:
            data = commit.read(path)
        except FileNotFoundError:
            raise StoreError(
                f"{path} was removed while it was read; the same command computes it again"
            ) from None
        table = from_bytes(data, str(path), columns)
        if not belongs(self.plan, number, table):
            raise StoreError(
                f"{path} is another shard, or another plan's; delete it, and the same command computes it"
            )
        return table


def _damaged(path: Path) -> StoreError:
    return StoreError(
        f"{path} is damaged: its SHA-256 does not begin with {path.parent.name}, its folder's name; delete it, and "
        "the same command writes it again"
    )
