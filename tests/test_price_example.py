"""`examples/price.py`, from the Houses data's tree to a sheet of maps."""

import importlib.util
import json
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from torch import nn

from seewhy import Network, Preprocess
from seewhy.datasets.houses import VIEWS

EXAMPLE = Path(__file__).parents[1] / "examples" / "price.py"
PRICES = (100_000, 104_000, 300_000, 309_000, 800_000, 820_000, 101_000, 305_000, 810_000, 99_000)


@pytest.fixture(scope="module")
def price():
    spec = importlib.util.spec_from_file_location("price", EXAMPLE)
    module = importlib.util.module_from_spec(spec)
    sys.modules["price"] = module
    spec.loader.exec_module(module)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(module, "priced", small(module))
        patch.setattr(module, "STEPS", 40)
        yield module


def small(module):
    """A network of one layer instead of MobileNetV2, which knows nothing without its weights."""

    def priced(weights: Path | None) -> Network:
        torch.manual_seed(0)
        features = nn.Sequential(nn.Conv2d(3, module.CHANNELS, 16, 16), nn.ReLU())
        preprocess = Preprocess(resize=(64, 64), mean=(0.5,) * 3, std=(0.5,) * 3)
        return Network(module.Priced(features).eval(), preprocess=preprocess, name="small")

    return priced


@pytest.fixture(scope="module")
def learned(price, tmp_path_factory) -> Path:
    """Ten houses, the dearer the greener."""
    home = tmp_path_factory.mktemp("houses")
    random = np.random.default_rng(0)
    for house, cost in enumerate(PRICES, 1):
        for view in VIEWS:
            pixels = random.integers(0, 120, (48, 64, 3), np.uint8)
            pixels[:, :, 1] += np.uint8(cost // 7000)
            Image.fromarray(pixels).save(home / f"{house}_{view}.jpg")
    district = ("92276", "93510", "92276", "93510", "92276", "93510", "92276", "93510", "92276", "90210")
    lines = [
        f"3 2 {1000 + 100 * n} {code} {cost}"
        for n, (code, cost) in enumerate(zip(district, PRICES, strict=True))
    ]
    (home / "HousesInfo.txt").write_text("\n".join(lines) + "\n")
    out = tmp_path_factory.mktemp("prices") / "out"
    price.learn(home, out=out)
    return out


@pytest.fixture(scope="module")
def prices(price, learned):
    return price.opened(learned)


def test_learning_keeps_the_figures_and_houses_that_it_did_not_learn_from(price, learned, prices) -> None:
    facts = json.loads((learned / "prices.json").read_text())
    assert len(facts["unseen"]) == len(PRICES) // price.FOLDS
    assert prices.errors["photographs"].explained > 0.5 > prices.errors["mean"].explained
    banked = {id.partition("_")[0].rpartition("/")[2] for id in prices.bank.entries.ids}
    assert not banked & {str(house) for house in facts["unseen"]}
    assert set(prices.features) == set(range(1, 11))
    assert all(each.shape == (len(VIEWS), price.CHANNELS) for each in prices.features.values())


@pytest.mark.parametrize("other", [5, None])
def test_maps_sum_up_to_the_gap_in_the_mean_of_the_photographs(price, prices, other) -> None:
    gap = price.gap(prices, 1, other)
    values = gap.maps["embedding Grad-CAM"].values
    assert gap.own - gap.than < -0.3
    # Float32 sums of 1,280 channels over 16 cells, and pooled features that were summed in another order.
    assert values.sum((1, 2, 3)).mean().item() == pytest.approx(gap.own - gap.than, abs=1e-3)
    assert gap.maps["transferred"].values.shape == values.shape


def test_what_a_house_is_compared_with_is_another_or_the_mean_of_its_districts_others(prices) -> None:
    assert torch.equal(prices.reference(1, 4), prices.features[4])
    others = torch.stack([prices.features[house] for house in (3, 5, 7, 9)])
    assert torch.allclose(prices.reference(1, None), others.mean(0))
    with pytest.raises(ValueError, match="house 10 is the only one of the district 90210"):
        prices.reference(10, None)


def test_the_maps_of_a_house_beside_itself_say_nothing_in_sum(price, prices) -> None:
    gap = price.gap(prices, 3, 3)
    assert gap.own == gap.than
    assert not gap.maps["transferred"].values.any()  # the same weights, less themselves
    assert gap.maps["embedding Grad-CAM"].values.sum((1, 2, 3)).abs().max() < 1e-3


def test_the_commands_draw_a_sheet_and_say_what_the_photographs_say(price, learned, tmp_path, capsys) -> None:
    price.explain(1, 5, prices=learned, out=tmp_path / "pair.png")
    price.explain(2, prices=learned, out=tmp_path / "district.png")
    for name, columns in (("pair", 8), ("district", 4)):
        with Image.open(tmp_path / f"{name}.png") as made:
            assert made.size == (columns * price.SIDE, 3 * price.SIDE)
    said = capsys.readouterr().out
    assert "house 1: 100,000 dollars; by its photographs" in said
    assert "than house 5" in said
    assert "than the mean of its district" in said


def test_errors_are_of_prices_and_of_their_logarithms(price) -> None:
    true = torch.tensor([10.0, 11.0, 12.0])
    found = price.Errors.of(true + torch.tensor([0.1, -0.2, 0.0]), true)
    assert found.median == pytest.approx(np.expm1(0.1), rel=1e-5)
    assert found.logarithm == pytest.approx(0.1, rel=1e-5)
    assert found.explained == pytest.approx(1 - 0.05 / 2, rel=1e-5)


@pytest.mark.slow
@pytest.mark.timeout(3600)
def test_the_price_of_real_houses_is_known_better_than_by_the_mean(tmp_path) -> None:
    root = Path(os.environ.get("SEEWHY_DATA", "../shared/data"))
    weights = root / "weights" / "imagenet_torchvision_mobilenet_v2.safetensors"
    if not weights.is_file() or not (root / "houses").is_dir():
        pytest.skip(f"no houses and weights in {root}; set SEEWHY_DATA")
    command = [sys.executable, str(EXAMPLE), "learn", str(root / "houses"), "--out", str(tmp_path)]
    subprocess.run([*command, "--weights", str(weights), "--no-bank"], check=True)

    errors = json.loads((tmp_path / "prices.json").read_text())["errors"]
    explained = {name: each["explained"] for name, each in errors.items()}
    assert explained["table"] > explained["photographs"] > 0.3 > explained["mean"]
