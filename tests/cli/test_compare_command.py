"""`seewhy compare`: what networks answer, which pictures are chosen, what is written, and answers to bad input."""

import json
from pathlib import Path

import pytest
import torch
from PIL import Image

from seewhy.cli import run
from seewhy.explanation import Explanation
from small_dataset import CLASSES, network, write_dataset

# The second network takes every dog (red and green together) for an ant, and crabs for bees.
FACTORY = """
import torch
from small_dataset import CLASSES, network
import seewhy

def mistaken():
    found = network()
    with torch.no_grad():
        found.module.head.weight[[3, 2]] = -1.0
    return found

def other_size():
    preprocess = seewhy.Preprocess(resize=(24, 24), mean=(0.5,) * 3, std=(0.5,) * 3)
    return seewhy.Network(network().module, preprocess=preprocess, classes=CLASSES)

def any_size():
    preprocess = seewhy.Preprocess(mean=(0.0,) * 3, std=(1.0,) * 3)
    return seewhy.Network(network().module, preprocess=preprocess, classes=CLASSES)

def images():
    return seewhy.Network(torch.nn.Conv2d(3, 1, 1), preprocess=network().preprocess)
"""
RIGHT, MISTAKEN = "py:small_dataset:network", "py:rivals:mistaken"
QUICK = ("--method", "grad-cam")


@pytest.fixture
def folder(tmp_path, monkeypatch) -> Path:
    """A working folder with twelve pictures of four classes, in turn, in `data`, and networks in `rivals.py`."""
    write_dataset(tmp_path / "data")
    (tmp_path / "rivals.py").write_text(FACTORY)
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.delitem(__import__("sys").modules, "rivals", raising=False)
    monkeypatch.chdir(tmp_path)
    return tmp_path


def compare(
    *arguments: str, models: tuple[str, ...] = (RIGHT, MISTAKEN), methods: tuple[str, ...] = QUICK
) -> int:
    named = [part for model in models for part in ("--model", model)]
    return run(["compare", *arguments, *named, *methods, "--out", "out"])


def results(folder: Path) -> dict:
    return json.loads((folder / "out/results.json").read_text())


def test_every_network_answers_every_picture_and_the_maps_stand_side_by_side(folder, capsys) -> None:
    assert compare("data/images", "--labels", "data/labels.csv", "--json") == 0

    found = json.loads(capsys.readouterr().out)
    assert found == results(folder)
    assert (found["asked"], found["answered"], found["explained"]) == (12, 12, 12)
    assert [(each["name"], each["right"], each["labelled"]) for each in found["networks"]] == [
        (RIGHT, 12, 12),
        (MISTAKEN, 6, 12),
    ]
    for number, item in enumerate(found["items"]):
        first, second = item["answers"]
        assert first["label"] == item["truth"] == CLASSES[number % 4]
        assert first["correct"]
        assert second["correct"] == (number % 4 < 2) == (second["label"] == item["truth"])
    page = (folder / "out/report.html").read_text(encoding="utf-8")
    assert page.count("data:image/webp") == 12 * 3  # a picture and both networks' maps
    assert f"{RIGHT} says crab ✓" in page
    assert f"{MISTAKEN} says crab" not in page
    assert "http" not in page.replace("http-equiv", "")


def test_pictures_of_several_sizes_are_explained_one_by_one_where_networks_take_any(folder, capsys) -> None:
    for number, size in enumerate([(40, 30), (50, 60), (50, 60), (40, 30)]):
        Image.new("RGB", size, (200, 30, 30)).save(folder / f"size{number}.png")
    pictures = [f"size{number}.png" for number in range(4)]
    two = ("py:rivals:any_size", "py:rivals:any_size")
    assert compare(*pictures, "--batch-size", "2", models=two) == 1
    assert "(--batch-size 1)" in capsys.readouterr().err
    assert compare(*pictures, "--batch-size", "1", models=two) == 0
    assert results(folder)["explained"] == 4


def test_by_default_salient_relevance_stands_beside_lrp_and_its_blur_and_all_share_one_pass(
    folder, monkeypatch
) -> None:
    import seewhy
    from seewhy.saliency import Saliency

    searched, passed = [], []
    propagated = seewhy.LRP._propagated
    monkeypatch.setattr(
        seewhy.ContextAwareSaliency,
        "__call__",
        lambda _, maps: searched.append(1) or Saliency(maps.amax(1), ((),) * len(maps)),
    )
    monkeypatch.setattr(seewhy.LRP, "_propagated", lambda *given: passed.append(1) or propagated(*given))
    assert compare("data/images/p03.png", methods=()) == 0

    assert [(each["name"], each.get("combine")) for each in results(folder)["methods"]] == [
        ("lrp", None),
        ("salient-relevance", "blurred"),
        ("salient-relevance", "multiply"),
    ]
    assert len(searched) == len(passed) == 2  # a network each
    page = (folder / "out/report.html").read_text(encoding="utf-8")
    assert page.count("data:image/webp") == 1 + 2 * 3
    for name in (RIGHT, MISTAKEN):
        for title in ("LRP", "Salient Relevance (combine blurred)", "Salient Relevance#2 (combine multiply)"):
            assert f"<strong>{name}: {title}</strong>" in page


