"""`seewhy evaluate` on a small dataset: what it writes, how it resumes, and its answers to bad input."""

import csv
import json
import re
from pathlib import Path

import pytest

import seewhy
from seewhy import datasets
from seewhy.cli import run
from seewhy.cli.evaluate import _explainers, _metrics, _planned
from seewhy.evaluation import evaluate as engine
from seewhy.evaluation.campaign import Campaign
from small_dataset import CLASSES, network, write_dataset

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


SANITY_ALONE = ("--metrics", "randomisation", "--samples", "4")


def test_sanity_may_be_all_that_is_asked_for(folder, capsys) -> None:
    assert evaluate("--methods", "grad-cam", *SANITY_ALONE) == 0
    assert "sanity of grad-cam: " in capsys.readouterr().out
    assert "4</strong> asked = 4 explained + 0 failed" in (folder / "out/report.html").read_text("utf-8")
    assert (folder / "out/table.csv").read_text().startswith("part,subset,method,metric,value")


def test_sanity_alone_leaves_out_a_method_that_is_refused(folder, capsys) -> None:
    assert evaluate("--methods", "grad-cam,transfer-cam", *SANITY_ALONE) == 0
    said = capsys.readouterr()
    assert "randomisation of transfer-cam left out: " in said.err
    assert "sanity of grad-cam: " in said.out


def test_sanity_alone_fails_where_no_method_is_left(folder, capsys) -> None:
    assert evaluate("--methods", "transfer-cam", *SANITY_ALONE) == 1
    assert "seewhy: randomisation of transfer-cam: " in capsys.readouterr().err


@pytest.mark.parametrize("name", ["p00.png", "p05.png"])
def test_sanity_alone_counts_a_picture_that_cannot_be_read(folder, capsys, name) -> None:
    broken = folder / "data/images" / name
    broken.write_bytes(broken.read_bytes()[:1000])  # its header is whole, so that the dataset takes it
    assert evaluate("--methods", "grad-cam", "--metrics", "randomisation") == 3
    page = (folder / "out/report.html").read_text(encoding="utf-8")
    assert "12</strong> asked = 11 explained + 1 failed" in page
    assert name in page
    assert f"failed: {name}: " in capsys.readouterr().out


def test_the_plan_counts_maps_of_random_networks(folder, capsys) -> None:
    methods = "grad-cam,hires-cam,rise:masks=100"
    assert evaluate("--methods", methods, *SANITY_ALONE) == 0
    said = capsys.readouterr().err
    # Two layers of weights, three seeds each; a map takes a forward and a backward.
    assert "randomisation: 4 x 2 methods x 7 networks, the clean one and 2 stages with 3 seeds each" in said
    assert "grad-cam (21 a picture); all left to do" in said
    assert said.count("randomisation of rise left out: a map may take 101 forwards") == 1
    done = json.loads((folder / "out/evaluation.json").read_text())["sanity"]
    assert (done["pictures"], len(done["methods"]), len(done["stages"]), len(done["seeds"])) == (4, 2, 2, 3)
    assert evaluate("--methods", methods, *SANITY_ALONE) == 0
    assert "none left to do" in capsys.readouterr().err


def test_the_plan_names_what_its_minutes_leave_out(folder) -> None:
    methods = [seewhy.SalientRelevance(combine="blurred"), seewhy.SalientRelevance()]
    campaign = Campaign(network(), datasets.read(folder / "data"), methods, [seewhy.Sparseness()], folder)
    (line,) = (line for line in _planned(campaign) if line.startswith("times are those of passes"))
    assert line.endswith("on top; salient-relevance#2 takes seconds of saliency search a map")


def test_a_method_that_is_refused_is_named_with_its_reason(folder, capsys) -> None:
    assert evaluate(*QUICK, "--methods", "grad-cam,transfer-cam") == 0
    (line,) = (line for line in capsys.readouterr().err.splitlines() if line.startswith("transfer-cam"))
    assert line.startswith("transfer-cam left out: ")
    assert "bank" in line


def test_preset_and_changed_settings_stand_with_every_number(folder, capsys) -> None:
    assert evaluate(*QUICK) == 0
    printed = capsys.readouterr().out
    assert printed.count("| method") == printed.count("* insertion-deletion: custom, rows=16\n") > 1
    assert "* average-drop: " in printed
    with (folder / "out/table.csv").open(newline="") as opened:
        protocols = {line["metric"]: line["protocol"] for line in csv.DictReader(opened)}
    assert protocols["insertion-deletion"].startswith("custom, rows=16, score=probability")
    assert protocols.keys() == {"average-drop", "insertion-deletion", "bbox-share"}


def test_a_bound_may_be_on_a_metric_that_another_one_holds(folder, capsys) -> None:
    assert evaluate("--methods", "grad-cam", "--require", "insertion>=0", "--json") == 0
    held = json.loads(capsys.readouterr().out)["requirements"]
    asked = ("--metrics", "insertion", "--require", "insertion>=0", "--json")
    assert evaluate("--methods", "grad-cam", *asked, out="alone") == 0
    alone = json.loads(capsys.readouterr().out)["requirements"]
    assert held[0]["values"] == pytest.approx(alone[0]["values"], abs=1e-9)
    assert evaluate("--methods", "grad-cam", "--require", "insertion>=1.01") == 4


@pytest.mark.parametrize("bound", ["transfer-cam:bbox-share>0", "bbox-share>0"])
def test_a_bound_on_a_method_that_is_refused_does_not_hold(folder, capsys, bound) -> None:
    assert evaluate(*QUICK, "--methods", "grad-cam,transfer-cam", "--require", bound) == 4
    assert f"required {bound}: does not hold: transfer-cam undefined" in capsys.readouterr().out


