"""`seewhy retrieve`: what it prints and writes, and its answers to bad input."""

import io
import json
from pathlib import Path

import numpy as np
import pytest

from seewhy.cli import run
from seewhy.explanation import Explanation
from small_dataset import write_dataset

MODEL = ("--model", "py:small_dataset:network")


@pytest.fixture
def folder(tmp_path, monkeypatch) -> Path:
    """A working folder with twelve pictures of four colours, in turn, in `data/images`."""
    write_dataset(tmp_path / "data")
    monkeypatch.chdir(tmp_path)
    return tmp_path


def retrieve(*arguments: str) -> int:
    return run(["retrieve", *arguments, "--gallery", "data/images", *MODEL, "--out", "out"])


def test_matches_are_ranked_and_written_with_maps_and_a_report(folder, capsys) -> None:
    assert retrieve("data/images/p00.png", "data/images/p01.png", "--top", "3", "--json") == 0

    results = json.loads(capsys.readouterr().out)
    assert results == json.loads((folder / "out/results.json").read_text())
    assert results["queries"] == {"asked": 2, "answered": 2}
    assert results["gallery"] == {"asked": 12, "searched": 12}
    assert results["embedding"] == {"output": None, "width": 4, "normalised": False}
    assert results["method"]["name"] == "grad-cam"
    for number, item in enumerate(results["items"]):
        assert [match["rank"] for match in item["matches"]] == [1, 2, 3]
        similar = [match["similarity"] for match in item["matches"]]
        assert similar == sorted(similar, reverse=True)
        best = {Path(match["path"]).name for match in item["matches"][:2]}
        assert best == {f"p{number + 4:02}.png", f"p{number + 8:02}.png"}
        kept = Explanation.from_npz(folder / "out" / item["maps"])
        np.testing.assert_allclose(kept.scores.squeeze(1).tolist(), similar * 2, atol=1e-6)
    page = (folder / "out/report.html").read_text(encoding="utf-8")
    for expected in (
        "1. of p00.png: p0",
        "Grad-CAM of the match",
        "Grad-CAM of the query",
        "2 queries asked = 2",
    ):
        assert expected in page
    assert (
        page.count("data:image/webp") == 2 * 3 * 3
    )  # two queries, three matches: its picture, and both maps
    assert "http" not in page.replace("http-equiv", "")


def test_a_map_lies_on_the_picture_that_it_is_of(folder) -> None:
    """The query's map is drawn over the query, though the row is headed by the match."""
    from seewhy.cli.retrieve import _rows
    from seewhy.embedding.retrieve import embed
    from seewhy.embedding.retrieve import retrieve as found_in
    from seewhy.network.images import open_picture
    from small_dataset import network

    paths = [f"data/images/p{n:02}.png" for n in range(12)]
    (found,) = found_in(network(), embed(network(), paths[:1]), embed(network(), paths), top=1)
    (row,) = _rows(found)
    match, query = row.panels
    assert (match.method, match.picture, query.method) == ("match", None, "query")
    assert query.picture.tobytes() == open_picture(paths[0]).tobytes()
    assert row.picture.tobytes() == open_picture(found.matches[0].path).tobytes()


def test_the_summary_counts_and_names_the_best(folder, capsys) -> None:
    assert retrieve("data/images/p02.png") == 0
    printed = capsys.readouterr().out.splitlines()
    assert printed[0] == ("1 queries asked = 1 answered + 0 failed; a gallery of 12 = 12 searched + 0 failed")
    assert printed[1].startswith(
        ("data/images/p02.png: data/images/p06.png (", "data/images/p02.png: data/images/p10.png (")
    )
    assert printed[2] == "report: out/report.html"


def test_broken_pictures_are_rows_with_a_reason_and_exit_code_3(folder, capsys) -> None:
    (folder / "data/images/p05.png").write_bytes(b"broken")
    assert retrieve("data/images/p00.png", "missing.jpg", "--json") == 3

    results = json.loads(capsys.readouterr().out)
    assert [(each["role"], Path(each["path"]).name) for each in results["failed"]] == [
        ("query", "missing.jpg"),
        ("gallery", "p05.png"),
    ]
    assert all(each["reason"] for each in results["failed"])
    assert results["queries"] == {"asked": 2, "answered": 1}
    assert results["gallery"] == {"asked": 12, "searched": 11}
    page = (folder / "out/report.html").read_text(encoding="utf-8")
    assert "Failed (2)" in page
    assert "p05.png" in page


def test_nothing_readable_on_either_side_is_a_failure(folder, capsys) -> None:
    assert retrieve("missing.jpg") == 1
    assert "none of the 1 queries could be read: missing.jpg: no such file" in capsys.readouterr().err
    assert run(["retrieve", "data/images", "--gallery", "nowhere", *MODEL, "--out", "out"]) == 1
    assert "none of the gallery's 1 pictures" in capsys.readouterr().err


def test_a_minus_reads_queries_from_stdin(folder, capsys, monkeypatch) -> None:
    monkeypatch.setattr("sys.stdin", io.StringIO("data/images/p00.png\n\ndata/images/p01.png\n"))
    assert retrieve("-") == 0
    assert "2 queries asked" in capsys.readouterr().out


def test_any_method_and_metric_can_be_asked_for(folder, capsys) -> None:
    arguments = ("data/images/p00.png", "--method", "layer-cam:layer=features.1", "--metric", "inner-product")
    assert retrieve(*arguments, "--output", "0", "--json") == 0
    results = json.loads(capsys.readouterr().out)
    assert (results["method"]["name"], results["metric"]) == ("layer-cam", "inner-product")
    assert results["embedding"]["output"] == 0
    assert results["items"][0]["layers"] == ["features.1"]


def test_the_report_shows_some_and_says_so(folder, capsys) -> None:
    assert retrieve("data/images", "--rows", "1", "--top", "2") == 0
    page = (folder / "out/report.html").read_text(encoding="utf-8")
    assert "The first 1 of 12 queries are shown." in page
    assert "of p01.png" not in page
    assert len(json.loads((folder / "out/results.json").read_text())["items"]) == 12


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["--method", "grad-camm"], "did you mean grad-cam"),
        (["--top", "0"], "--top"),
        (["--rows", "-1"], "--rows"),
        (["--output", "code"], "no tensor 'code'"),
        (["--output", "3"], "there is no output 3"),
        (["--metric", "euclid"], "euclid"),
    ],
)
def test_bad_usage_is_exit_code_2_and_says_what_would_work(folder, capsys, arguments, said) -> None:
    assert retrieve("data/images/p00.png", *arguments) == 2
    assert said in capsys.readouterr().err
