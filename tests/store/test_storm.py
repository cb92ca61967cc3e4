"""Killed and resumed, the results are byte for byte those of a run that nothing disturbed."""

import json
import subprocess
import sys
from pathlib import Path

import pytest
from small_work import COLUMNS, contents, small_plan

from seewhy.store import Store

STORM = Path(__file__).with_name("storm.py")


def storm(kind: str, *arguments: object) -> str:
    done = subprocess.run(
        [sys.executable, str(STORM), kind, *map(str, arguments)],
        capture_output=True, text=True, timeout=500, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    return done.stdout


@pytest.mark.parametrize("kills", [20, pytest.param(100, marks=pytest.mark.slow)])
def test_kills_at_random_moments_change_no_byte(tmp_path, kills):
    found = json.loads(storm("random", tmp_path, kills))
    assert len(found["left"]) == kills
    assert len({files for files, _ in found["left"] if 0 < files < found["files"]}) >= 4
    work = Store(tmp_path / "reference").open(small_plan(60))
    assert [row["id"] for row in work.rows()] == [item.id for item in small_plan(60).items]


def test_a_kill_at_any_call_to_the_operating_system_changes_no_byte(tmp_path):
    found = json.loads(storm("each", tmp_path))
    assert len(found["left"]) > 40
    assert {files for files, _ in found["left"]} == set(range(found["files"] + 1))
    assert {temporary for _, temporary in found["left"]} == {0, 1}


def test_of_processes_that_race_each_shard_is_one_s_and_none_is_mixed(tmp_path):
    plan = small_plan(60, columns={**COLUMNS, "who": "int64"})
    made = [int(line) for line in storm("race", tmp_path, 4).split()]
    assert sum(made) == plan.shards
    rows = list(Store(tmp_path).open(plan).rows())
    assert [row["id"] for row in rows] == [item.id for item in plan.items]
    for number in range(plan.shards):
        names = {item.id for item in plan.shard(number)}
        assert len({row["who"] for row in rows if row["id"] in names and row["failed"] is None}) == 1
    assert sorted(Path(name).name for name in contents(tmp_path)) == [
        *(f"{number:06}.parquet" for number in range(plan.shards)), "plan.json",
    ]  # fmt: skip
