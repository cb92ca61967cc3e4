from __future__ import annotations

import json

import numpy as np
import pytest
import two_parts
from PIL import Image

from seewhy import CrispMask, Scenes, Watermark, load
from seewhy.cli import run
from seewhy.datasets import read
from seewhy.errors import InputError
from seewhy.scenes.files import write
from seewhy.summaries.summarize import Recipe, summarize

pytest.importorskip("sklearn")
pytest.importorskip("pyarrow")

QUICK = Recipe(mask=CrispMask(smooth=30, sharp=10))


@pytest.fixture
def things(tmp_path):
    """A folder of two classes of which one has the parts, one picture of clutter among them, and a broken file."""
    for name in ("thing", "clutter"):
        (tmp_path / "data" / name).mkdir(parents=True)
    for number, (pixels, _) in enumerate(two_parts.of_class(8)):
        Image.fromarray(pixels).save(tmp_path / f"data/thing/{number}.png")
    plain = two_parts.picture(7_000_000, ())[0]
    Image.fromarray(plain).save(tmp_path / "data/thing/8.png")
    Image.fromarray(plain).save(tmp_path / "data/clutter/0.png")
    (tmp_path / "data/thing/9.png").write_bytes(b"broken")
    return tmp_path


def test_every_picture_is_summarised_skipped_or_failed_with_a_reason(things, network):
    found = summarize(network, read(things / "data"), "thing", things / "store", QUICK)
    assert found.asked == 10
    assert len(found.subjects) == 8
    assert found.skipped == {"thing/8.png": "taken for clutter"}
    assert list(found.failed) == ["thing/9.png"]
    json.dumps(found.to_json(), allow_nan=False)
    rows = found.rows()
    assert len(rows) == sum(len(each.members) for each in found.summaries) + len(found.rest)


def test_a_run_that_was_stopped_goes_on_and_gives_the_same(things, network, monkeypatch):
    whole = summarize(network, read(things / "data"), "thing", things / "whole", QUICK, batch=3)
    computed, search = [], CrispMask._search
    stop = True

    def counted(self, game, keys, start, end):
        if stop and len(computed) == 2:
            raise KeyboardInterrupt
        computed.append(end - start)
        return search(self, game, keys, start, end)

    monkeypatch.setattr(CrispMask, "_search", counted)
    with pytest.raises(KeyboardInterrupt):
        summarize(network, read(things / "data"), "thing", things / "store", QUICK, batch=3)
    stop, before = False, sum(computed)
    again = summarize(network, read(things / "data"), "thing", things / "store", QUICK, batch=3)
    assert 0 < before < 8
    assert sum(computed) == 8  # no mask was looked for twice
    assert again.to_json() == whole.to_json()


def test_classes_that_are_not_there_are_named(things, network):
    with pytest.raises(InputError, match="its classes are clutter, thing"):
        summarize(network, read(things / "data"), "ant", things / "store", QUICK, target=1)
    with pytest.raises(InputError, match="none of the 1 pictures"):
        summarize(network, read(things / "data"), "clutter", things / "store", QUICK, target=1)


def test_the_command_writes_page_json_and_parquet(tmp_path, capsys, monkeypatch):
    import pyarrow.parquet

    monkeypatch.chdir(tmp_path)
    write(Scenes(6, seed=3, size=64, classes=("fish",)), tmp_path / "fish")
    command = [
        "summarize",
        "fish",
        "--data",
        "fish",
        "--model",
        "demo",
        "--out",
        "out",
        "--mask",
        "smooth=10,sharp=0",
    ]
    assert run(command) == 0
    said = capsys.readouterr().out
    assert "6 asked = " in said
    page = (tmp_path / "out/report.html").read_text(encoding="utf-8")
    assert "What demo looks for in" in page
    assert "http" not in page.replace("http-equiv", "")
    found = json.loads((tmp_path / "out/summaries.json").read_text())
    table = pyarrow.parquet.read_table(tmp_path / "out/regions.parquet")
    assert len(table) == sum(len(each["members"]) for each in found["summaries"]) + len(found["rest"])


@pytest.mark.parametrize(
    ("options", "code", "said"),
    [
        (["--mask", "smoth=3"], 2, "smoth"),
        (["--pictures", "2"], 2, "--pictures at least 3"),
        (["--descriptors", "features"], 2, "--features-of"),
        (["--target", "zebra"], 1, "no class is called 'zebra'"),
    ],
)
def test_bad_input_is_answered_with_what_is_wrong(tmp_path, capsys, options, code, said):
    write(Scenes(2, size=64, classes=("fish",)), tmp_path / "fish")
    command = [
        "summarize",
        "fish",
        "--data",
        str(tmp_path / "fish"),
        "--model",
        "demo",
        "--out",
        str(tmp_path / "out"),
    ]
    assert run([*command, *options]) == code
    assert said in capsys.readouterr().err


def test_the_planted_watermark_is_the_first_summary(tmp_path):
    """Of the network that learnt a hammer by its watermark, pictures that all have both."""
    scenes = Scenes(6, seed=3, classes=("hammer",), watermark=Watermark("hammer"))
    write(scenes, tmp_path / "hammers")
    recipe = Recipe(mask=CrispMask(smooth=40, sharp=15))
    network, manifest = load("demo-shortcut"), read(tmp_path / "hammers")
    found = summarize(network, manifest, "hammer", tmp_path / "store", recipe)
    first = found.summaries[0]
    assert first.significant
    assert first.pictures >= 5
    marks = {item.id: item.truth.shortcut for item in manifest}
    inside = [
        (each.mask & marks[found.subjects[each.subject].id]).sum() / each.mask.sum() for each in first.members
    ]
    covered = [
        (each.mask & marks[found.subjects[each.subject].id]).sum()
        / marks[found.subjects[each.subject].id].sum()
        for each in first.members
    ]
    assert np.median(inside) > 0.7
    assert np.median(covered) > 0.5
    assert first.importance > 0.5
    assert all(each.importance < first.importance for each in found.summaries[1:])
