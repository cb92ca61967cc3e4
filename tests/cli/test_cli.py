"""The command line on a network of one's own, and its answers to bad input."""

import io
import json
import resource
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from seewhy.cli import run
from seewhy.explanation import Explanation

FACTORY = """
import torch
from torch import nn
from seewhy import Network, Preprocess

def network():
    torch.manual_seed(0)
    module = nn.Sequential(
        nn.Conv2d(3, 6, 3, padding=1), nn.ReLU(inplace=True), nn.MaxPool2d(2), nn.Conv2d(6, 8, 3, padding=1),
        nn.ReLU(), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(8, 4),
    )
    preprocess = Preprocess(resize=36, crop=(32, 32), mean=(0.5,) * 3, std=(0.5,) * 3)
    return Network(module, preprocess=preprocess, classes=["ant", "bee", "fire ant, red ant", "crab"])

def flattened():
    return nn.Sequential(nn.Conv2d(3, 4, 3), nn.ReLU(), nn.Flatten(), nn.Linear(3600, 4))
"""


@pytest.fixture
def folder(tmp_path, monkeypatch) -> Path:
    """A working folder with a factory, three pictures of odd sizes and one broken one."""
    (tmp_path / "mine.py").write_text(FACTORY)
    (tmp_path / "pictures").mkdir()
    random = np.random.default_rng(0)
    for name, size in {"a.png": (50, 40), "b.jpg": (33, 90), "c.png": (32, 32)}.items():
        pixels = random.integers(0, 255, (size[1], size[0], 3), dtype=np.uint8)
        Image.fromarray(pixels).save(tmp_path / "pictures" / name)
    monkeypatch.chdir(tmp_path)
    monkeypatch.delitem(sys.modules, "mine", raising=False)
    return tmp_path


def explain(*arguments: str) -> int:
    return run(["explain", *arguments, "--model", "py:mine:network", "--out", "out"])


def test_a_folder_is_explained_and_counted(folder, capsys) -> None:
    assert explain("pictures") == 0

    printed = capsys.readouterr().out.splitlines()
    assert printed == ["3 asked = 3 explained + 0 failed", "report: out/report.html"]
    page = (folder / "out/report.html").read_text(encoding="utf-8")
    assert "a.png" in page
    assert "http" not in page.replace("http-equiv", "")


def test_json_holds_every_prediction_score_layer_and_note(folder, capsys) -> None:
    assert explain("pictures", "--method", "cam", "--method", "grad-cam", "--target", "top2", "--json") == 0

    results = json.loads(capsys.readouterr().out)
    assert results == json.loads((folder / "out/results.json").read_text())
    first = results["items"][0]
    assert [each["method"] for each in first["explanations"]] == ["cam", "grad-cam"]
    best = [each["label"] for each in first["predictions"][:2]]
    assert [each["label"] for each in first["explanations"][0]["targets"]] == best
    assert first["explanations"][0]["layers"] == ["4"]
    assert sum(each["probability"] for each in first["predictions"]) == pytest.approx(1)


def test_maps_are_written_as_the_python_call_gives_them(folder) -> None:
    from seewhy import GradCAM, load

    explain("pictures", "--batch-size", "2")

    network = load("py:mine:network")
    images = network.read(sorted(str(path) for path in (folder / "pictures").iterdir()))
    expected = GradCAM()(network, images).values
    parts = [Explanation.from_npz(path) for path in sorted((folder / "out/maps").iterdir())]
    got = np.concatenate([part.values.numpy() for part in parts])
    np.testing.assert_allclose(got, expected.numpy(), rtol=1e-5, atol=1e-8)


def test_a_broken_picture_is_a_row_with_a_reason_and_exit_code_3(folder, capsys) -> None:
    (folder / "pictures/broken.png").write_bytes((folder / "pictures/a.png").read_bytes()[:200])

    assert explain("pictures", "missing.jpg") == 3

    printed = capsys.readouterr().out
    assert "5 asked = 3 explained + 2 failed" in printed
    results = json.loads((folder / "out/results.json").read_text())
    assert {Path(each["path"]).name for each in results["failed"]} == {"broken.png", "missing.jpg"}
    assert all(each["reason"] for each in results["failed"])
    assert "broken.png" in (folder / "out/report.html").read_text(encoding="utf-8")


