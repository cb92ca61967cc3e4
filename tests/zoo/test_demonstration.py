"""The demonstration finds the planted fault, and says nothing where there is none."""

import json
from html import escape

import pytest

from seewhy.cli import run
from seewhy.network.images import open_picture
from seewhy.zoo.demonstration import STEPS, Accuracy, Finding, Findings, demonstrate


@pytest.fixture(scope="module")
def found(tmp_path_factory):
    steps = []
    folder = tmp_path_factory.mktemp("demo")
    (folder / "scenes").mkdir()
    for name in ("07-mine.png", "07-cat.png"):  # the reader's own, and one of an earlier run
        (folder / "scenes" / name).write_bytes(b"")
    result = demonstrate(folder, count=20, shown=2, step=lambda: steps.append(1))
    assert len(steps) == STEPS
    return result


def test_only_the_network_that_cheats_is_caught(found) -> None:
    assert found.caught() == ["demo-shortcut"]
    assert found.verdict().startswith("demo-shortcut looks at the watermark, not at the hammer")
    clean, cheat = found.accuracies
    assert clean.others_called_it <= 0.1
    assert cheat.without_mark < cheat.with_mark


def test_the_clean_network_s_evidence_lies_on_the_object(found) -> None:
    for finding in found.findings:
        if finding.network == "demo":
            assert finding.on_object > 2 * finding.on_mark


def test_the_report_shows_both_networks_and_the_scenes_are_kept(found) -> None:
    page = found.report.read_text(encoding="utf-8")
    assert page.count("<img") == 4 * (1 + 6)  # four scenes: each itself, and three maps of two networks
    assert found.verdict() in page
    for title, head, rows in found.tables():
        assert all(escape(text) in page for text in (title, *head, *rows[0]))
    mine, *others = sorted(
        (found.report.parent / "scenes").iterdir(), key=lambda each: each.name != "07-mine.png"
    )
    assert mine.name == "07-mine.png"
    pictures = sorted(others)
    assert [open_picture(each).size for each in pictures] == [(128, 128)] * 4


def test_nobody_is_accused_unless_every_method_does_so(tmp_path) -> None:
    fine = Finding("demo", "grad-cam", 0.05, 0.03, 0.6, 0.1)
    half = (fine, Finding("demo", "layer-cam", 0.5, 0.03, 0.1, 0.1))
    accuracy = (Accuracy("demo", 1.0, 1.0, 0.0),)
    for findings in ((fine,), half):
        assert Findings("cat", 9, findings, accuracy, tmp_path).caught() == []
    assert "accused by every method" in Findings("cat", 9, half, accuracy, tmp_path).verdict()


def test_the_verdict_does_not_round_up(tmp_path) -> None:
    finding = Finding("demo", "grad-cam", 0.0897, 0.01, 0.1, 0.1)
    assert "at least 8 times" in Findings("cat", 9, (finding,), (), tmp_path).verdict()


def test_the_command_prints_findings_as_a_table_or_as_json(tmp_path, capsys, monkeypatch) -> None:
    monkeypatch.setattr(
        "seewhy.zoo.demonstration.Scenes", lambda count, *args, **kwargs: small(*args, **kwargs)
    )
    assert run(["demo", "--out", str(tmp_path / "a")]) == 0
    printed = capsys.readouterr().out
    assert "demo-shortcut" in printed
    assert f"report: {tmp_path / 'a' / 'report.html'}" in printed

    assert run(["demo", "--out", str(tmp_path / "b"), "--json"]) == 0
    told = json.loads(capsys.readouterr().out)
    assert told["caught"] == ["demo-shortcut"]
    assert {each["network"] for each in told["findings"]} == {"demo", "demo-shortcut"}


def small(*args, **kwargs):
    from seewhy.scenes import Scenes

    return Scenes(8, *args, **kwargs)
