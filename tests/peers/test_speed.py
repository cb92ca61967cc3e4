"""The loops that speed is measured against give our numbers, and the page keeps what was not measured."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch
from benchmarks import evaluating, loops, page
from benchmarks.__main__ import main
from benchmarks.sections import SECTIONS, renewed
from torch import nn

from seewhy import GradCAM, GroupCAM, Network
from seewhy.evaluation.box_extractors import wsol

SIDE = 64


@pytest.fixture(scope="module")
def network() -> Network:
    torch.manual_seed(0)
    layers = nn.Sequential(
        nn.Conv2d(3, 16, 5, stride=4), nn.ReLU(), nn.Conv2d(16, 16, 3), nn.ReLU(),
        nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(16, 4),
    ).eval()  # fmt: skip
    with torch.no_grad():
        layers[6].weight *= 30  # probabilities that masks change
    return Network(layers)


@pytest.fixture(scope="module")
def images() -> torch.Tensor:
    return torch.randn(2, 3, SIDE, SIDE, generator=torch.Generator().manual_seed(1))


@pytest.mark.parametrize(
    ("preset", "loop"), [("paper", loops.group_cam), ("reference", loops.group_cam_at_once)]
)
def test_group_cam_is_what_its_public_code_computes(preset, loop, network, images) -> None:
    for image in images:
        explainer = GroupCAM.from_preset(preset, layer="2", groups=4, precision="float32")
        ours = explainer(network, image[None], 1).heatmaps("minmax")[0, 0]
        theirs = loop(network.module, "2", image[None], 1, 4)
        assert theirs.max() == 1
        torch.testing.assert_close(ours, theirs, atol=1e-4, rtol=0)  # float32, sums in another order
    network.module.zero_grad()


def test_areas_are_those_of_the_loop_over_steps(network, images) -> None:
    pytest.importorskip("scipy")
    explanation = evaluating.distinct(GradCAM(layer="0")(network, images))
    ours = evaluating.areas(network, images, explanation, "float32")
    theirs = evaluating.looped(network.module, images, explanation)
    assert np.ptp(theirs) > 0.05
    np.testing.assert_allclose(ours, theirs, atol=1e-5)


def test_maps_lose_their_ties_and_keep_their_order(network, images) -> None:
    explanation = GradCAM(layer="0")(network, images)
    explanation = replace(
        explanation, maps={site: each.round(decimals=1) for site, each in explanation.maps.items()}
    )
    before, after = explanation.evidence().flatten(2), evaluating.distinct(explanation).evidence().flatten(2)
    for one, other in zip(before.flatten(0, 1), after.flatten(0, 1), strict=True):
        assert len(other.unique()) == len(other) > len(one.unique())
        assert (one[other.argsort()].diff() >= 0).all()


@pytest.mark.slow
def test_boxes_are_those_of_the_loop_over_thresholds() -> None:
    pytest.importorskip("cv2", reason="OpenCV comes with the peers of `make test-slow`")
    coarse = torch.rand(4, 1, 7, 7, generator=torch.Generator().manual_seed(2))
    thresholds = np.arange(0, 1, 0.001)
    for each in nn.functional.interpolate(coarse, (SIDE, SIDE), mode="bilinear").double():
        values = np.asarray((each[0] - each.min()) / (each.max() - each.min()))
        found = wsol(values)[(thresholds * 255).astype(int)]
        np.testing.assert_array_equal(found, loops.boxes(values, thresholds))


def test_methods_and_metrics_together_take_no_more_forwards_than_alone() -> None:
    torch.manual_seed(0)
    row = evaluating.together(evaluating.Judged("demo", evaluating.load("demo"), torch.randn(1, 3, 128, 128)))
    assert int(row.ours) <= int(row.theirs)


def test_a_section_that_is_measured_leaves_the_others_on_the_page_as_they_are() -> None:
    first = renewed("", {"memory": "old", "cam-family": "old"})
    assert list(page.sections(first)) == ["The CAM family", "Memory"]
    first += "\n## By hand\n\nkept\n"

    second = renewed(first, {"masks": "new", "memory": "new"})

    assert page.sections(second) == {
        "The CAM family": "old",
        "Methods of many forwards": "new",
        "Memory": "new",
        "By hand": "kept",
    }
    assert renewed(second, {}) == second


def test_the_page_has_no_headings_but_those_that_are_measured() -> None:
    text = (page.DOCS / "speed.md").read_text(encoding="utf-8")
    assert set(page.sections(text)) <= {section.title for section in SECTIONS.values()}
    assert renewed(text, {}) == text


def test_an_unknown_section_is_refused_with_those_that_exist(monkeypatch, capsys) -> None:
    monkeypatch.setattr("sys.argv", ["benchmarks", "mask"])
    with pytest.raises(SystemExit):
        main()
    assert f"no section 'mask'; there are {', '.join(SECTIONS)}\n" in capsys.readouterr().err
