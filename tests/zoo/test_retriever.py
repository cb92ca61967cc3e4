"""The bundled retriever: what its card says is so, and its training is what made it."""

import json
from importlib.resources import files

import pytest
import torch

import seewhy
from seewhy.errors import LoadError
from seewhy.evaluation.retrieval import ranking
from seewhy.scenes import CLASSES, Pairs
from seewhy.zoo import train_retriever
from seewhy.zoo.train_retriever import ALIKE, Recipe, batches

WEIGHTS = files("seewhy.zoo") / "weights"
CARD = json.loads((WEIGHTS / "demo-retriever.json").read_text(encoding="utf-8"))
TINY = Recipe(individuals=48, views=6, epochs=2, groups=2, shown=3)


def recall(pairs: Pairs) -> float:
    network = seewhy.load("demo-retriever", offline=True)
    rows = network(network.read([scene.image for scene in pairs]).pixels)
    return ranking(rows, torch.arange(len(pairs)) // pairs.views).recall(1)


def test_it_is_small_and_has_its_cards() -> None:
    size = (WEIGHTS / "demo-retriever.safetensors").stat().st_size
    assert size <= 1_000_000
    text = (WEIGHTS / "demo-retriever.md").read_text(encoding="utf-8")
    assert f"{size:,} bytes" in text
    for name in ("recall_at_1", "recall_at_1_all_alike", "mean_average_precision"):
        assert f"{CARD['figures'][name]:.3f}" in text
    assert CARD["figures"]["per_class"] == 20


def test_it_finds_individuals_that_nobody_used_before() -> None:
    """Of 120 individuals, five of each class: fewer than the card's, so as easy, but for two standard errors."""
    assert recall(Pairs(120, 2, seed=51)) >= CARD["figures"]["recall_at_1"] - 0.055


def test_markings_alone_are_enough_for_it() -> None:
    """Twenty individuals of one class that are alike but for their markings; by chance one in 39 finds its own."""
    assert recall(Pairs(20, 2, seed=52, classes=("house",), alike=20)) >= 0.7


def test_its_embedding_is_found_and_is_of_any_length() -> None:
    found = seewhy.load("demo-retriever").embedding()
    assert (found.output, found.width, found.normalised) == (None, CARD["embedding"], False)


def test_untrained_it_is_another_network_and_classes_are_refused() -> None:
    torch.manual_seed(0)
    assert seewhy.load("demo-retriever", weights="random").digest != seewhy.load("demo-retriever").digest
    with pytest.raises(LoadError, match="it has no classes"):
        seewhy.load("demo-retriever", weights="random", classes=["a", "b"])
    with pytest.raises(LoadError, match="no variants"):
        seewhy.load("demo-retriever:large")


def test_a_step_shows_whole_groups_of_look_alikes_in_different_views() -> None:
    seen = torch.zeros(TINY.individuals, TINY.views, dtype=torch.long)
    torch.manual_seed(1)
    steps = list(batches(TINY))
    assert len(steps) == TINY.steps == 24
    for individuals, views in steps:
        assert len(individuals) == TINY.groups * ALIKE * TINY.shown
        groups = individuals.view(TINY.groups, -1) // ALIKE
        assert (groups == groups[:, :1]).all()
        counts = torch.zeros_like(seen).index_put_(
            (individuals, views), torch.ones(1, dtype=torch.long), accumulate=True
        )
        assert counts.max() == 1
        assert set(counts.sum(1).tolist()) == {0, TINY.shown}
        seen += counts
    assert seen.sum() == TINY.epochs * TINY.individuals * TINY.views


def test_the_same_seed_trains_the_same_weights() -> None:
    tiny = Recipe(individuals=16, views=2, epochs=3, groups=1, shown=2)
    one, other = (train_retriever.train(tiny, lambda line: None).state_dict() for _ in range(2))
    assert one.keys() == other.keys()
    assert all(torch.equal(one[name], other[name]) for name in one)
    assert not torch.equal(one["stem.0.weight"], seewhy.load("demo").module.stem[0].weight)


def test_the_command_trains_writes_and_measures(tmp_path, capsys, monkeypatch) -> None:
    monkeypatch.setattr(
        train_retriever, "figures", lambda module, measure=train_retriever.figures: measure(module, 1)
    )
    train_retriever.main(["--out", str(tmp_path), "--individuals", "24", "--epochs", "1"])

    assert "step 3 of 3" in capsys.readouterr().out
    made = json.loads((tmp_path / "demo-retriever.json").read_text())
    assert made.keys() == CARD.keys()
    assert made["figures"].keys() == CARD["figures"].keys()
    assert made["figures"]["unseen_individuals"] == len(CLASSES)
    own = seewhy.load("demo-retriever", weights=tmp_path / "demo-retriever.safetensors")
    assert own.digest != seewhy.load("demo-retriever").digest


@pytest.mark.slow
@pytest.mark.timeout(7200)
def test_training_again_gives_the_same_recall_within_two_points(tmp_path) -> None:
    train_retriever.main(["--out", str(tmp_path)])

    found = json.loads((tmp_path / "demo-retriever.json").read_text())["figures"]
    assert found["recall_at_1"] == pytest.approx(CARD["figures"]["recall_at_1"], abs=0.02)
