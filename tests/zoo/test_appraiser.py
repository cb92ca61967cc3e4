"""The bundled appraiser of houses: its maps are for and against the right parts, and its training is what made it."""

import json
from importlib.resources import files

import numpy as np
import pytest
import torch
from torch import Tensor, nn

import seewhy
from seewhy.errors import LoadError
from seewhy.scenes import Houses
from seewhy.scenes.scene import Scene
from seewhy.truth import Box, Object, Part, Truth
from seewhy.zoo import train_houses
from seewhy.zoo.appraisal import appraised
from seewhy.zoo.train_houses import Recipe

WEIGHTS = files("seewhy.zoo") / "weights"
CARD = json.loads((WEIGHTS / "demo-houses.json").read_text(encoding="utf-8"))


def test_it_is_small_and_has_its_cards() -> None:
    size = (WEIGHTS / "demo-houses.safetensors").stat().st_size
    assert size <= 250_000
    text = (WEIGHTS / "demo-houses.md").read_text(encoding="utf-8")
    assert f"{size:,} bytes" in text
    assert f"{CARD['figures']['maps_right']:.1%}" in text


def test_maps_for_and_against_the_price_lie_on_the_right_parts_with_the_right_sign() -> None:
    """Nine in ten is what 500 pictures must reach; of these 75, chance may take one standard error, 3.5 in 100."""
    found = list(appraised(seewhy.load("demo-houses", offline=True), Houses(80, seed=43)[:]))
    assert len(found) >= 70
    assert np.mean([each.right for each in found]) >= 0.9 - 0.035
    assert np.mean([abs(each.said - each.price) for each in found]) < 20


def test_its_price_is_that_of_a_plain_house_and_what_every_cell_adds() -> None:
    network = seewhy.load("demo-houses", offline=True)
    images = network.read([scene.image for scene in Houses(3, seed=44)])
    signed = seewhy.EmbeddingGradCAM(top_k=None, select="signed")
    found = signed(network, images, seewhy.targets.Regression(output="price"))
    assert torch.allclose(200 + found.values.sum((1, 2, 3)), found.scores[:, 0], atol=0.05)
    assert tuple(found.values.shape[-2:]) == (32, 32)


def test_untrained_it_is_another_network_and_classes_are_refused() -> None:
    torch.manual_seed(0)
    assert seewhy.load("demo-houses", weights="random").digest != seewhy.load("demo-houses").digest
    with pytest.raises(LoadError, match="it has no classes"):
        seewhy.load("demo-houses", weights="random", classes=["a", "b"])


class Seer(nn.Module):
    """Red is worth something, green takes away, wherever they are; `moved` by so many pixels on the way."""

    def __init__(self, sign: float, moved: int) -> None:
        super().__init__()
        self.features, self.moved = nn.Conv2d(3, 3, 1, bias=False), moved
        nn.init.dirac_(self.features.weight)
        self.worth = nn.Parameter(sign * torch.tensor([60.0, -80.0, 0.0]))

    def forward(self, x: Tensor) -> dict[str, Tensor]:
        seen = self.features(x.roll(self.moved, 3)).mean((2, 3))
        return {"embedding": seen, "price": (seen * self.worth).sum(1, keepdim=True)}


def scene(*names: str) -> Scene:
    pixels, parts = np.zeros((64, 64, 3), np.uint8), []
    for name, channel, left in (("pool", 0, 8), ("damaged roof", 1, 40)):
        if name in names:
            mask = np.zeros((64, 64), bool)
            mask[20:32, left : left + 12] = True
            pixels[mask, channel] = 255
            parts.append(Part(name, mask, True))
    whole = np.ones((64, 64), bool)
    house = Object("house", Box(0, 0, 64, 64), whole, tuple(parts), {"price": "200"})
    return Scene(pixels, Truth((64, 64), (house,)))


@pytest.mark.parametrize(
    ("sign", "moved", "faults"),
    [
        (1, 0, ()),
        (1, 4, ()),
        (
            -1,
            0,
            ("sign of the pool", "sign of the damaged roof", "top of the map for", "top of the map against"),
        ),
        (
            1,
            17,
            ("sign of the pool", "sign of the damaged roof", "top of the map for", "top of the map against"),
        ),
    ],
)
def test_faults_are_named_and_plain_houses_left_out(sign, moved, faults) -> None:
    network = seewhy.Network(
        Seer(sign, moved), preprocess=seewhy.Preprocess(resize=(64, 64), mean=(0,) * 3, std=(1,) * 3)
    )
    (found,) = appraised(network, [scene(), scene("pool", "damaged roof")])
    assert (found.number, found.right, found.faults) == (1, not faults, faults)


def test_places_are_asked_only_where_a_part_is() -> None:
    network = seewhy.Network(
        Seer(1, 0), preprocess=seewhy.Preprocess(resize=(64, 64), mean=(0,) * 3, std=(1,) * 3)
    )
    pool, roof = appraised(network, [scene("pool"), scene("damaged roof")])
    assert (pool.signs.keys(), pool.places.keys()) == ({"pool"}, {"for"})
    assert (roof.signs.keys(), roof.places.keys()) == ({"damaged roof"}, {"against"})


def test_the_same_seed_trains_the_same_weights() -> None:
    tiny = Recipe(houses=16, epochs=2, batch=8)
    one, other = (train_houses.train(tiny, lambda line: None).state_dict() for _ in range(2))
    assert all(torch.equal(one[name], other[name]) for name in one)


def test_the_command_trains_writes_and_measures(tmp_path, capsys, monkeypatch) -> None:
    monkeypatch.setattr(
        train_houses, "figures", lambda module, measure=train_houses.figures: measure(module, 12)
    )
    train_houses.main(["--out", str(tmp_path), "--houses", "96", "--epochs", "1"])

    assert "epoch 1: off by" in capsys.readouterr().out
    made = json.loads((tmp_path / "demo-houses.json").read_text())
    assert made.keys() == CARD.keys()
    assert made["figures"].keys() == CARD["figures"].keys()
    own = seewhy.load("demo-houses", weights=tmp_path / "demo-houses.safetensors")
    assert own.digest != seewhy.load("demo-houses").digest


@pytest.mark.slow
@pytest.mark.timeout(3600)
def test_training_again_gives_maps_as_right_within_five_points(tmp_path) -> None:
    train_houses.main(["--out", str(tmp_path)])

    found = json.loads((tmp_path / "demo-houses.json").read_text())["figures"]
    assert found["maps_right"] >= CARD["figures"]["maps_right"] - 0.05
