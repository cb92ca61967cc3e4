"""`seewhy evaluate` on a small dataset: what it writes, how it resumes, and its answers to bad input."""

import csv
import json
from pathlib import Path

import pytest

from seewhy.cli import run
from seewhy.evaluation import evaluate as engine
from small_dataset import write_dataset

QUICK = ("--methods", "grad-cam,layer-cam", "--metrics", "average-drop,insertion-deletion:rows=16,bbox-share")


@pytest.fixture
def folder(tmp_path, monkeypatch) -> Path:
    """A working folder with the dataset in `data`."""
    write_dataset(tmp_path / "data")
    monkeypatch.chdir(tmp_path)
    return tmp_path


def evaluate(*arguments: str, out: str = "out") -> int:
    return run(["evaluate", "data", "--model", "py:small_dataset:network", "--out", out, *arguments])


def test_it_prints_a_table_and_writes_report_numbers_and_rows(folder, capsys) -> None:
    assert evaluate(*QUICK) == 0

    said = capsys.readouterr()
    assert "12 x 6 methods and controls" in said.err
    assert "72 of 72 left to do" in said.err
    assert "pictures: 12 asked = 12 explained + 0 failed" in said.out
    assert "| (centred-gaussian) |" in said.out.replace("  ", "")
    results = json.loads((folder / "out/evaluation.json").read_text())
    (part,) = results["parts"]
    with (folder / "out/table.csv").open(newline="") as opened:
        lines = list(csv.DictReader(opened))
    for line in (line for line in lines if line["subset"] == "random sample"):
        cell = part["tables"]["random sample"][line["method"]][line["metric"]]
        assert float(line["value"]) == cell["value"]
        assert cell["low"] <= cell["value"] <= cell["high"]
    page = (folder / "out/report.html").read_text(encoding="utf-8")
    for expected in (
        "<svg",
        "boxes below 33% of the picture",
        "Grad-CAM: its best and its worst",
        "rows=16",
        "†",
    ):
        assert expected in page
    assert "<script" not in page


def test_the_same_command_again_computes_nothing_and_says_the_same(folder, capsys, monkeypatch) -> None:
    assert evaluate(*QUICK, "--json") == 0
    first = json.loads(capsys.readouterr().out)
    monkeypatch.setattr(engine, "explain_all", None)
    assert evaluate(*QUICK, "--json") == 0
    again = capsys.readouterr()
    assert json.loads(again.out) == first
    assert "0 of 72 left to do" in again.err


def test_interrupted_it_says_so_and_goes_on_where_it_was(folder, capsys, monkeypatch) -> None:
    explain_all = engine.explain_all
    calls = iter(range(1))

    def until_the_second(*arguments, **options):
        if next(calls, None) is None:
            raise KeyboardInterrupt
        return explain_all(*arguments, **options)

    assert evaluate(*QUICK, "--batch-size", "4", out="whole") == 0
    monkeypatch.setattr(engine, "explain_all", until_the_second)
    assert evaluate(*QUICK, "--batch-size", "4") == 130
    monkeypatch.setattr(engine, "explain_all", explain_all)
    assert "the same command goes on" in capsys.readouterr().err
    assert evaluate(*QUICK, "--batch-size", "4") == 0
    assert "48 of 72 left to do" in capsys.readouterr().err
    for name in ("table.csv", "evaluation.json"):
        assert (folder / "out" / name).read_bytes() == (folder / "whole" / name).read_bytes(), name


def test_sanity_says_which_maps_die(folder, capsys) -> None:
    assert (
        evaluate("--methods", "grad-cam,eigen-cam", "--metrics", "sparseness,randomisation", "--samples", "4")
        == 0
    )
    printed = capsys.readouterr().out
    assert "sanity of grad-cam: " in printed
    assert "sanity of eigen-cam: " in printed
    assert "does not depend on the last layer" in printed
    assert "ignores the last layer" in (folder / "out/report.html").read_text(encoding="utf-8")


def test_a_bound_that_does_not_hold_is_exit_code_4(folder, capsys) -> None:
    assert evaluate(*QUICK, "--require", "bbox-share>=0.1", "--require", "grad-cam:bbox-share>0.1") == 0
    assert "required bbox-share>=0.1: holds" in capsys.readouterr().out
    assert evaluate(*QUICK, "--require", "bbox-share>=0.1", "--require", "layer-cam:average-drop<-1") == 4
    printed = capsys.readouterr().out
    assert "required layer-cam:average-drop<-1: does not hold: layer-cam" in printed
    assert evaluate(*QUICK, "--require", "rise:bbox-share>0") == 4
    assert "nobody was measured" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["--methods", "grad-camm"], "did you mean grad-cam"),
        (["--methods", "grad-cam:depth=3"], "its settings are"),
        (["--metrics", "bbox-shar"], "did you mean bbox-share"),
        (["--metrics", "insertion:rows=0"], "rows"),
        (["--samples", "1"], "--samples at least 2"),
        (["--require", "insertion"], "write METRIC>=NUMBER"),
        (["--require", "road>0.1"], "road is not measured"),
        (["--kind", "tiff"], "no kind of dataset"),
        (["--split", "val"], "split"),
    ],
)
def test_what_cannot_be_asked_is_a_usage_error(folder, capsys, arguments, said) -> None:
    assert evaluate(*arguments) == 2
    assert said in capsys.readouterr().err


def test_a_folder_without_truth_is_explained_for_predictions(folder, capsys) -> None:
    arguments = ["--methods", "grad-cam", "--metrics", "average-drop,bbox-share", "--out", "out"]
    assert run(["evaluate", "data/images", "--model", "py:small_dataset:network", *arguments]) == 0
    said = capsys.readouterr()
    assert "bbox-share left out" in said.err
    assert "average-drop" in said.out


def test_a_broken_picture_is_counted_and_exit_code_3(folder, capsys) -> None:
    (folder / "data/images/p05.png").write_bytes(b"broken")
    assert evaluate(*QUICK) == 3
    assert "p05.png" in (folder / "out/report.html").read_text(encoding="utf-8")


def test_all_methods_and_metrics_are_those_of_the_registry(monkeypatch) -> None:
    from seewhy import registry
    from seewhy.cli.evaluate import _explainers, _metrics

    assert [each.name for each in _explainers(["all"], None)] == [each.name for each in registry.explainers()]
    found, sanity = _metrics(["all"], "auto")
    assert [each.name for each in found] == [each.name for each in registry.metrics()]
    assert sanity
    assert {each.precision for each in found if hasattr(each, "precision")} == {"auto"}