def test_nothing_readable_is_a_failure(folder, capsys) -> None:
    assert explain("missing.jpg") == 1
    assert "missing.jpg" in capsys.readouterr().err


def test_a_minus_reads_paths_from_stdin(folder, capsys, monkeypatch) -> None:
    monkeypatch.setattr("sys.stdin", io.StringIO("pictures/a.png\n\npictures/c.png\n"))

    assert explain("-") == 0
    assert "2 asked = 2 explained" in capsys.readouterr().out


def test_labels_tell_right_from_wrong(folder, capsys) -> None:
    explain("pictures", "--json")
    predicted = {
        Path(item["path"]).name: item["predictions"][0]
        for item in json.loads(capsys.readouterr().out)["items"]
    }
    wrong = (predicted["c.png"]["index"] + 1) % 4
    (folder / "labels.csv").write_text(
        f"image,label\na.png,{predicted['a.png']['index']}\nb.jpg,{predicted['b.jpg']['label']}\nc.png,{wrong}\n"
    )

    assert explain("pictures", "--labels", "labels.csv") == 0

    assert "top-1 accuracy 0.667 of 3 labelled pictures" in capsys.readouterr().out
    results = json.loads((folder / "out/results.json").read_text())
    assert [item["correct"] for item in results["items"]] == [True, True, False]


def test_a_bad_label_names_its_line(folder, capsys) -> None:
    (folder / "labels.csv").write_text("image,label\na.png,ant\nb.jpg,spider\n")

    assert explain("pictures", "--labels", "labels.csv") == 2
    assert "line 3" in capsys.readouterr().err


@pytest.mark.parametrize("label", ["spider", "99", "²"])
def test_a_bad_label_in_the_first_line_is_no_header(folder, capsys, label) -> None:
    (folder / "labels.csv").write_text(f"a.png,{label}\nb.jpg,ant\n", encoding="utf-8")
    assert explain("pictures", "--labels", "labels.csv") == 2
    assert "line 1" in capsys.readouterr().err


def test_labels_are_found_by_the_end_of_a_path_and_after_a_byte_order_mark(folder, capsys) -> None:
    (folder / "labels.csv").write_text("pictures/a.png,ant\nb.jpg,ant\n", encoding="utf-8-sig")
    assert explain(str(folder / "pictures"), "--labels", "labels.csv") == 0
    assert "of 2 labelled pictures" in capsys.readouterr().out
    (folder / "labels.csv").write_text("other/a.png,ant\n")
    assert explain(str(folder / "pictures"), "--labels", "labels.csv") == 0
    assert "none of the 1 files that labels.csv names is among the pictures" in capsys.readouterr().err


def test_two_settings_of_a_method_have_pngs_of_their_own(folder) -> None:
    explain("pictures/a.png", "--png", "--method", "grad-cam", "--method", "grad-cam:sign=-1")
    written = sorted((folder / "out/png").iterdir())
    assert len(written) == 2
    assert written[0].read_bytes() != written[1].read_bytes()


def test_file_names_are_short_enough_in_bytes() -> None:
    from seewhy.render.panels import _safe

    assert len(_safe("獅" * 60).encode()) <= 48
    assert _safe("獅" * 60) != _safe("獅" * 61)


def test_a_device_that_is_not_there_is_a_usage_error(folder, capsys) -> None:
    for device in ("cuda:99", "toaster"):
        assert explain("pictures/a.png", "--device", device) == 2
        assert f"--device {device}: " in capsys.readouterr().err


def test_options_for_pictures_are_refused_for_frames(folder, capsys) -> None:
    assert run(["explain", "--frames", "pictures", "--model", "py:mine:network", "--out", "o", "--png"]) == 2
    assert "not for --frames" in capsys.readouterr().err


def test_pngs_carry_their_provenance(folder) -> None:
    explain("pictures/a.png", "--png", "--target", "bee")

    (path,) = (folder / "out/png").iterdir()
    with Image.open(path) as image:
        assert image.text["Source"].endswith("a.png")
        assert (
            image.text["Network"].startswith("py:mine:network sha256:") or "sha256:" in image.text["Network"]
        )
        assert image.text["Target"].startswith("bee (score ")
        assert "'name': 'grad-cam'" in image.text["Method"]


