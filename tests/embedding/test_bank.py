"""The bank's rows are the method's own weights; kills, flipped bits and foreign networks are noticed."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from toy_embedders import CHANNELS, EXACT, LABELS, bank, network, other_network, squares, write_squares

from seewhy import EmbeddingGradCAM, Mining, Network, Triplets, WeightBank
from seewhy.datasets import read
from seewhy.embedding.bank import Head, verify
from seewhy.embedding.building import append_to_bank, build_bank, remove_from_bank
from seewhy.embedding.entries import Entries, spread
from seewhy.embedding.recipe import Recipe
from seewhy.errors import InputError, NotApplicableError, StoreError
from seewhy.explainers.study import Study
from seewhy.store import Store

MANY = EXACT.model_copy(update={"batch_size": 48})


def images_of(folder: Path, embedder: Network) -> torch.Tensor:
    """The pictures in the order of the bank's rows."""
    ids = WeightBank(folder).entries.ids
    return embedder.read([str(folder.parent / "pictures" / id) for id in ids]).pixels


def numbers(found: WeightBank) -> torch.Tensor:
    return torch.tensor([LABELS.index(label) for label in found.entries.labels])


@pytest.mark.parametrize("head", [{}, {"nonlinear": True}, {"normalized": True}])
def test_rows_hold_what_the_method_weighs_channels_by(tmp_path, head):
    embedder = network(**head)
    folder = bank(tmp_path, MANY, embedder)
    found = WeightBank(folder)
    images = images_of(folder, embedder)
    with embedder.prepared(images) as arguments:
        study = Study(embedder, arguments, Triplets(labels=numbers(found)), embedder.digest)
        choice = study.layers(None)
        study.request(choice, True)
        feature = study.feature(next(iter(choice.calls)), True)
    assert feature.gradient is not None
    expected = feature.gradient.mean((-2, -1))[:, 0]
    every = torch.arange(len(found.entries))
    assert torch.allclose(found.entries.dense(every, CHANNELS), expected, rtol=1e-5, atol=1e-7)
    assert torch.allclose(found.entries.embeddings, embedder(images), rtol=1e-5, atol=1e-6)
    assert len(found.entries) == 18


@pytest.mark.parametrize("count", [1, 64])
def test_building_takes_one_forward_and_one_backward_of_the_head_for_each_picture(
    tmp_path, monkeypatch, count
):
    embedder, manifest = network(), squares(tmp_path / "pictures")
    recipe = EXACT.model_copy(update={"mining": Mining(triplets=count)})
    build_bank(embedder, manifest, tmp_path / "first", recipe)  # the first call surveys the network
    ran, passes, grad = [], [], torch.autograd.grad
    hooks = [
        embedder.module.features[0].register_forward_hook(
            lambda module, given, output: ran.append(len(output))
        ),
        embedder.module.head[-1].register_forward_hook(lambda module, given, output: ran.append(len(output))),
    ]

    def counting(outputs, inputs, *arguments, **options):
        passes.extend(len(each) for each in inputs)
        return grad(outputs, inputs, *arguments, **options)

    monkeypatch.setattr(torch.autograd, "grad", counting)
    counts = build_bank(embedder, manifest, tmp_path / "bank", recipe)
    for hook in hooks:
        hook.remove()
    assert (counts.asked, counts.done, counts.failed) == (18, 18, 0)
    assert sum(ran) == 2 * 18
    assert sum(passes) == 18


def test_float16_keeps_three_digits_of_the_largest_weight(tmp_path):
    exact, half = (
        WeightBank(bank(tmp_path / kind, EXACT.model_copy(update={"weights": kind}))).entries
        for kind in ("float32", "float16")
    )
    every = torch.arange(len(exact))
    one, other = exact.dense(every, CHANNELS), half.dense(every, CHANNELS)
    assert ((one - other).abs().amax(1) <= one.abs().amax(1) / 2048).all()
    assert not torch.equal(one, other)
    assert half.weights.dtype == torch.float16


def test_only_the_strongest_channels_are_kept(tmp_path):
    full = WeightBank(bank(tmp_path / "all")).entries
    kept = WeightBank(
        bank(tmp_path / "two", EXACT.model_copy(update={"top_k": 2, "select": "positive"}))
    ).entries
    every = torch.arange(len(full))
    for own, dense in zip(kept.dense(every, CHANNELS), full.dense(every, CHANNELS), strict=True):
        best = dense.topk(2)
        expected = torch.zeros(CHANNELS).index_put_((best.indices,), best.values.clamp_min(0))
        assert torch.equal(own, expected)
    assert kept.channels.shape == (18, 2)


def test_a_second_build_computes_nothing_and_another_recipe_is_refused(tmp_path, monkeypatch):
    folder = bank(tmp_path)
    before = (folder / "bank.json").read_bytes()
    monkeypatch.setattr("seewhy.embedding.building.read_pictures", None)
    bank(tmp_path)
    assert (folder / "bank.json").read_bytes() == before
    with pytest.raises(InputError, match="holds another bank"):
        bank(tmp_path, EXACT.model_copy(update={"top_k": 3}))


