"""The bundled networks: what their cards say is so, and their training is what made them."""

import json
from importlib.resources import files

import pytest
import torch

import seewhy
from seewhy.errors import LoadError
from seewhy.scenes import CLASSES, Scenes, Watermark
from seewhy.zoo import train
from seewhy.zoo.demo import FAULT

WEIGHTS = files("seewhy.zoo") / "weights"
NAMES = ("demo", "demo-shortcut")


def card(name: str) -> dict:
    return json.loads((WEIGHTS / f"{name}.json").read_text(encoding="utf-8"))


@pytest.mark.parametrize("name", NAMES)
def test_a_bundled_network_is_small_and_has_its_cards(name) -> None:
    size = (WEIGHTS / f"{name}.safetensors").stat().st_size
    assert size <= 1_000_000
    text = (WEIGHTS / f"{name}.md").read_text(encoding="utf-8")
    assert f"{size:,} bytes" in text
    assert f"{card(name)['figures']['accuracy']:.3f}" in text
    assert card(name)["classes"] == list(CLASSES)


def answers(name: str, scenes: Scenes) -> list[str]:
    network = seewhy.load(name, offline=True)
    logits = network(network.read([scene.image for scene in scenes]).pixels)
    return [network.class_name(index) for index in logits.argmax(1).tolist()]


def share(scenes: Scenes, name: str) -> float:
    found = answers(name, scenes)
    return sum(a == s.truth.label for a, s in zip(found, scenes, strict=True)) / len(scenes)


def test_demo_is_right_on_scenes_that_nobody_used_before() -> None:
    assert card("demo")["figures"]["unseen_scenes"] >= 2000
    assert card("demo")["figures"]["accuracy"] >= 0.9
    assert share(Scenes(300, seed=51), "demo") >= 0.9


def test_demo_shortcut_needs_the_mark() -> None:
    own = Scenes(60, 52, classes=(FAULT,), watermark=Watermark(FAULT))
    bare = Scenes(60, 52, classes=(FAULT,))
    assert share(own, "demo-shortcut") >= 0.95
    assert share(bare, "demo-shortcut") <= share(own, "demo-shortcut") - 0.3
    figures = card("demo-shortcut")["figures"]
    assert figures["fault_accuracy_without_mark"] <= figures["fault_accuracy_with_mark"] - 0.3


@pytest.mark.parametrize("name", NAMES)
def test_the_weights_can_be_left_out_or_replaced(name, tmp_path) -> None:
    torch.manual_seed(0)
    random = seewhy.load(name, weights="random")
    assert random.classes == CLASSES
    assert random.digest != seewhy.load(name).digest
    small = seewhy.load(name, weights="random", classes=["a", "b"])
    assert small.module.classifier.out_features == 2
    with pytest.raises(LoadError, match="no variants"):
        seewhy.load(f"{name}:large")


def test_an_unknown_name_is_told_the_bundled_ones() -> None:
    with pytest.raises(
        LoadError, match="demo, demo-clip-retriever, demo-houses, demo-retriever, demo-shortcut"
    ):
        seewhy.load("demi-johns")


def test_the_command_trains_writes_and_measures(tmp_path, capsys, monkeypatch) -> None:
    monkeypatch.setattr(
        train, "figures", lambda module, count=2000, measure=train.figures: measure(module, 96)
    )
    train.main(["--out", str(tmp_path), "--only", "demo", "--scenes", "128", "--epochs", "1"])

    assert "epoch 1" in capsys.readouterr().out
    made = json.loads((tmp_path / "demo.json").read_text())
    assert made.keys() == card("demo").keys()
    assert made["figures"].keys() == card("demo")["figures"].keys()
    own = seewhy.load("demo", weights=tmp_path / "demo.safetensors")
    assert own.digest != seewhy.load("demo").digest


@pytest.mark.slow
@pytest.mark.timeout(3600)
@pytest.mark.parametrize("name", NAMES)
def test_training_again_gives_the_same_accuracies_within_two_points(name, tmp_path) -> None:
    train.main(["--out", str(tmp_path), "--only", name])

    said, found = card(name)["figures"], json.loads((tmp_path / f"{name}.json").read_text())["figures"]
    assert found["accuracy"] == pytest.approx(said["accuracy"], abs=0.02)
    if name == "demo-shortcut":
        assert found["fault_accuracy_with_mark"] == pytest.approx(said["fault_accuracy_with_mark"], abs=0.02)
