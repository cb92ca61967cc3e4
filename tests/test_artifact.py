from hashlib import sha256

import numpy as np
import pytest
import torch
from PIL import Image
from pydantic import ValidationError
from torch import nn

import seewhy
from seewhy import Artifact, Occlusion
from seewhy.errors import InputError


@pytest.fixture
def network() -> seewhy.Network:
    """Linear in its pictures, which it wants 6 x 6 and between -1 and 1."""
    torch.manual_seed(0)
    module = nn.Sequential(nn.Conv2d(3, 4, 6), nn.Flatten())
    preprocess = seewhy.Preprocess(resize=(6, 6), mean=(0.5,) * 3, std=(0.5,) * 3)
    return seewhy.Network(module, preprocess=preprocess)


@pytest.fixture
def picture(tmp_path):
    path = tmp_path / "behind.png"
    Image.fromarray(np.random.default_rng(0).integers(0, 256, (6, 6, 3), np.uint8)).save(path)
    return path


def test_a_path_is_enough_and_the_content_is_noted(picture):
    made = Artifact.model_validate(str(picture))
    assert made.sha256 == sha256(picture.read_bytes()).hexdigest()
    assert made == Artifact(path=picture) == Artifact.model_validate(picture)
    assert hash(made) == hash(Artifact(path=picture))
    assert made.read() == picture.read_bytes()
    assert Artifact.model_validate_json(made.model_dump_json()) == made


def test_a_file_that_is_gone_or_changed_is_an_error_that_names_it(picture):
    made = Artifact(path=picture)
    picture.write_bytes(b"other")
    with pytest.raises(InputError, match=r"behind\.png has changed since"):
        made.read()
    picture.unlink()
    with pytest.raises(InputError, match=r"behind\.png cannot be read: No such file"):
        made.read()
    with pytest.raises(ValidationError, match=r"behind\.png cannot be read: No such file"):
        Artifact(path=picture)


@pytest.mark.parametrize(
    "given", [3, None, {"path": 3}, {"path": None}, {"path": "gone.png", "sha256": "not a hash"}]
)
def test_what_is_no_path_or_no_hash_is_refused(given):
    with pytest.raises(ValidationError):
        Artifact.model_validate(given)


def test_a_path_may_hold_a_plus_and_look_like_a_number(network, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    for name in ("3", "a+b.png"):
        Image.new("RGB", (6, 6)).save(name, format="PNG")
        assert seewhy.make(f"occlusion:baseline={name}").baseline.path.name == name


def test_what_was_noted_can_be_read_back_without_the_file(picture):
    text = Artifact(path=picture).model_dump_json()
    picture.unlink()
    assert Artifact.model_validate_json(text).path == picture


@pytest.mark.parametrize("method", ["occlusion", "rise", "integrated-gradients"])
def test_the_picture_in_a_file_is_what_covers(network, picture, method):
    images = torch.randn(2, 3, 6, 6, generator=torch.Generator().manual_seed(1))
    behind = network.read(picture).pixels
    explainer = seewhy.make(f"{method}:baseline={picture}", **({"masks": 8} if method == "rise" else {}))
    found = explainer(network, images, target=2)
    zero = explainer.model_copy(update={"baseline": "zero"})(network, images, target=2)
    assert not torch.equal(found.values, zero.values)
    assert found.settings["baseline"]["sha256"] == Artifact(path=picture).sha256
    if method == "integrated-gradients":  # of a linear score it is weight times difference, exactly
        weight = network.module[0].weight[2]
        torch.testing.assert_close(found.values[:, 0], weight * (images - behind), atol=1e-5, rtol=0)
    # Seen before this picture, the picture itself has no evidence.
    itself = explainer(network, behind, target=2)
    assert float(itself.values.abs().max()) < 1e-5


def test_a_window_as_large_as_the_picture_loses_all_that_the_baseline_lacks(network, picture):
    images = torch.randn(1, 3, 6, 6)
    found = Occlusion(window=6, baseline=picture, precision="float32")(network, images, target=1)
    lost = network(images)[0, 1] - network(network.read(picture).pixels)[0, 1]
    torch.testing.assert_close(found.values[0, 0], lost.expand(6, 6), atol=1e-5, rtol=0)


def test_a_file_of_another_size_or_kind_is_refused_with_the_reason(network, tmp_path):
    path = tmp_path / "notes.txt"
    path.write_text("no picture")
    with pytest.raises(InputError, match=r"the baseline .*notes\.txt is not a picture"):
        Occlusion(baseline=path)(network, torch.rand(1, 3, 6, 6), target=0)
    picture = tmp_path / "small.png"
    Image.new("RGB", (3, 3)).save(picture)
    larger = seewhy.Network(nn.Sequential(nn.Conv2d(3, 4, 6), nn.AdaptiveAvgPool2d(1), nn.Flatten()))
    with pytest.raises(InputError, match="preprocess"):
        Occlusion(baseline=picture)(larger, torch.rand(1, 3, 9, 9), target=0)
    larger.preprocess = network.preprocess
    with pytest.raises(
        InputError,
        match="becomes 3 x 6 x 6 through the preprocess of Sequential, but the pictures are 3 x 9 x 9",
    ):
        Occlusion(baseline=picture)(larger, torch.rand(1, 3, 9, 9), target=0)


@pytest.mark.parametrize("given", ["blurr", "no-such.png"])
def test_a_baseline_that_is_neither_a_word_nor_a_file_is_an_error_that_says_both(given):
    with pytest.raises(InputError, match=f"(?s)baseline.*{given}"):
        seewhy.make(f"occlusion:baseline={given}")
