"""Maps without a backward pass: those of back-propagation where they must be, and chance from shuffled weights."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from torch import nn
from toy_embedders import CHANNELS, EXACT, LABELS, bank, network, other_network, pictures, squares

import seewhy
from seewhy import EmbeddingGradCAM, Network, Preprocess, TransferCAM, Triplets, WeightBank, check_explainer
from seewhy.check.toys import blobs, toys
from seewhy.datasets import read
from seewhy.embedding.building import append_to_bank, build_bank, remove_from_bank
from seewhy.errors import InputError, NotApplicableError

MANY = EXACT.model_copy(update={"batch_size": 48})


def read_back(folder: Path, embedder: Network) -> torch.Tensor:
    return embedder.read(
        [str(folder.parent / "pictures" / id) for id in WeightBank(folder).entries.ids]
    ).pixels


@pytest.mark.parametrize("head", [{}, {"nonlinear": True}])
def test_a_picture_of_the_bank_gets_its_own_map(tmp_path, head):
    embedder = network(**head)
    folder = bank(tmp_path, MANY, embedder)
    images = read_back(folder, embedder)
    labels = torch.tensor([LABELS.index(each) for each in WeightBank(folder).entries.labels])
    own = EmbeddingGradCAM(top_k=None, select="signed")(embedder, images, Triplets(labels=labels))
    found = TransferCAM(bank=folder)(embedder, images)
    assert torch.equal(found.values, own.values)
    assert all("at distance 0" in notes[-1] for notes in found.notes)


class Circular(nn.Module):
    """A picture that is shifted around the border has shifted maps, and the same embedding."""

    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(0)
        options = {"padding": 1, "padding_mode": "circular"}
        self.features = nn.Sequential(
            nn.Conv2d(3, 8, 3, **options), nn.ReLU(), nn.Conv2d(8, CHANNELS, 3, **options), nn.ReLU()
        )
        self.head = nn.Linear(CHANNELS, 5)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.head(self.features(x).mean((2, 3)))


def test_behind_a_linear_head_a_neighbour_of_the_class_gives_the_map_of_back_propagation(tmp_path):
    embedder = Network(Circular().eval(), preprocess=Preprocess(mean=(0.5,) * 3, std=(0.25,) * 3))
    root = tmp_path / "pictures"
    for place, label in enumerate(LABELS):
        (root / label).mkdir(parents=True)
        base = np.random.default_rng(place).integers(0, 256, (16, 16, 3)).astype(np.uint8)
        for shift in range(6):
            Image.fromarray(np.roll(base, (3 * shift, shift), (0, 1))).save(root / label / f"{shift}.png")
    folder = tmp_path / "bank"
    build_bank(embedder, read(root, kind="folder"), folder, MANY)
    images = embedder.read([str(root / label / "4.png") for label in LABELS]).pixels
    own = TransferCAM(bank=folder)(embedder, images)  # what back-propagation gives, by the test above
    remove_from_bank(folder, [f"{label}/{shift}.png" for label in LABELS for shift in (2, 4)])
    transferred = TransferCAM(bank=folder)(embedder, images)
    difference = (transferred.values - own.values).abs().max()
    assert float(difference) <= 1e-6 * float(own.values.abs().max())
    assert own.values.flatten(2).std(2).min() > 0


class Colours(nn.Module):
    """Three channels, each of one colour; the embedding is how much there is of each."""

    def __init__(self) -> None:
        super().__init__()
        self.features = nn.Sequential(nn.Conv2d(3, 3, 1), nn.ReLU())
        self.head = nn.Linear(3, 3)
        with torch.no_grad():
            self.features[0].weight.copy_((2 * torch.eye(3) - 1)[:, :, None, None])
            self.features[0].bias.zero_()
            self.head.weight.copy_(torch.eye(3))
            self.head.bias.zero_()

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.head(self.features(x).mean((2, 3)))


def test_a_shuffled_bank_falls_to_chance(tmp_path):
    embedder = Network(Colours().eval(), preprocess=Preprocess(mean=(0.0,) * 3, std=(1.0,) * 3))
    root, corners = tmp_path / "pictures", ((0, 0), (0, 8), (8, 0))
    for place, label in enumerate(LABELS):
        (root / label).mkdir(parents=True)
        for number in range(12):
            pixels = np.zeros((16, 16, 3), np.uint8)
            for colour, (top, left) in enumerate(corners):
                # All three colours are there; the largest square is the class's.
                side = 8 if colour == place else 3 + number % 3
                pixels[top : top + side, left : left + side, colour] = 200 + number
            Image.fromarray(pixels).save(root / label / f"{number:02}.png")
    folder = tmp_path / "bank"
    build_bank(embedder, read(root, kind="folder"), folder)
    images = read_back(folder, embedder)
    entries = WeightBank(folder).entries
    classes = [LABELS.index(label) for label in entries.labels]

    def inside(maps: torch.Tensor) -> torch.Tensor:
        """The share of each map's energy in the square of its picture's class."""
        energy = maps.clamp_min(0)
        own = torch.stack([
            each[corners[c][0] : corners[c][0] + 8, corners[c][1] : corners[c][1] + 8].sum()
            for each, c in zip(energy, classes, strict=True)
        ])  # fmt: skip
        return own / energy.sum((1, 2))

    found = TransferCAM(bank=folder)(embedder, images).values[:, 0]
    shuffled = TransferCAM(bank=folder, shuffled=True)(embedder, images).values[:, 0]
    activation = embedder.module.features(images).detach()
    every = entries.dense(torch.arange(len(entries)), 3)
    chance = torch.stack(
        [inside(torch.einsum("k,bkhw->bhw", weights, activation)) for weights in every]
    ).mean()
    assert inside(found).min() > 0.99
    # Thirty-six draws of which a third hit: three standard errors are a quarter.
    assert abs(inside(shuffled).mean() - chance) < 0.25
    assert inside(shuffled).mean() < 0.7
    assert chance < 0.5


def test_it_takes_one_forward_and_no_backward(tmp_path, monkeypatch):
    embedder = network()
    method = TransferCAM(bank=bank(tmp_path))
    method(embedder, pictures())
    ran = []
    hook = embedder.module.features[0].register_forward_hook(
        lambda module, given, output: ran.append(len(output))
    )
    monkeypatch.setattr(torch.autograd, "grad", None)
    found = method(embedder, pictures())
    hook.remove()
    assert ran == [5]
    assert (found.cost.forwards, found.cost.backwards, found.cost.replays, found.cost.setup) == (5, 0, 0, 0)


def test_neighbours_are_blended_by_a_softmax_over_their_distances(tmp_path):
    embedder, folder = network(), bank(tmp_path)
    kept = WeightBank(folder)
    entries, images = kept.entries, pictures()
    found = TransferCAM(bank=folder, neighbours=3, temperature=0.5)(embedder, images)
    embeddings, maps = embedder(images).double(), embedder.module.features(images).detach().double()
    for row in range(5):
        apart = (entries.embeddings.double() - embeddings[row]).norm(dim=1)
        nearest = apart.argsort()[:3]
        raw = torch.exp(-(apart[nearest] - apart[nearest][0]) / (0.5 * kept.head.spread["0.5"]))
        weights = ((raw / raw.sum())[:, None] * entries.dense(nearest, CHANNELS)).sum(0)
        expected = torch.einsum("k,khw->hw", weights, maps[row])
        assert torch.allclose(found.values[row, 0].double(), expected, rtol=1e-4, atol=1e-6)


def test_the_notes_say_whose_weights_they_are_how_near_and_when_that_is_far(tmp_path):
    embedder, folder = network(), bank(tmp_path)
    kept = WeightBank(folder)
    found = TransferCAM(bank=folder)(embedder, 20 * pictures())
    lookup = kept.nearest(embedder(20 * pictures()))
    for row, notes in enumerate(found.notes):
        place = int(lookup.places[row, 0])
        assert any(
            f"weights of {kept.entries.ids[place]!r} ({kept.entries.labels[place]})" in note for note in notes
        )
        assert any(f"{float(lookup.distances[row, 0]):.4g} is farther than 99 %" in note for note in notes)
    assert bool(lookup.far.all())
    near = TransferCAM(bank=folder)(embedder, read_back(folder, embedder))
    assert not any("farther" in note for notes in near.notes for note in notes)


def test_a_bank_of_unit_vectors_looks_unit_vectors_up(tmp_path):
    embedder = network()
    folder = bank(tmp_path, EXACT.model_copy(update={"normalize": True}))
    kept = WeightBank(folder)
    embeddings = embedder(pictures())
    cosines = torch.nn.functional.normalize(embeddings, dim=1) @ kept.entries.embeddings.T
    found = kept.nearest(embeddings)
    assert torch.equal(found.places[:, 0], cosines.argmax(1))
    assert torch.allclose(found.distances[:, 0] ** 2, 2 - 2 * cosines.amax(1), atol=1e-5)


def test_a_bank_of_another_network_is_refused(tmp_path):
    folder = bank(tmp_path)
    with pytest.raises(NotApplicableError, match="build a bank with this network"):
        TransferCAM(bank=folder)(other_network(), pictures())
    with pytest.raises(NotApplicableError, match="seewhy bank build"):
        TransferCAM()(network(), pictures())


def test_a_bank_that_has_changed_since_it_was_chosen_is_refused(tmp_path):
    folder = bank(tmp_path)
    method = TransferCAM(bank=folder)
    append_to_bank(network(), squares(tmp_path / "more", 7), folder)
    with pytest.raises(InputError, match=r"bank\.json has changed"):
        method(network(), pictures())
    assert TransferCAM(bank=folder) != method


def test_the_bank_may_be_named_by_its_folder_its_file_itself_or_as_text(tmp_path):
    folder = bank(tmp_path)
    ways = [
        TransferCAM(bank=each) for each in (folder, str(folder), folder / "bank.json", WeightBank(folder))
    ]
    ways.append(seewhy.make(f"transfer-cam:bank={folder}"))
    assert len(set(ways)) == 1


TOYS = {toy.name: (toy, inputs) for toy, inputs in toys()}


@pytest.mark.parametrize("name", TOYS)
def test_it_keeps_the_contract_with_a_bank_of_each_toy_network(tmp_path, name):
    toy, inputs = TOYS[name]
    preprocess = Preprocess(resize=(24, 24), mean=(0.5,) * 3, std=(0.25,) * 3)
    toy = Network(toy.module, name=name, preprocess=preprocess)
    if not isinstance(inputs, torch.Tensor):
        with pytest.raises((NotApplicableError, InputError, TypeError)):
            build_bank(toy, squares(tmp_path / "pictures"), tmp_path / "bank", EXACT)
        return
    folder = bank(tmp_path, EXACT, toy)
    contract = check_explainer(TransferCAM(bank=folder), toy, inputs)
    assert contract.passed, str(contract)
    assert sum(check.status == "passed" for check in contract.checks) >= 28


def test_without_a_bank_the_contract_says_that_it_does_not_apply():
    contract = check_explainer(TransferCAM(), TOYS["plain"][0], blobs(3, 3, 24, 24))
    assert [check.status for check in contract.checks] == ["inconclusive"]
