"""Which triplets are chosen, against loops over all of them."""

from __future__ import annotations

import itertools

import pytest
import torch
from toy_embedders import LABELS, gallery, network, pictures

from seewhy import EmbeddingGradCAM, Gallery, Mining, Triplets
from seewhy.embedding.batches import arranged, shuffled
from seewhy.embedding.gallery import distances
from seewhy.errors import InputError, TargetError


def mined(how, anchors=None, labels=None):
    entries = gallery()
    anchors = gallery(4, seed=8).embeddings if anchors is None else anchors
    labels = torch.arange(len(anchors)) % 3 if labels is None else labels
    apart = distances(anchors, entries.embeddings)
    partners = how.partners(labels, entries.labels, entries.itself(anchors))
    return apart, partners, how.mine(apart, *partners)


@pytest.mark.parametrize("miner", ["random", "hard", "semi-hard"])
def test_positives_are_of_the_label_and_negatives_are_not(miner):
    _, _, (near, far, counted) = mined(Mining(miner=miner, triplets=20))
    labels = gallery().labels
    for row in range(4):
        assert (labels[near[row]] == row % 3).all()
        assert (labels[far[row]] != row % 3).all()
    assert counted.all()


def test_by_value_what_is_near_belongs_together_and_what_is_in_between_to_nobody():
    how = Mining(tolerance=1.0)
    positives, negatives = how.partners(
        torch.tensor([0.0]), torch.tensor([0.5, -0.9, 1.5, 2.5]), torch.zeros(1, 4, dtype=torch.bool)
    )
    assert positives.tolist() == [[True, True, False, False]]
    assert negatives.tolist() == [[False, False, False, True]]


def test_the_hardest_are_the_pairs_of_the_largest_difference():
    apart, (positives, negatives), (near, far, counted) = mined(Mining(miner="hard", triplets=7))
    for row in range(4):
        pairs = itertools.product(positives[row].nonzero().flatten(), negatives[row].nonzero().flatten())
        every = sorted((float(apart[row, p] ** 2 - apart[row, n] ** 2) for p, n in pairs), reverse=True)
        found = apart[row, near[row]] ** 2 - apart[row, far[row]] ** 2
        assert found.tolist() == pytest.approx(every[:7], rel=1e-5)
    assert counted.all()


def test_of_fewer_pairs_than_triplets_no_hard_one_counts_twice():
    entries = Gallery(torch.eye(3), torch.tensor([0, 0, 1]))
    how = Mining(miner="hard", triplets=9)
    apart = distances(entries.embeddings[:1] + 0.5, entries.embeddings)
    partners = how.partners(torch.tensor([0]), entries.labels, torch.zeros(1, 3, dtype=torch.bool))
    assert int(how.mine(apart, *partners)[2].sum()) == 2


def test_a_semi_hard_negative_is_the_nearest_that_is_farther_than_the_positive():
    apart, (_, negatives), (near, far, _) = mined(Mining(miner="semi-hard", triplets=16))
    for row, (p, n) in [(r, pair) for r in range(4) for pair in zip(near[r], far[r], strict=True)]:
        each = apart[row][negatives[row]]
        farther = each[each > apart[row, p]]
        assert float(apart[row, n]) == float(farther.min() if len(farther) else each.max())


def test_random_triplets_of_a_class_are_the_same_for_all_and_another_seed_s_are_others():
    anchors = gallery(6, seed=8).embeddings
    labels = torch.tensor([0, 0, 0, 1, 1, 1])
    near, far, _ = mined(Mining(triplets=12), anchors, labels)[2]
    assert torch.equal(near[0], near[2])
    assert torch.equal(far[3], far[5])
    assert not torch.equal(near[0], mined(Mining(triplets=12, seed=1), anchors, labels)[2][0][0])


def test_the_picture_itself_is_left_out_of_its_gallery_and_said_so():
    net, images = network(), pictures()
    embeddings = net(images)
    entries = Gallery(
        torch.cat([embeddings, gallery().embeddings]), torch.cat([torch.zeros(5).long(), gallery().labels])
    )
    without = Gallery(gallery().embeddings, gallery().labels)
    one = images[:1]
    asked = Triplets(
        Gallery(entries.embeddings[[0, *range(5, 29)]], entries.labels[[0, *range(5, 29)]]), torch.tensor([0])
    )
    found = EmbeddingGradCAM()(net, one, asked)
    assert torch.allclose(
        found.values, EmbeddingGradCAM()(net, one, Triplets(without, torch.tensor([0]))).values
    )
    assert "1 of the gallery is this very picture" in found.notes[0][-1]


