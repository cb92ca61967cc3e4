"""Matches are the most similar pictures, and both maps of a match explain its similarity."""

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from PIL import Image

import seewhy
from seewhy.embedding.retrieve import Embedded, embed, nearest, retrieve
from seewhy.errors import InputError
from small_dataset import network, write_dataset


@pytest.fixture(scope="module")
def paths(tmp_path_factory) -> list[str]:
    """Twelve pictures of squares in four colours, in turn."""
    root = write_dataset(tmp_path_factory.mktemp("retrieve"))
    return sorted(str(path) for path in (root / "images").iterdir())


@pytest.fixture(scope="module")
def gallery(paths) -> Embedded:
    return embed(network(), paths, batch_size=5)


def test_embeddings_are_the_network_s_in_the_order_asked(paths, gallery) -> None:
    net = network()
    assert gallery.paths == tuple(paths)
    assert torch.allclose(gallery.vectors, net(net.read(paths).pixels), atol=1e-6)


def test_pictures_that_cannot_be_read_are_listed_and_counted(paths, tmp_path) -> None:
    (tmp_path / "broken.png").write_bytes(b"broken")
    steps = []
    found = embed(
        network(), [paths[0], str(tmp_path / "broken.png"), paths[1]], batch_size=2, step=steps.append
    )
    assert found.paths == (paths[0], paths[1])
    assert [each.path for each in found.failed] == [str(tmp_path / "broken.png")]
    assert found.asked == sum(steps) == 3


def test_the_nearest_are_those_of_a_sorted_list(gallery) -> None:
    rows = torch.randn(40, 4, generator=torch.Generator().manual_seed(0))
    many = Embedded(tuple(f"{n}.png" for n in range(40)), rows)
    for metric in ("cosine", "inner-product"):
        for query in rows[:5]:
            products = [float(query @ row) / (float(row.norm()) if metric == "cosine" else 1) for row in rows]
            assert nearest(query, many, 7, metric) == sorted(range(40), key=lambda n: -products[n])[:7]


def test_of_equals_the_earlier_comes_first_and_a_small_gallery_gives_all_it_has() -> None:
    same = Embedded(("a.png", "b.png", "c.png"), torch.ones(3, 2))
    assert nearest(torch.ones(2), same, 2) == [0, 1]
    assert nearest(torch.ones(2), same, 9, without="./a.png") == [1, 2]


def test_a_query_finds_its_own_colour_and_never_itself(paths, gallery) -> None:
    queries = embed(network(), paths[:4])
    for number, found in enumerate(retrieve(network(), queries, gallery, top=2)):
        assert found.query == paths[number]
        assert {match.path for match in found.matches} == {paths[number + 4], paths[number + 8]}
        assert found.matches[0].similarity >= found.matches[1].similarity


def test_similarities_are_the_scores_of_both_maps(paths, gallery) -> None:
    (found,) = retrieve(network(), embed(network(), paths[:1]), gallery, top=5)
    for rank, match in enumerate(found.matches, 1):
        for own in (found.of_query(rank), found.of_match(rank)):
            assert own.scores.item() == pytest.approx(match.similarity, abs=1e-6)
        assert found.of_query(rank).images.paths == (paths[0],)
        assert found.of_match(rank).images.paths == (match.path,)
        name = match.path.rpartition("/")[2]
        assert found.of_query(rank).labels == ((f"similarity to {name}",),)
        assert found.of_match(rank).labels == (("similarity to p00.png",),)


@pytest.mark.parametrize("metric", ["cosine", "inner-product"])
def test_maps_are_gradients_of_the_similarity_with_the_other_held_fixed(paths, gallery, metric) -> None:
    """Grad-CAM by hand: the gradient at the pooled layer, averaged, times the activations."""
    net = network()
    (found,) = retrieve(
        net, embed(net, paths[:1]), gallery, "grad-cam:layer=features.1", top=3, metric=metric
    )
    images = net.read([paths[0], *(match.path for match in found.matches)])
    vectors = net(images.pixels)
    for rank in range(1, 4):
        for own, other, explanation in ((0, rank, found.of_query(rank)), (rank, 0, found.of_match(rank))):
            activation = net.module.features[:2](images.pixels[own : own + 1]).detach().requires_grad_()
            head = net.module.head(net.module.pool(net.module.features[2:](activation)).flatten(1))[0]
            product = head @ vectors[other]
            score = F.cosine_similarity(head, vectors[other], dim=0) if metric == "cosine" else product
            (gradient,) = torch.autograd.grad(score, activation)
            expected = (gradient.mean((2, 3), keepdim=True) * activation).sum(1).detach()
            assert torch.allclose(explanation.values[0], expected, rtol=1e-4, atol=1e-6)


def test_the_output_that_is_named_is_what_is_compared(paths) -> None:
    class Two(torch.nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.inner = network().module

        def forward(self, x):
            rows = self.inner(x)
            return {"noise": torch.ones_like(rows), "code": rows}

    two = seewhy.Network(Two().eval(), preprocess=network().preprocess)
    embedding = two.embedding(output="code")
    theirs = embed(two, paths, embedding)
    (found,) = retrieve(two, embed(two, paths[:1], embedding), theirs, embedding=embedding, top=2)
    assert {match.path for match in found.matches} == {paths[4], paths[8]}


def test_what_cannot_be_searched_is_refused(paths, gallery, tmp_path) -> None:
    net, one = network(), embed(network(), paths[:1])
    with pytest.raises(InputError, match="at least one match"):
        next(retrieve(net, one, gallery, top=0))
    with pytest.raises(InputError, match="no picture that can be read"):
        next(retrieve(net, one, Embedded((), torch.zeros(0, 4))))
    with pytest.raises(InputError, match="nothing but the query"):
        next(retrieve(net, one, one))
    with pytest.raises(InputError, match="without a preprocess"):
        embed(net.module, paths)
    gone = tmp_path / "gone.png"
    Image.fromarray(np.zeros((8, 8, 3), np.uint8)).save(gone)
    theirs = embed(net, [str(gone)])
    gone.unlink()
    with pytest.raises(InputError, match=r"gone\.png: no such file"):
        next(retrieve(net, one, theirs))
