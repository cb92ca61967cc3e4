"""Whatever call to the operating system fails, the error names the file, and the work goes on afterwards."""

import errno
import os

import pytest
from faults import failing, full, struck
from small_work import compute, contents, leftovers, small_plan

from seewhy.errors import StoreError
from seewhy.store import Store

NEVER = 10**9


def work_through(folder, computed=None):
    def noted(items):
        if computed is not None:
            computed.extend(item.id for item in items)
        return compute(items)

    return Store(folder).open(small_plan(7)).run(noted)


@pytest.fixture(scope="module")
def reference(tmp_path_factory):
    folder = tmp_path_factory.mktemp("reference")
    with struck(NEVER, failing(errno.EIO)) as calls:
        work_through(folder)
    return contents(folder), calls


@pytest.mark.parametrize(
    ("strike", "lasting"),
    [
        (failing(errno.EIO), False),
        (failing(errno.ENOSPC), False),
        (failing(errno.EIO, after=True), False),
        (full, True),
    ],
    ids=["error", "no space", "answer lost", "disk stays full"],
)
def test_each_call_in_turn_fails(tmp_path, reference, strike, lasting):
    whole, calls = reference
    tolerated = []
    assert {"open", "write", "fsync", "close", "link", "unlink", "read", "mkdir", "stat"} <= set(calls)
    for call, name in enumerate(calls):
        folder = tmp_path / str(call)
        folder.mkdir()
        error = None
        with struck(call, strike, lasting):
            try:
                work_through(folder)
            except StoreError as raised:
                error = str(raised)
        if error is None:
            tolerated.append(name)
        else:
            assert str(folder) in error
            assert "the same command goes on from there" in error
        kept = {path: data for path, data in contents(folder).items() if not path.endswith(".part")}
        assert kept.items() <= whole.items()
        computed: list[str] = []
        work = Store(folder).open(small_plan(7))
        left = [item.id for number in work.missing() for item in work.plan.shard(number)]
        counts = work_through(folder, computed)
        assert (counts.done, counts.failed) == (6, 1)
        assert computed == left  # what was committed is not computed again
        assert contents(folder) == whole
    # Only the removal of a temporary file may fail unnoticed: the next run removes it.
    if strike is not full:
        assert set(tolerated) == {"unlink"}


def test_a_full_disk_is_named_with_the_file_and_leaves_nothing_half(tmp_path):
    work = Store(tmp_path).open(small_plan())
    work.complete(0, compute)
    before = contents(tmp_path)
    message = r"000001\.parquet cannot be written: No space left on device; what was committed before is kept"
    with struck(0, full, lasting=True), pytest.raises(StoreError, match=message) as caught:
        work.complete(1, compute)
    assert caught.value.__cause__.errno == errno.ENOSPC
    assert contents(tmp_path) == before
    assert work.counts().left == 22 - 4


def test_a_disk_that_takes_a_few_bytes_at_a_time_gets_them_all(tmp_path, monkeypatch, reference):
    write = os.write
    monkeypatch.setattr(os, "write", lambda descriptor, data: write(descriptor, data[:50]))
    work_through(tmp_path)
    assert contents(tmp_path) == reference[0]


def test_bytes_are_on_the_disk_before_the_name_and_the_name_before_success(tmp_path):
    work = Store(tmp_path).open(small_plan())
    with struck(NEVER, full) as calls:
        work.complete(0, compute)
    one = [name for name in calls if name not in ("stat", "read")]
    writing, naming = ["open", "write", "fsync", "close"], ["link", "unlink"]
    assert one == [*writing, *naming, "open", "fsync", "close"]


def test_a_temporary_file_that_another_process_removes_is_written_again(tmp_path, reference):
    def removed(name, function, arguments):
        if name != "link":
            return function(*arguments)
        assert seen is not None
        seen.append(arguments)
        if len(seen) == 1:
            arguments[0].unlink()
        return function(*arguments)

    seen: list[object] = []
    with struck(0, removed, lasting=True):
        work_through(tmp_path)
    assert contents(tmp_path) == reference[0]
    assert len(seen) == len(reference[0]) + 1


def test_a_folder_that_vanishes_is_an_error_that_names_the_file(tmp_path):
    def removed(name, function, arguments):
        if name == "link":
            arguments[0].unlink()
        return function(*arguments)

    work = Store(tmp_path).open(small_plan())
    with (
        struck(0, removed, lasting=True),
        pytest.raises(StoreError, match=r"000000\.parquet.*again and again"),
    ):
        work.complete(0, compute)


def test_a_file_system_without_hard_links_is_told_as_that(tmp_path):
    def refused(name, function, arguments):
        return failing(errno.EPERM)(name, function, arguments) if name == "link" else function(*arguments)

    with struck(0, refused, lasting=True), pytest.raises(StoreError, match="no hard links"):
        work_through(tmp_path)
    assert leftovers(tmp_path) == []