def test_the_report_shows_some_and_counts_all(folder) -> None:
    explain("pictures", "--rows", "1")

    page = (folder / "out/report.html").read_text(encoding="utf-8")
    assert "asked = 3 explained" in page
    assert "The first 1 of 3 explained pictures are shown." in page
    assert len(json.loads((folder / "out/results.json").read_text())["items"]) == 3


def test_a_method_that_does_not_apply_is_left_out_with_its_reason(folder, capsys) -> None:
    (folder / "card.json").write_text(
        json.dumps(
            {
                "mean": [0.5] * 3,
                "std": [0.5] * 3,
                "input_size": [3, 32, 32],
                "crop_pct": 1.0,
                "interpolation": "bilinear",
            }
        )
    )
    arguments = [
        "explain",
        "pictures",
        "--model",
        "py:mine:flattened",
        "--preprocess",
        "card.json",
        "--out",
        "out",
    ]

    assert run([*arguments, "--method", "cam", "--method", "hires-cam"]) == 0
    assert "cam left out: CAM is not defined" in capsys.readouterr().err
    results = json.loads((folder / "out/results.json").read_text())
    assert list(results["refused"]) == ["cam"]
    assert [each["name"] for each in results["methods"]] == ["hires-cam"]

    assert run([*arguments, "--method", "cam"]) == 1


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["--method", "grad-camm"], "did you mean grad-cam"),
        (["--method", "grad-cam:sing=-1"], "its settings are layer, sign, precision"),
        (["--method", "grad-cam:sign=2"], "sign"),
        (["--target", "spider"], "no class is called 'spider'"),
        (["--target", "an"], "0 (ant)"),
        (["--rows", "-1"], "--rows"),
        (["--batch-size", "0"], "--batch-size"),
        (["--labels", "nowhere.csv"], "nowhere.csv"),
    ],
)
def test_bad_usage_is_exit_code_2_and_says_what_would_work(folder, capsys, arguments, said) -> None:
    assert explain("pictures", *arguments) == 2
    assert said in capsys.readouterr().err


def test_an_unknown_layer_lists_those_there_are(folder, capsys) -> None:
    assert explain("pictures", "--layer", "layer4") == 1
    assert "no layer 'layer4'" in capsys.readouterr().err


def test_a_contrast_is_read_from_the_command_line(folder, capsys) -> None:
    assert explain("pictures/a.png", "--target", "fire ant-crab", "--json") == 0

    item = json.loads(capsys.readouterr().out)["items"][0]
    assert item["explanations"][0]["targets"][0]["label"] == "fire ant rather than crab"


def test_several_layers_are_shown_and_combined(folder) -> None:
    assert explain("pictures/a.png", "--method", "layer-cam", "--layer", "1", "--layer", "4", "--png") == 0

    names = sorted(path.stem.rpartition("--")[2] for path in (folder / "out/png").iterdir())
    assert names == ["1", "4", "combined"]


def test_an_unknown_network_suggests_a_near_name(folder, capsys) -> None:
    assert run(["explain", "pictures", "--model", "torchvision:resnet5", "--out", "out"]) == 1
    assert "resnet50" in capsys.readouterr().err


def test_layers_marks_the_choice_and_says_why(folder, capsys) -> None:
    assert run(["layers", "py:mine:network", "--json"]) == 0

    found = json.loads(capsys.readouterr().out)
    (chosen,) = [layer for layer in found if layer["chosen"]]
    assert (chosen["name"], chosen["kind"], chosen["shape"]) == ("4", "ReLU", [1, 8, 16, 16])
    assert "depends on" in chosen["reason"]


def test_layers_of_a_network_without_preprocessing_take_a_size_or_a_card(folder, capsys) -> None:
    assert run(["layers", "py:mine:flattened"]) == 1
    assert "pass --size" in capsys.readouterr().err

    assert run(["layers", "py:mine:flattened", "--size", "32", "32", "--json"]) == 0
    assert [each["name"] for each in json.loads(capsys.readouterr().out) if each["chosen"]] == ["1"]

    card = {
        "mean": [0.5] * 3,
        "std": [0.5] * 3,
        "input_size": [3, 32, 32],
        "crop_pct": 1,
        "interpolation": "box",
    }
    (folder / "card.json").write_text(json.dumps(card))
    assert run(["layers", "py:mine:flattened", "--preprocess", "card.json"]) == 0


