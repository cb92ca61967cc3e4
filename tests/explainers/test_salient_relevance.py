"""Salient Relevance: two steps, and what each preset puts together."""

import pytest
import torch

import seewhy
from seewhy.explainers.salient import salient

QUICK = seewhy.ContextAwareSaliency(
    mode="relevance", longest_side=32, scales=(1, 0.5), query_stride=2, nearest=16
)


@pytest.fixture(scope="module")
def demo() -> tuple[seewhy.Network, torch.Tensor]:
    network = seewhy.load("demo")
    return network, network.read([scene.image for scene in seewhy.Scenes(2, seed=3)]).pixels


@pytest.mark.parametrize("combine", ["saliency", "multiply"])
def test_it_is_the_saliency_of_the_map_of_lrp_for_each_target(demo, combine) -> None:
    network, pixels = demo
    targets = seewhy.Classes([0, 5])
    relevance = seewhy.LRP(composite="epsilon-gamma-box")
    found = seewhy.SalientRelevance(relevance=relevance, saliency=QUICK, combine=combine, sigma=2)(
        network, pixels, targets
    )
    maps = relevance(network, pixels, targets).values
    for picture in range(2):
        for target in range(2):
            alone = salient(maps[picture, target][None], QUICK, combine, 2).values[0]
            torch.testing.assert_close(found.values[picture, target], alone, atol=1e-5, rtol=0)


def test_methods_of_one_call_share_the_relevance_and_its_saliency(demo, monkeypatch) -> None:
    network, pixels = demo
    computed = []
    plain = seewhy.ContextAwareSaliency.__call__
    monkeypatch.setattr(
        seewhy.ContextAwareSaliency, "__call__", lambda *given: computed.append(1) or plain(*given)
    )
    methods = [
        seewhy.LRP(),
        *(seewhy.SalientRelevance(saliency=QUICK, sigma=sigma) for sigma in (2, 4)),
        seewhy.SalientRelevance(saliency=QUICK, combine="blurred"),
    ]
    found = seewhy.explain_all(network, pixels, methods, target=0)
    assert len(computed) == 1
    assert (found.cost.forwards, found.cost.backwards) == (len(pixels), len(pixels))
    for each, together in zip(methods, found.values(), strict=True):
        alone = each(network, pixels, 0)
        torch.testing.assert_close(together.values, alone.values, atol=0, rtol=0)
        assert together.cost == alone.cost


def test_the_notes_say_where_the_relevance_went_and_what_the_saliency_says(demo) -> None:
    network, pixels = demo
    class_zero = seewhy.SalientRelevance(saliency=QUICK)(network, pixels, 0)
    assert all(notes[-1].startswith("relevance ") for notes in class_zero.notes)
    module = torch.nn.Sequential(torch.nn.Flatten(), torch.nn.Linear(3 * 32 * 32, 2))
    torch.nn.init.zeros_(module[1].weight)
    nothing = seewhy.SalientRelevance(saliency=QUICK)(module, torch.rand(1, 3, 32, 32), 0)
    assert not nothing.values.any()
    assert any(note.startswith("constant") for note in nothing.notes[0])


def test_the_preset_reference_is_that_of_the_public_notebooks() -> None:
    found = seewhy.SalientRelevance.from_preset("reference")
    assert (found.relevance.composite, found.saliency.mode, found.combine) == (
        "reference-sr",
        "quantised",
        "saliency",
    )


@pytest.mark.parametrize(
    ("settings", "reason"),
    [
        ({"relevance": seewhy.LRP(layer="stage2")}, "leave its layer out"),
        ({"saliency": seewhy.ContextAwareSaliency()}, "mode relevance or quantised"),
    ],
)
def test_steps_that_do_not_fit_are_refused(settings, reason) -> None:
    with pytest.raises(ValueError, match=reason):
        seewhy.SalientRelevance(**settings)
