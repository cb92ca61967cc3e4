"""`seewhy bank`: what it prints, and its answers to bad input."""

from __future__ import annotations

import json

import pytest
from toy_embedders import write_squares

from seewhy import Pairs, WeightBank
from seewhy.cli import run
from seewhy.scenes.files import write

MODEL = ("--model", "py:toy_embedders:network")


@pytest.fixture
def folder(tmp_path, monkeypatch):
    write_squares(tmp_path / "data")
    monkeypatch.chdir(tmp_path)
    return tmp_path


def test_a_bank_is_built_verified_listed_appended_to_and_cut(folder, capsys):
    assert run(["bank", "build", "data", *MODEL, "--out", "bank", "--triplets", "8"]) == 0
    assert capsys.readouterr().out == "18 asked = 18 done + 0 failed, in bank\n"
    assert run(["bank", "verify", "bank"]) == 0
    assert capsys.readouterr().out == "whole: 18 entries in bank\n"
    write_squares(folder / "more", 2, first=20)
    assert run(["bank", "append", "more", *MODEL, "--bank", "bank", "--json"]) == 0
    assert json.loads(capsys.readouterr().out) == {"asked": 6, "done": 6, "failed": 0, "bank": "bank"}
    assert run(["bank", "remove", "ant/020.png", "ant/021.png", "--bank", "bank"]) == 0
    assert capsys.readouterr().out == "22 entries left in bank\n"
    assert run(["bank", "list", "bank"]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert len(lines) == 22
    assert sum(line.split("\t")[1] == "ant" for line in lines) == 6
    arguments = ["data/ant/000.png", *MODEL, "--method", "transfer-cam:bank=bank", "--out", "out"]
    assert run(["explain", *arguments]) == 0
    assert "weights of" in (folder / "out/report.html").read_text(encoding="utf-8")


def test_a_damaged_file_is_named_with_exit_code_1(folder, capsys):
    assert run(["bank", "build", "data", *MODEL, "--out", "bank"]) == 0
    (path,) = (folder / "bank").rglob("000000.parquet")
    data = bytearray(path.read_bytes())
    data[len(data) // 2] ^= 4
    path.write_bytes(bytes(data))
    capsys.readouterr()
    assert run(["bank", "verify", "bank"]) == 1
    assert capsys.readouterr().out.strip().endswith("000000.parquet")


def test_an_attribute_says_who_belongs_together(folder, capsys):
    write(Pairs(4, views=3, size=64), folder / "individuals")
    arguments = ["individuals", *MODEL, "--out", "bank", "--label-by", "individual"]
    assert run(["bank", "build", *arguments]) == 0
    assert "12 done + 0 failed" in capsys.readouterr().out
    assert WeightBank("bank").entries.labels.count("cat 2") == 3


def test_a_bank_gives_the_maps_of_retrieval(folder, capsys):
    assert run(["bank", "build", "data", *MODEL, "--out", "bank"]) == 0
    capsys.readouterr()
    arguments = ["data/ant/000.png", "--gallery", "data", *MODEL, "--bank", "bank", "--top", "2", "--json"]
    assert run(["retrieve", *arguments]) == 0
    results = json.loads(capsys.readouterr().out)
    assert results["method"]["name"] == "transfer-cam"
    (item,) = results["items"]
    assert [
        match["notes"]["query"][0].startswith("weights of 'ant/000.png'") for match in item["matches"]
    ] == [True] * 2
    for match in item["matches"]:
        name = "/".join(match["path"].split("/")[-2:])
        assert match["notes"]["match"][0].startswith(f"weights of {name!r}")


def test_a_method_without_a_bank_refuses_one(folder, capsys):
    arguments = ["data/ant/000.png", "--gallery", "data", *MODEL, "--method", "grad-cam", "--bank", "bank"]
    assert run(["retrieve", *arguments]) == 2
    assert "GradCAM: bank" in capsys.readouterr().err


def test_pictures_that_failed_are_exit_code_3(folder, capsys):
    (folder / "data/bee/001.png").write_bytes(b"broken")
    assert run(["bank", "build", "data", *MODEL, "--out", "bank"]) == 3
    assert "17 done + 1 failed" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("arguments", "code", "said"),
    [
        (["build", "nowhere", *MODEL, "--out", "bank"], 2, "nowhere does not exist"),
        (["build", "data", *MODEL, "--out", "bank", "--batch-size", "4"], 2, "batch_size"),
        (["build", "data", *MODEL, "--out", "bank", "--label-by", "owner"], 2, "has no attribute 'owner'"),
        (["build", "data", *MODEL, "--out", "bank", "--layer", "feature"], 1, "no layer 'feature'"),
        (["verify", "nowhere"], 1, "does not exist"),
        (["remove", "a", "--bank", "nowhere"], 1, "does not exist"),
    ],
)
def test_bad_input_is_answered_with_what_is_wrong(folder, capsys, arguments, code, said):
    assert run(["bank", *arguments]) == code
    assert said in capsys.readouterr().err