def test_layers_prints_a_table(folder, capsys) -> None:
    assert run(["layers", "py:mine:network"]) == 0

    line = next(line for line in capsys.readouterr().out.splitlines() if line.startswith("*"))
    assert line.split()[1:3] == ["4", "ReLU"]


def test_methods_lists_the_registry(capsys) -> None:
    from seewhy import registry

    assert run(["methods", "--json"]) == 0
    found = json.loads(capsys.readouterr().out)
    assert [each["name"] for each in found] == [entry.name for entry in registry.explainers()]
    assert all(each["paper"] and each["needs"] and each["cost"] for each in found)


def in_a_new_process(code: str) -> str:
    return subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout


@pytest.mark.parametrize("command", [["--help"], ["explain", "--help"], ["methods"]])
def test_help_needs_no_torch(command) -> None:
    code = f"import sys; from seewhy.cli import run; run({command!r}); print('torch' in sys.modules)"

    assert in_a_new_process(code).splitlines()[-1] == "False"


def test_importing_seewhy_imports_nothing_heavy() -> None:
    code = "import sys, seewhy; print([m for m in ('torch', 'numpy', 'PIL', 'pydantic') if m in sys.modules])"

    assert in_a_new_process(code).strip() == "[]"


def test_help_takes_under_a_third_of_a_second() -> None:
    times = []
    for _ in range(5):
        before = resource.getrusage(resource.RUSAGE_CHILDREN)
        subprocess.run([sys.executable, "-m", "seewhy", "--help"], capture_output=True, check=True)
        after = resource.getrusage(resource.RUSAGE_CHILDREN)
        times.append(after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime)

    # Processor time, as a busy machine slows the clock on the wall; the fastest of five.
    assert min(times) < 0.3


def test_scenes_are_drawn_into_a_folder_and_read_again(tmp_path, capsys) -> None:
    from seewhy.scenes.files import read

    options = ["--count", "6", "--seed", "3", "--classes", "cat", "--classes", "car", "--watermark", "car"]
    assert run(["scenes", "--out", str(tmp_path / "s"), *options, "--json"]) == 0

    said = json.loads(capsys.readouterr().out)
    kept = list(read(tmp_path / "s"))
    assert said["count"] == len(kept) == sum(said["labels"].values()) == 6
    assert all((each.truth.shortcut is not None) == (each.truth.label == "car") for each in kept)
    assert run(["scenes", "--out", str(tmp_path / "s"), *options]) == 1
    assert "already holds scenes" in capsys.readouterr().err


def test_individuals_come_again_in_views_one_after_the_other(tmp_path) -> None:
    from seewhy.scenes.files import read

    options = ["--count", "6", "--views", "3", "--alike", "2", "--seed", "7", "--size", "64"]
    assert run(["scenes", "--out", str(tmp_path / "s"), *options]) == 0
    names = [kept.truth.objects[0].attributes["individual"] for kept in read(tmp_path / "s")]
    assert names == ["cat 0"] * 3 + ["cat 1"] * 3


@pytest.mark.parametrize(
    "option",
    [
        ["--classes", "unicorn"],
        ["--size", "8"],
        ["--second", "2"],
        ["--probability", "0.5"],
        ["--watermark", ""],
        ["--alike", "2"],
        ["--views", "2"],
        ["--views", "0"],
        ["--views", "1", "--watermark", "cat"],
    ],
)
def test_impossible_scenes_are_a_usage_error(tmp_path, capsys, option) -> None:
    assert run(["scenes", "--out", str(tmp_path / "s"), "--count", "1", *option]) == 2
    assert capsys.readouterr().err.startswith("seewhy: ")
    assert not (tmp_path / "s").exists()


def test_a_file_where_a_folder_should_be_is_one_line_not_a_traceback(tmp_path, capsys) -> None:
    (tmp_path / "taken").write_text("")
    assert run(["scenes", "--out", str(tmp_path / "taken"), "--count", "1"]) == 1
    assert capsys.readouterr().err.startswith("seewhy: ")