def test_without_labels_the_nearest_of_the_gallery_tells_and_the_notes_say_so():
    net, images = network(), pictures()
    entries = gallery()
    nearest = entries.labels[distances(net(images), entries.embeddings).argmin(1)]
    found, told = (EmbeddingGradCAM()(net, images, Triplets(entries, labels)) for labels in (None, nearest))
    assert torch.equal(found.values, told.values)
    assert found.labels == told.labels == tuple((f"triplets of {LABELS[n]}, evidence for",) for n in nearest)
    assert f"taken for {LABELS[nearest[0]]!r}" in found.notes[0][-1]


def test_a_gallery_file_gives_what_its_tensors_give(tmp_path):
    net, images, entries = network(), pictures(), gallery()
    path = entries.save(tmp_path / "gallery.safetensors")
    found, other = (EmbeddingGradCAM()(net, images, Triplets(source)) for source in (entries, path))
    assert torch.equal(found.values, other.values)
    path.write_bytes(b"something else")
    with pytest.raises(InputError, match=r"gallery\.safetensors is no gallery"):
        Gallery.of(path)


def test_proxies_leave_out_the_picture_that_is_explained():
    entries = gallery()
    with_it, labels = entries.proxies()
    without, _ = entries.proxies(exclude=[0])
    units = torch.nn.functional.normalize(entries.embeddings, dim=1)
    mean = torch.stack([units[place] for place in range(3, 24, 3)]).mean(0)
    assert torch.allclose(without[0], mean / mean.norm(), atol=1e-6)
    assert labels.tolist() == [0, 1, 2]
    assert torch.equal(with_it[1:], without[1:])
    assert not torch.allclose(with_it[0], without[0])


@pytest.mark.parametrize(
    ("target", "message"),
    [
        (Triplets(), "needs the labels"),
        (Triplets(gallery(), torch.tensor([7] * 5)), "picture 0 of '7' has no positive among the 24"),
        (Triplets(Gallery(torch.ones(2, 3), torch.arange(2))), r"a gallery of embeddings \(2, 3\)"),
        (Triplets(gallery(), torch.zeros(2).long()), "2 pictures|2 targets|shape"),
    ],
)
def test_triplets_that_cannot_be_made_say_why(target, message):
    with pytest.raises(TargetError, match=message):
        EmbeddingGradCAM()(network(), pictures(), target)


@pytest.mark.parametrize("seed", range(30))
def test_every_batch_holds_another_picture_of_each_class_that_has_one(seed):
    chance = torch.Generator().manual_seed(seed)
    count = int(torch.randint(4, 200, (1,), generator=chance))
    classes = int(torch.randint(2, 40, (1,), generator=chance))
    labels = [f"{n}" for n in torch.randint(0, classes, (count,), generator=chance).tolist()]
    order, size = arranged(labels, (12, 24, 48)[seed % 3], seed)
    assert sorted(order) == list(range(count))
    assert size % 6 == 0
    alone = {label for label in labels if labels.count(label) == 1}
    for start in range(0, count, size):
        batch = [labels[number] for number in order[start : start + size]]
        assert all(batch.count(label) > 1 for label in batch if label not in alone)


@pytest.mark.parametrize("count", [18, 60, 99, 250])
@pytest.mark.parametrize("classes", [3, 10])
def test_of_classes_of_one_size_every_batch_holds_several(count, classes):
    labels = [str(number % classes) for number in range(count)]
    for batch in (12, 24, 48):
        order, size = arranged(labels, batch, 0)
        for start in range(0, count, size):
            assert len({labels[number] for number in order[start : start + size]}) > 1


def test_values_are_shuffled_into_batches_of_which_none_is_small():
    order, size = shuffled(98, 48, 0)
    assert sorted(order) == list(range(98))
    assert 98 % size == 0 or 98 % size >= size // 2