def test_a_picture_that_cannot_be_used_is_a_row_with_a_reason(tmp_path):
    root = write_squares(tmp_path / "pictures")
    (root / "ant" / "003.png").write_bytes(b"broken")
    (root / "dog").mkdir()
    (root / "bee" / "000.png").rename(root / "dog" / "only.png")
    counts = build_bank(network(), read(root, kind="folder"), tmp_path / "bank", EXACT)
    assert (counts.asked, counts.done, counts.failed) == (18, 16, 2)
    head = Head.read(tmp_path / "bank")
    reasons = {
        row["id"][9:]: row["failed"]
        for row in Store(tmp_path / "bank").open(head.works[0]).rows()
        if row["failed"]
    }
    assert set(reasons) == {"ant/003.png", "dog/only.png"}
    assert "no other picture of 'dog'" in reasons["dog/only.png"]


def test_appended_pictures_are_found_and_removed_ones_are_not(tmp_path):
    folder = bank(tmp_path)
    root = write_squares(tmp_path / "more", 2, first=50)
    counts = append_to_bank(network(), read(root, kind="folder"), folder)
    assert (counts.asked, counts.done) == (6, 6)
    found = WeightBank(folder)
    assert len(found.entries) == 24
    embeddings = network()(network().read([str(root / "bee" / "051.png")]).pixels)
    place = int(found.nearest(embeddings).places[0, 0])
    assert found.entries.ids[place] == "bee/051.png"
    assert remove_from_bank(folder, ["bee/051.png"]) == 23
    left = WeightBank(folder)
    assert "bee/051.png" not in left.entries.ids
    assert left.head.spread == spread(left.entries.embeddings)
    assert verify(folder) == []
    with pytest.raises(InputError, match=r"no picture 'bee/051\.png'"):
        remove_from_bank(folder, ["bee/051.png"])
    with pytest.raises(InputError, match="none of the 6 pictures"):
        append_to_bank(network(), read(root, kind="folder"), folder)


def test_a_picture_that_the_bank_holds_itself_costs_the_others_nothing(tmp_path):
    folder = bank(tmp_path)
    kept = [id for id in WeightBank(folder).entries.ids if id.startswith("ant/")]
    remove_from_bank(folder, kept[1:])
    root = write_squares(tmp_path / "more", 2, first=50)
    for old in (root / "ant").iterdir():
        old.unlink()
    (root / "ant" / "copy.png").write_bytes((tmp_path / "pictures" / kept[0]).read_bytes())
    counts = append_to_bank(network(), read(root, kind="folder"), folder)
    assert (counts.asked, counts.done, counts.failed) == (5, 4, 1)
    rows = Store(folder).open(Head.read(folder).works[-1]).rows()
    ((id, reason),) = [(row["id"], row["failed"]) for row in rows if row["failed"]]
    assert id.endswith("ant/copy.png")
    assert "of 'ant' has no positive" in reason


def test_appended_weights_are_of_triplets_of_the_bank_and_of_each_other(tmp_path):
    embedder, folder = network(), bank(tmp_path)
    first = WeightBank(folder)
    from seewhy import Gallery

    entries = Gallery(first.entries.embeddings, numbers(first))
    root = write_squares(tmp_path / "more", 1, first=50)
    append_to_bank(embedder, read(root, kind="folder"), folder)
    second = WeightBank(folder)
    rows = torch.arange(18, 21)
    images = embedder.read([str(root / second.entries.ids[row]) for row in rows]).pixels
    target = Triplets(entries, numbers(second)[18:], with_batch=True)
    method = EmbeddingGradCAM(top_k=None, select="signed")
    found = method(embedder, images, target).values[:, 0]
    maps = embedder.module.features(images).detach()
    kept = torch.einsum("bk,bkhw->bhw", second.entries.dense(rows, CHANNELS), maps)
    assert torch.allclose(kept, found, rtol=1e-4, atol=1e-6)


def test_a_bank_of_clusters_keeps_mean_weights_and_then_the_strongest_channels(tmp_path):
    pytest.importorskip("sklearn")
    recipe = EXACT.model_copy(update={"clusters": 3, "top_k": 2, "select": "positive"})
    full = WeightBank(bank(tmp_path / "all")).entries
    found = WeightBank(bank(tmp_path / "clusters", recipe))
    assert len(found.entries) == 3
    nearest = torch.cdist(full.embeddings, found.entries.embeddings).argmin(1)
    every = full.dense(torch.arange(18), CHANNELS)
    for number in range(3):
        mean = every[nearest == number].mean(0)
        best = mean.topk(2)
        expected = torch.zeros(CHANNELS).index_put_((best.indices,), best.values.clamp_min(0))
        assert torch.allclose(found.entries.dense(torch.tensor([number]), CHANNELS)[0], expected, atol=1e-6)
        inside = [full.labels[place] for place in (nearest == number).nonzero().flatten()]
        assert inside.count(found.entries.labels[number]) == max(map(inside.count, inside))
    assert verify(tmp_path / "clusters" / "bank") == []


