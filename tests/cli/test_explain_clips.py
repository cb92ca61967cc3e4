"""`seewhy explain --frames`."""

import json

import numpy as np
import pytest
from PIL import Image

from seewhy.cli import run
from seewhy.scenes import Clips


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """Nineteen frames of drawn clips."""
    folder = tmp_path_factory.mktemp("frames")
    frames = [frame for clip in Clips(2, 2, seed=8)[1:] for frame in clip.frames]
    for number, frame in enumerate(frames[:19]):
        frame.image.save(folder / f"{number}.png")
    return folder


def results(out):
    return json.loads((out / "results.json").read_text(encoding="utf-8"))


def test_clips_become_strips_animations_values_and_a_report(folder, tmp_path, capsys) -> None:
    out = tmp_path / "out"
    given = ["explain", "--frames", str(folder), "--model", "demo-clip-retriever", "--out", str(out)]
    assert run([*given, "--clip-length", "4", "--every", "2"]) == 0

    assert "2 asked = 2 clips explained + 0 failed" in capsys.readouterr().out
    first, second = results(out)["items"]
    assert first["frames"] == ["0.png", "2.png", "4.png", "6.png"]
    assert second["frames"][-1] == "14.png"
    assert sum(first["weights"]) == pytest.approx(1, abs=1e-5)
    for each in (first, second):
        with Image.open(out / each["strip"]) as strip:
            assert strip.width > 4 * 140
        with np.load(out / each["maps"], allow_pickle=False) as values:
            assert values["values"].shape == (1, 4, 8, 8)
    with Image.open(out / "animations" / "000001.webp") as animation:
        assert animation.n_frames == 4
    report = (out / "report.html").read_text(encoding="utf-8")
    assert report.count("data:image/webp") == 2
    assert "one budget for all frames" in report
    assert "All maps of a clip have one scale" in report


def test_a_network_of_pictures_is_averaged_over_the_frames_and_a_class_can_be_raised(
    folder, tmp_path, capsys
) -> None:
    given = ["explain", "--frames", str(folder), "--model", "demo", "--clips", "1", "--every", "2", "--out"]
    out = tmp_path / "out"
    options = ["--target", "hammer", "--animation", "none", "--method", "clip-attention:budget=per-frame"]
    assert run([*given, str(out), *options]) == 0

    assert "averaged" in capsys.readouterr().err
    found = results(out)
    assert found["method"]["mode"] == "class"
    assert found["method"]["budget"] == "per-frame"
    assert found["items"][0]["frames"] == [f"{2 * number}.png" for number in range(8)]
    assert not (out / "animations").exists()
    assert "averaged" in (out / "report.html").read_text(encoding="utf-8")


def test_a_broken_frame_is_a_failure_with_a_reason(folder, tmp_path) -> None:
    broken = tmp_path / "frames"
    broken.mkdir()
    for path in folder.iterdir():
        (broken / path.name).write_bytes(path.read_bytes() if path.stem != "3" else b"nothing")
    out = tmp_path / "out"
    given = [
        "explain",
        "--frames",
        str(broken),
        "--model",
        "demo-clip-retriever",
        "--out",
        str(out),
        "--json",
    ]
    assert run([*given, "--animation", "none"]) == 3

    found = results(out)
    assert (found["clips"], found["explained"]) == (2, 1)
    assert "3.png" in found["failed"][0]["reason"]


@pytest.mark.parametrize(
    ("options", "reason"),
    [
        (["picture.png"], "instead of pictures"),
        (["--method", "grad-cam"], "clip-attention"),
        (["--method", "clip-attention", "--method", "clip-attention"], "one --method"),
        (["--clip-length", "0"], "at least 1"),
        (["--method", "clip-attention:budget=most"], "budget"),
    ],
)
def test_what_does_not_go_together_is_said(folder, tmp_path, capsys, options, reason) -> None:
    given = ["explain", "--frames", str(folder), "--model", "demo-clip-retriever", "--out", str(tmp_path)]
    assert run([*given, *options]) == 2
    assert reason in capsys.readouterr().err


def test_too_few_frames_are_an_error(folder, tmp_path, capsys) -> None:
    given = ["explain", "--frames", str(folder), "--model", "demo-clip-retriever", "--out", str(tmp_path)]
    assert run([*given, "--clip-length", "20"]) == 1
    assert "has 19 frames" in capsys.readouterr().err


def test_clips_are_drawn_as_folders_of_frames(tmp_path, capsys) -> None:
    out = tmp_path / "clips"
    given = ["scenes", "--frames", "3", "--seed", "8", "--size", "48", "--out", str(out)]
    assert run([*given, "--count", "4", "--json"]) == 0

    assert json.loads(capsys.readouterr().out) == {"out": str(out), "count": 4, "frames": 3}
    lines = [json.loads(line) for line in (out / "clips.jsonl").read_text(encoding="utf-8").splitlines()]
    assert [each["folder"] for each in lines] == ["000000", "000001", "000002", "000003"]
    for line, clip in zip(lines, Clips(2, 2, 8, 3, size=48), strict=True):
        assert line["individual"] == clip.individual
        assert line["deciding"] == list(clip.deciding)
        with Image.open(out / line["folder"] / "000002.png") as picture:
            assert np.array_equal(np.asarray(picture), clip.frames[2].pixels)


@pytest.mark.parametrize("options", [["--count", "3"], ["--count", "2", "--watermark", "hammer"]])
def test_clips_that_cannot_be_drawn_are_refused(tmp_path, capsys, options) -> None:
    assert run(["scenes", "--frames", "3", "--out", str(tmp_path / "clips"), *options]) == 2
    assert "--frames" in capsys.readouterr().err