@pytest.mark.parametrize(
    ("only", "expected"),
    [
        ("all", range(12)),
        ("disagree", [2, 3, 6, 7, 10, 11]),
        ("first-right", [2, 3, 6, 7, 10, 11]),
        ("some-right", [2, 3, 6, 7, 10, 11]),
        ("all-right", [0, 1, 4, 5, 8, 9]),
        ("first-wrong", []),
        ("all-wrong", []),
    ],
)
def test_pictures_are_chosen_by_who_is_right(folder, capsys, only, expected) -> None:
    assert compare("--dataset", "data", "--only", only) == 0

    found = results(folder)
    explained = [Path(each["path"]).name for each in found["items"] if each["maps"]]
    assert explained == [f"p{number:02}.png" for number in expected]
    assert found["counts"][only] == found["chosen"] == len(expected)
    assert (found["report"] is None) == (not expected)
    last = capsys.readouterr().out.splitlines()[-1]
    assert last == ("report: out/report.html" if expected else "no report: nothing to show")


def test_without_labels_networks_can_still_disagree(folder) -> None:
    assert compare("data/images", "--only", "disagree") == 0
    found = results(folder)
    assert found["counts"] == {"all": 12, "disagree": 6}
    assert {each["correct"] for item in found["items"] for each in item["answers"]} == {None}


def test_each_network_reads_pictures_by_its_own_preprocessing(folder) -> None:
    assert compare("data/images/p03.png", models=(RIGHT, "py:rivals:other_size")) == 0
    kept = [
        Explanation.from_npz(folder / "out/maps" / f"000000--{number}--grad-cam.npz") for number in (0, 1)
    ]
    assert [each.size for each in kept] == [(32, 32), (24, 24)]


def test_the_maps_are_those_of_each_network_alone_for_what_it_says_itself(folder) -> None:
    import seewhy

    assert compare("data/images/p00.png", "data/images/p03.png", "--batch-size", "1") == 0
    second = seewhy.load(MISTAKEN)
    alone = seewhy.GradCAM()(second, second.read("data/images/p03.png"))
    kept = Explanation.from_npz(folder / "out/maps/000001--1--grad-cam.npz")
    torch.testing.assert_close(kept.values, alone.values)
    assert kept.labels == alone.labels != (("dog",),)


def test_the_label_can_be_explained_by_all(folder) -> None:
    assert compare("--dataset", "data", "--target", "label", "--rows", "4") == 0
    found = results(folder)
    assert (found["explained"], found["chosen"]) == (4, 12)
    for number in (0, 1):
        kept = Explanation.from_npz(folder / f"out/maps/000000--{number}--grad-cam.npz")
        assert [label for (label,) in kept.labels] == CLASSES
    assert "The first 4 of 12 pictures are shown" in (folder / "out/report.html").read_text(encoding="utf-8")


def test_weights_are_given_once_for_all_or_once_for_each(folder) -> None:
    from safetensors.torch import save_file

    import seewhy

    state = network().module.state_dict()
    save_file({name: torch.zeros_like(each) for name, each in state.items()}, folder / "zero.safetensors")
    assert compare("data/images/p02.png", "--weights", "own", "--weights", "zero.safetensors") == 0
    digests = [each["digest"] for each in results(folder)["networks"]]
    assert digests[0] == seewhy.load(RIGHT).digest
    assert results(folder)["items"][0]["answers"][1]["probability"] == pytest.approx(0.25)


def test_a_broken_picture_is_a_row_with_a_reason_and_exit_code_3(folder, capsys) -> None:
    assert compare("data/images/p00.png", "missing.jpg") == 3
    assert "2 asked = 1 answered + 1 failed" in capsys.readouterr().out
    assert "Failed (1)" in (folder / "out/report.html").read_text(encoding="utf-8")


def test_a_network_that_names_no_classes_is_a_failure_that_names_it(folder, capsys) -> None:
    assert compare("data/images/p00.png", models=(RIGHT, "py:rivals:images")) == 1
    assert "py:rivals:images gives (1, 1, 32, 32), not scores of classes" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("arguments", "models", "reason"),
    [
        (["data/images"], (RIGHT,), "--model A --model B"),
        ([], (RIGHT, MISTAKEN), "give pictures, or a --dataset"),
        (["data/images", "--dataset", "data"], (RIGHT, MISTAKEN), "one of the two"),
        (["--dataset", "data", "--labels", "x.csv"], (RIGHT, MISTAKEN), "leave --labels out"),
        (
            ["data/images", "--only", "first-right"],
            (RIGHT, MISTAKEN),
            "give --labels CSV or --dataset FOLDER",
        ),
        (["data/images", "--target", "label"], (RIGHT, MISTAKEN), "p00.png is not known"),
        (["data/images", "--target", "unicorn"], (RIGHT, MISTAKEN), "--target unicorn"),
        (["data/images", "--rows", "-1"], (RIGHT, MISTAKEN), "--rows must be at least 0"),
        (["data/images", *["--classes", "x"] * 3], (RIGHT, MISTAKEN), "--classes is given 3 times for 2"),
        (["nothing*"], (RIGHT, "py:rivals:nobody"), "nobody"),
    ],
)
def test_bad_input_is_named_and_what_would_work_is_said(folder, capsys, arguments, models, reason) -> None:
    assert compare(*arguments, models=models) in (1, 2)
    assert reason in capsys.readouterr().err


def test_networks_of_one_name_get_numbers(folder) -> None:
    assert compare("data/images/p00.png", models=(RIGHT, RIGHT)) == 0
    assert [each["name"] for each in results(folder)["networks"]] == [RIGHT, f"{RIGHT}#2"]
