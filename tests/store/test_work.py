import subprocess
import sys

import numpy as np
import pyarrow.parquet
import pytest
from small_work import compute, contents, leftovers, small_plan, small_row

from seewhy.errors import InputError, MissingExtraError, StoreError
from seewhy.store import Counts, Failed, Store


@pytest.fixture
def work(tmp_path):
    return Store(tmp_path).open(small_plan())


@pytest.fixture
def finished(work):
    work.run(compute)
    return work


def test_what_was_computed_is_read_back_in_the_plan_s_order(finished):
    rows = list(finished.rows())
    assert [row["id"] for row in rows] == [item.id for item in finished.plan.items]
    for item, row in zip(finished.plan.items, rows, strict=True):
        expected = small_row(item)
        if isinstance(expected, Failed):
            assert row == {"id": item.id, "failed": expected.reason, "mean": None, "map": None, "tags": None}
        else:
            assert (row["failed"], row["mean"], row["tags"]) == (None, expected["mean"], expected["tags"])
            assert (row["map"].dtype, row["map"].shape) == (np.float32, (7, 7))
            np.testing.assert_allclose(row["map"], expected["map"], atol=2**-11 * abs(expected["map"]).max())


def test_asked_is_done_and_failed_and_left(work):
    seen = []
    assert work.counts() == Counts(22)
    assert work.run(compute, seen.append) == Counts(22, 20, 2)
    assert [each.left for each in seen] == [18, 14, 10, 6, 2, 0]
    assert work.counts() == seen[-1]


def test_the_table_holds_the_rows(finished):
    table = finished.table()
    assert table.column_names == ["id", "failed", "map", "mean", "tags"]
    assert table.column("mean").to_pylist() == [row["mean"] for row in finished.rows()]


def test_a_plan_without_items_is_done_at_once(tmp_path):
    work = Store(tmp_path).open(small_plan(0))
    assert work.run(compute) == Counts(0)
    assert list(work.rows()) == []
    assert work.table().column_names == ["id", "failed", "map", "mean", "tags"]


def test_the_same_command_again_computes_nothing_and_changes_nothing(finished):
    before = contents(finished.folder)
    Store(finished.folder.parent).open(small_plan()).run(lambda items: pytest.fail("computed again"))
    assert contents(finished.folder) == before


def test_a_run_that_was_stopped_goes_on_where_it_was_with_the_same_chunks(tmp_path):
    chunks, again = [], []

    def noted(items):
        chunks.append([item.id for item in items])
        return compute(items)

    def stopping(items):
        if len(again) == 3:
            raise KeyboardInterrupt
        again.append([item.id for item in items])
        return compute(items)

    Store(tmp_path / "whole").open(small_plan()).run(noted)
    work = Store(tmp_path / "stopped").open(small_plan())
    with pytest.raises(KeyboardInterrupt):
        work.run(stopping)
    assert work.missing() == [1, 2, 3, 4, 5]
    work.run(lambda items: (again.append([item.id for item in items]), compute(items))[1])
    # The second shard's first chunk was computed twice, as its shard had not been committed.
    assert (
        again[:2] + again[3:]
        == chunks
        == [[i.id for i in c] for n in range(6) for c in small_plan().chunks(n)]
    )
    assert contents(tmp_path / "stopped") == contents(tmp_path / "whole")


def test_shards_in_any_order_give_the_same_files(tmp_path, finished):
    other = Store(tmp_path / "other").open(small_plan())
    assert [other.complete(number, compute) for number in (5, 2, 0, 4, 1, 3)] == [True] * 6
    assert contents(other.folder) == contents(finished.folder)


def test_another_order_of_the_items_is_the_same_work(finished):
    turned = small_plan(items=small_plan().items[::-1])
    assert Store(finished.folder.parent).open(turned).missing() == []


def test_who_comes_second_leaves_the_first_one_s_file_and_no_other(work):
    def slower(items):
        work.complete(0, compute)
        return [{**row, "mean": -1.0} if len(row) > 1 else row for row in compute(items)]

    assert work.complete(0, slower) is False
    assert [row["mean"] for row in work.rows(partial=True)] == [
        small_row(i)["mean"] for i in work.plan.shard(0)
    ]
    assert leftovers(work.folder) == []


def test_an_error_in_the_computation_comes_through_and_says_where(work):
    def broken(items):
        if items[0].id == "p004":
            raise ZeroDivisionError("division by zero")
        return compute(items)

    with pytest.raises(ZeroDivisionError) as caught:
        work.run(broken)
    assert caught.value.__notes__ == ["while computing 'p004' … 'p006', of shard 1"]
    assert (work.missing(), leftovers(work.folder)) == ([1, 2, 3, 4, 5], [])


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda rows: rows[:-1], r"2 results for 3 items, 'p000' … 'p002'"),
        (lambda rows: rows * 2, r"6 results for 3 items"),
        (lambda rows: [*rows[:2], {"mean": 1.0, "tags": []}], "'p002': 'map' is missing; say None"),
        (lambda rows: [*rows[:2], {**rows[2], "extra": 1}], "'p002': 'extra' is no column"),
        (lambda rows: [*rows[:2], {**rows[2], "mean": "high"}], "'p002': 'mean' is not float64"),
        (lambda rows: [*rows[:2], {**rows[2], "map": [float("nan")]}], "'p002': 'map' is not map: .*NaN"),
        (lambda rows: [*rows[:2], {**rows[2], "map": [1e300]}], "'p002': 'map' is not map: .*infinity"),
        (lambda rows: [*rows[:2], {**rows[2], "tags": [1]}], r"'p002': 'tags' is not string\[\]"),
        (lambda rows: [*rows[:2], Failed("")], "'p002' failed without a reason"),
    ],
)
def test_rows_that_the_plan_does_not_foresee_are_refused_by_name(work, change, message):
    with pytest.raises(InputError, match=message):
        work.run(lambda items: change(compute(items)))  # the first chunk is enough to see it
    assert work.missing() == [0, 1, 2, 3, 4, 5]