def test_a_bank_of_values_pairs_what_is_near(tmp_path):
    root = write_squares(tmp_path / "pictures")
    for place, label in enumerate(LABELS):
        (root / label).rename(root / f"{place}.5")
    recipe = EXACT.model_copy(update={"mining": Mining(tolerance=0.4)})
    counts = build_bank(network(), read(root, kind="folder"), tmp_path / "bank", recipe)
    assert counts.done == 18
    assert set(WeightBank(tmp_path / "bank").entries.labels) == {"0.5", "1.5", "2.5"}


def test_a_bank_of_another_network_layer_or_preprocessing_is_refused(tmp_path):
    folder = bank(tmp_path)
    found = WeightBank(folder)
    with pytest.raises(NotApplicableError, match="built with a network of digest"):
        found.check(other_network(), other_network().digest)
    with pytest.raises(NotApplicableError, match="built with a network of digest"):
        append_to_bank(other_network(), squares(tmp_path / "other"), folder)
    own = network()
    assert own.preprocess is not None
    brighter = Network(own.module, preprocess=own.preprocess.model_copy(update={"mean": (0.4,) * 3}))
    with pytest.raises(NotApplicableError, match="other preprocessing: mean differ"):
        found.check(brighter, own.digest)
    assert "not known" in found.check(Network(own.module), own.digest)
    assert found.recipe.layer == "features"


def damaged(path: Path, kind: str, place: int) -> None:
    data = bytearray(path.read_bytes())
    if kind == "flipped":
        data[place * (len(data) - 1) // 16] ^= 1 << place % 8
    else:
        data = data[: place * len(data) // 17]
    path.write_bytes(bytes(data))


@pytest.mark.parametrize("kind", ["flipped", "truncated"])
@pytest.mark.parametrize("name", ["bank.json", "plan.json", "000000.parquet"])
def test_a_damaged_file_is_refused_and_named(tmp_path, name, kind):
    folder = bank(tmp_path)
    (path,) = folder.rglob(name)
    whole = path.read_bytes()
    for place in range(17):
        damaged(path, kind, place)
        with pytest.raises(StoreError, match=name.replace(".", r"\.")):
            WeightBank(folder)
        if name.endswith(".parquet"):
            assert verify(folder) == [path]
        else:
            with pytest.raises(StoreError, match=name.replace(".", r"\.")):
                verify(folder)
        path.write_bytes(whole)
    assert verify(folder) == []
    path.unlink()
    if name == "000000.parquet":
        assert verify(folder) == [path]
        bank(tmp_path)
        assert path.read_bytes() == whole


def test_a_bank_that_is_not_finished_is_said_to_be_so(tmp_path):
    folder = bank(tmp_path)
    (folder / "bank.json").unlink()
    with pytest.raises(InputError, match="is not finished"):
        WeightBank(folder)
    with pytest.raises(InputError, match="does not exist"):
        WeightBank(tmp_path / "nowhere")


def test_a_dataset_without_labels_is_refused(tmp_path):
    root = write_squares(tmp_path / "pictures")
    flat = tmp_path / "flat"
    flat.mkdir()
    for place, path in enumerate(sorted(root.rglob("*.png"))):
        path.rename(flat / f"{place}.png")
    with pytest.raises(InputError, match="has no label"):
        build_bank(network(), read(flat, kind="folder"), tmp_path / "bank", EXACT)


def test_the_spread_is_the_distance_to_the_nearest_other_entry():
    embeddings = torch.randn(41, 5, generator=torch.Generator().manual_seed(0))
    apart = (
        torch.cdist(embeddings.double(), embeddings.double()).fill_diagonal_(torch.inf).amin(1).sort().values
    )
    found = spread(embeddings)
    assert found["0.5"] == pytest.approx(float(apart[20]), rel=1e-5)
    assert found["1.0"] == pytest.approx(float(apart[-1]), rel=1e-5)
    assert spread(embeddings[:1]) == {}


@pytest.mark.parametrize("kills", [4, pytest.param(50, marks=pytest.mark.slow)])
def test_kills_while_building_change_no_byte(tmp_path, kills):
    script = Path(__file__).with_name("bank_storm.py")
    done = subprocess.run(
        [sys.executable, str(script), str(tmp_path), str(kills)],
        capture_output=True, text=True, timeout=500, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    found = json.loads(done.stdout)
    assert len(found["left"]) == kills
    assert any(0 < files < found["files"] for files, _ in found["left"])
    assert len(WeightBank(tmp_path / "banks" / "reference").entries) == 240


def test_recipes_are_described_and_survive_json():
    recipe = Recipe(clusters=5, mining=Mining(miner="hard"))
    assert Recipe.model_validate_json(recipe.model_dump_json()) == recipe
    assert all(field.description for kind in (Recipe, Mining) for field in kind.model_fields.values())


def test_entries_without_any_left_are_refused(tmp_path):
    folder = bank(tmp_path)
    head = Head.read(folder)
    work = Store(folder).open(head.works[0])
    with pytest.raises(InputError, match="nothing is left"):
        Entries.of([work], WeightBank(folder).entries.ids)