def test_road_is_drawn_at_the_shares_that_were_replaced(folder) -> None:
    assert evaluate("--methods", "grad-cam", "--metrics", "road", "--samples", "4") == 0
    details = json.loads((folder / "out/evaluation.json").read_text())["parts"][0]["tables"]["random sample"]
    page = (folder / "out/report.html").read_text(encoding="utf-8")
    points = re.search(r'points="([^"]*)"', page).group(1).split()
    removed = details["grad-cam"]["road"]["details"]["removed"]
    start, *across = (float(point.partition(",")[0]) for point in points)
    assert (removed[0], removed[-1], len(across)) == (0.1, 0.9, 9)
    assert across[0] - start == pytest.approx((across[-1] - start) / 9, abs=0.1)


def test_a_bound_that_does_not_hold_is_exit_code_4(folder, capsys) -> None:
    assert evaluate(*QUICK, "--require", "bbox-share>=0.1", "--require", "grad-cam:bbox-share>0.1") == 0
    assert "required bbox-share>=0.1: holds" in capsys.readouterr().out
    assert evaluate(*QUICK, "--require", "bbox-share>=0.1", "--require", "layer-cam:average-drop<-1") == 4
    printed = capsys.readouterr().out
    assert "required layer-cam:average-drop<-1: does not hold: layer-cam" in printed


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["--methods", "grad-camm"], "did you mean grad-cam"),
        (["--methods", "grad-cam:depth=3"], "its settings are"),
        (["--metrics", "bbox-shar"], "did you mean bbox-share"),
        (["--metrics", "insertion:rows=0"], "rows"),
        (["--samples", "1"], "--samples at least 2"),
        (["--require", "insertion"], "write METRIC>=NUMBER"),
        (
            ["--require", "road>0.1"],
            "road is not measured; there are insertion, deletion, insertion-deletion, ",
        ),
        (
            ["--require", "grad-cam3:bbox-share>0.1"],
            "grad-cam3 is not among the methods asked for: grad-cam, ",
        ),
        (
            ["--metrics", "randomisation", "--require", "road>0.1"],
            "road is not measured; --metrics says what is",
        ),
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


def test_all_labels_of_coco_pictures_are_asked_for_as_the_pointing_game_does(folder, capsys) -> None:
    # One file, and 12 pictures: the coloured square of each, and on the first six another thing.
    notes = []
    with (folder / "data/boxes.csv").open(newline="") as opened:
        for number, each in enumerate(csv.DictReader(opened)):
            x0, y0, x1, y1 = (int(each[edge]) for edge in ("x0", "y0", "x1", "y1"))
            notes.append((number, CLASSES[number % 4], x0, y0, x1, y1))
            if number < 6:
                notes.append((number, CLASSES[(number + 1) % 4], 36, 36, 40, 40))
    outlines = {
        "images": [
            {"id": n, "file_name": f"p{n:02}.png", "height": 40, "width": 40} for n in range(12)
        ],
        "annotations": [
            {"id": n, "image_id": image, "category_id": 1 + CLASSES.index(name), "iscrowd": 0,
             "area": (x1 - x0) * (y1 - y0), "bbox": [x0, y0, x1 - x0, y1 - y0],
             "segmentation": [[x0, y0, x1, y0, x1, y1, x0, y1]]}
            for n, (image, name, x0, y0, x1, y1) in enumerate(notes)
        ],
        "categories": [{"id": 1 + n, "name": name} for n, name in enumerate(CLASSES)],
    }  # fmt: skip
    (folder / "coco/annotations").mkdir(parents=True)
    (folder / "coco/annotations/instances_val2017.json").write_text(json.dumps(outlines))
    (folder / "data/images").rename(folder / "coco/val2017")
    arguments = ("--methods", "grad-cam", "--metrics", "pointing-game:preset=coco14,tolerance=0", "--json")
    model = ("--model", "py:small_dataset:network", "--out", "out")
    assert run(["evaluate", "coco", *model, "--target", "labels", *arguments]) == 0
    said = capsys.readouterr()
    assert "pictures: 12 x 5 methods and controls" in said.err
    cell = json.loads(said.out)["parts"][0]["tables"]["random sample"]["grad-cam"]["pointing-game"]
    assert (cell["pictures"], cell["undefined"]) == (12, 0)
    # The network sees the squares and nothing else: 6 of 6 asked for the other things miss.
    shares = {"ant": 3 / 4, "bee": 3 / 5, "crab": 3 / 5, "dog": 3 / 4}
    assert cell["details"]["classes"] == pytest.approx([shares[name] for name in CLASSES])
    page = (folder / "out/report.html").read_text(encoding="utf-8")
    assert "#18 of 18" in page


def test_a_broken_picture_is_counted_and_exit_code_3(folder, capsys) -> None:
    (folder / "data/images/p05.png").write_bytes(b"broken")
    assert evaluate(*QUICK) == 3
    assert "p05.png" in (folder / "out/report.html").read_text(encoding="utf-8")


def test_all_methods_and_metrics_are_those_of_the_registry(monkeypatch) -> None:
    from seewhy import registry

    assert [each.name for each in _explainers(["all"], None)] == [each.name for each in registry.explainers()]
    found, sanity = _metrics(["all"], "auto")
    assert [each.name for each in found] == [each.name for each in registry.metrics()]
    assert sanity
    assert {each.precision for each in found if hasattr(each, "precision")} == {"auto"}