def test_readers_look_for_what_the_plan_names_and_for_nothing_else(finished):
    (finished.folder / "000006.parquet").write_bytes(b"not of this plan")
    (finished.folder / ".000007.parquet.0.part").write_bytes(b"of a process that died")
    assert len(list(finished.rows())) == 22
    assert finished.counts() == Counts(22, 20, 2)
    with pytest.raises(InputError, match="no shard 6; the plan has 6"):
        finished.path(6)


def test_the_next_run_removes_what_dead_processes_left_and_only_that(work):
    stale = work.folder / ".000003.parquet.0123456789abcdef.part"
    stale.write_bytes(b"PAR1 half of it")
    other = work.folder / "notes.txt"
    other.write_text("mine")
    work.run(compute)
    assert (stale.exists(), other.read_text()) == (False, "mine")


def test_what_is_missing_is_named_unless_it_is_asked_for_in_parts(work):
    work.complete(1, compute)
    with pytest.raises(StoreError, match=r"5 of 6 shards are not computed yet, .*000000\.parquet"):
        next(work.rows())
    with pytest.raises(StoreError, match="partial=True"):
        work.table()
    assert [row["id"] for row in work.rows(partial=True)] == ["p004", "p005", "p006", "p007"]
    assert len(work.table(partial=True)) == 4


@pytest.mark.parametrize("damage", ["flip", "truncate", "empty", "longer", "other shard", "other plan"])
def test_a_damaged_file_is_named_by_all_who_read(finished, damage):
    path = finished.path(2)
    data = path.read_bytes()
    if damage == "other plan":
        other = Store(finished.folder.parent).open(small_plan(settings={"method": "another"}))
        other.run(compute)
    path.write_bytes({
        "flip": data[:700] + bytes([data[700] ^ 4]) + data[701:],
        "truncate": data[:-1],
        "empty": b"",
        "longer": data + b"\0",
        "other shard": finished.path(1).read_bytes(),
        "other plan": data if damage != "other plan" else other.path(2).read_bytes(),
    }[damage])  # fmt: skip
    assert finished.damaged() == [path]
    for reader in (
        finished.counts,
        finished.table,
        lambda: list(finished.rows()),
        lambda: finished.run(compute),
    ):
        with pytest.raises(StoreError, match=r"000002\.parquet is (damaged|another).*delete it"):
            reader()
    path.unlink()
    finished.run(compute)
    assert path.read_bytes() == data


def test_a_damaged_plan_is_named_and_written_again_once_deleted(finished):
    path = finished.folder / "plan.json"
    data = path.read_bytes()
    path.write_bytes(data.replace(b"none", b"some"))
    for plan in (finished.plan, finished.plan.digest, finished.plan.name):
        with pytest.raises(StoreError, match=r"plan\.json is damaged"):
            Store(finished.folder.parent).open(plan)
    path.unlink()
    Store(finished.folder.parent).open(finished.plan)
    assert path.read_bytes() == data


def test_a_work_is_found_by_its_digest(finished):
    store = Store(finished.folder.parent)
    for name in (finished.plan.digest, finished.plan.name):
        assert store.open(name).plan == finished.plan
        assert len(list(store.open(name).rows())) == 22
    with pytest.raises(InputError, match="holds no work '0123456789abcdef'"):
        store.open("0123456789abcdef")
    with pytest.raises(
        InputError, match=f"holds no work '{finished.plan.name}0+', but '{finished.plan.digest}'"
    ):
        store.open(f"{finished.plan.name:0<64}")
    for name in (finished.plan.digest[:8], "../../elsewhere/123", finished.plan.digest + "0"):
        with pytest.raises(InputError, match="is not the digest of a plan"):
            store.open(name)


def test_a_plan_that_was_changed_in_place_is_refused(tmp_path):
    plan = small_plan()
    assert plan.digest
    plan.settings["method"] = "another"
    with pytest.raises(InputError, match="changed after it was made"):
        Store(tmp_path).open(plan)


def test_other_programs_read_the_files(finished):
    table = pyarrow.parquet.read_table(finished.path(0))
    assert table.column("id").to_pylist() == ["p000", "p001", "p002", "p003"]
    assert pyarrow.parquet.ParquetFile(finished.path(5)).metadata.num_rows == 2


def test_importing_the_store_brings_neither_torch_nor_pyarrow():
    code = "import sys, seewhy.store; sys.exit(bool({'torch', 'pyarrow'} & sys.modules.keys()))"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


def test_without_pyarrow_the_error_names_the_extra_before_anything_is_computed(work, monkeypatch):
    monkeypatch.setitem(sys.modules, "pyarrow", None)
    with pytest.raises(MissingExtraError, match=r"seewhy\[store\]"):
        work.run(lambda items: pytest.fail("computed for nothing"))
