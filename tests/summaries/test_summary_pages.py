"""The commands that write what the docs say of summaries, and the loop that masks are measured against."""

from __future__ import annotations

import pytest
import torch
from benchmarks import class_summaries, loops, page, sections, summaries, summary_counts
from torch import nn

from seewhy import CrispMask
from seewhy.summaries.clustering import Clustering
from seewhy.summaries.summarize import Recipe, summarized
from seewhy.zoo.train import Recipe as Training

pytest.importorskip("sklearn")


@pytest.fixture(scope="module")
def found(network, case):
    recipe = Recipe(clustering=Clustering(resamples=20))
    return summarized(network, case.pixels[:12], case.subjects[:12], 1, recipe)


def small():
    torch.manual_seed(0)
    return nn.Sequential(
        nn.Conv2d(3, 8, 5, 2), nn.ReLU(), nn.Conv2d(8, 8, 3, 2), nn.ReLU(),
        nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(8, 3),
    ).eval()  # fmt: skip


def test_the_loop_gives_the_mask_of_the_reference_preset():
    module, images = small(), torch.rand(2, 3, 96, 96, generator=torch.Generator().manual_seed(1))
    with torch.no_grad():
        module[6].weight *= 40
    ours = CrispMask.from_preset("reference", smooth=6, sharp=4)(module, images, 1).values[:, 0]
    for row in range(2):
        kept = loops.crisp_mask(module, images[row : row + 1], 1, 6, 4)
        # Adam's steps are as long for small gradients as for large ones, so rounding moves single pixels.
        assert ((1 - kept) - ours[row]).abs().median() < 1e-5
        assert ((1 - kept) - ours[row]).abs().mean() < 1e-2


def test_text_goes_between_the_comments_that_bear_its_name(tmp_path, monkeypatch):
    monkeypatch.setattr(page, "DOCS", tmp_path / "docs")
    path = tmp_path / "docs" / "page.md"
    path.parent.mkdir()
    path.write_text("# Title\n<!-- one -->\nold\n<!-- end of one -->\nby hand\n")
    page.insert(path, "one", "new")
    assert path.read_text() == "# Title\n<!-- one -->\nnew\n<!-- end of one -->\nby hand\n"
    with pytest.raises(ValueError, match="no <!-- two -->"):
        page.insert(path, "two", "new")


def test_both_pages_have_the_places_that_are_written():
    text = (page.DOCS / "summaries.md").read_text()
    for module in (class_summaries.MODULE, summary_counts.MODULE):
        assert text.count(f"<!-- {module} -->") == text.count(f"<!-- end of {module} -->") == 1


def test_a_row_for_each_class_and_each_summary(found):
    values = found.to_json()
    said = list(class_summaries.text([values, {**values, "class": "other"}]))
    assert len(said[1].splitlines()) == 2 + 2
    assert len(said[2].splitlines()) == 2 + 2 * len(found.summaries)
    assert len(found.summaries) >= 1
    assert class_summaries.shown(found).width > class_summaries.shown(found).height


def test_correlations_have_intervals():
    rising = summary_counts.correlation(list(range(10)), [2.0 * n for n in range(10)])
    assert rising == pytest.approx((1.0, 1.0, 1.0))
    assert summary_counts.correlation(list(range(10)), [1.0] * 10) == (0.0, 0.0, 0.0)
    draw = torch.rand(2, 40, generator=torch.Generator().manual_seed(0)).tolist()
    r, low, high = summary_counts.correlation(*draw)
    assert low < 0 < high
    assert low < r < high


@pytest.mark.slow
def test_the_speed_section_measures_everything(monkeypatch):
    for name, value in {
        "BATCH": 2,
        "LOOPED": 1,
        "STEPS": (6, 3),
        "LOOP_STEPS": (6, 3),
        "ALONE": (2, 1),
    }.items():
        monkeypatch.setattr(summaries, name, value)
    monkeypatch.setattr(summaries, "MATCHED", 4)
    monkeypatch.setenv("SEEWHY_DATA", "missing")
    monkeypatch.setattr("benchmarks.timing.THREADS", torch.get_num_threads())
    remarks: list[str] = []
    rows = list(summaries.rows(remarks))
    assert len(rows) == 5
    assert len(remarks) == 2
    assert "Visual summaries" in sections.SECTIONS["summaries"].title


@pytest.mark.slow
def test_networks_are_trained_once_and_counted(tmp_path, monkeypatch, capsys):
    training = Training(scenes=64, epochs=1, batch=32)
    values = {
        "TRAININGS": (training, Training(scenes=64, epochs=1, batch=32, seed=1)),
        "SUMMARISED": ("cat",),
        "PICTURES": 4,
        "UNSEEN": 16,
    }
    for name, value in values.items():
        monkeypatch.setattr(summary_counts, name, value)
    monkeypatch.setattr(summary_counts, "RECIPE", Recipe(mask=CrispMask(smooth=3, sharp=2)))
    assert summary_counts.main(["--out", str(tmp_path)]) == 0
    first = capsys.readouterr().out
    assert "random weights" in first
    monkeypatch.setattr(summary_counts, "fit", None)
    assert summary_counts.main(["--out", str(tmp_path)]) == 0
    assert capsys.readouterr().out.splitlines()[-1] == first.splitlines()[-1]
