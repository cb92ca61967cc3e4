"""Closed forms of linear heads, one backward pass for many triplets, and what the notes say."""

from __future__ import annotations

import copy

import pytest
import torch
from toy_embedders import CHANNELS, WIDTH, Embedder, gallery, network, pictures

from seewhy import EmbeddingGradCAM, Gallery, GradCAM, HiResCAM, Mining, TripletLoss, Triplets, decompose
from seewhy.errors import InputError
from seewhy.explainers.study import Feature

ALL = {"layer": "features", "top_k": None, "select": "signed"}
PLACES = 25  # of the layer's grid
WIDE = 1e3  # a margin that no triplet escapes


def close(one, other, tolerance=1e-6):
    assert one.shape == other.shape
    assert float((one - other).abs().max()) <= tolerance * float(other.abs().max())


def triplets(count, batch=5, seed=4):
    generator = torch.Generator().manual_seed(seed)
    return tuple(torch.randn(batch, count, WIDTH, generator=generator) for _ in range(2))


def closed_form(near, far, net):
    """dL/dA of the mean of active triplets behind pooling and a linear map, with the sign of the evidence."""
    return -2 / PLACES * (far.double() - near.double()).mean(1) @ net.head[0].weight.detach().double()


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_behind_pooling_and_a_linear_map_the_weights_have_a_closed_form(dtype):
    net = Embedder().to(dtype)
    near, far = (each.to(dtype) for each in triplets(7))
    maps = net.features(pictures().to(dtype)).detach().requires_grad_()
    outputs = net.head(maps.mean((2, 3)))
    bound = TripletLoss(near, far, WIDE).bind(outputs.detach(), network())
    (gradient,) = torch.autograd.grad(bound.ask(outputs, bound.rows).sum(), maps)
    exact = closed_form(near, far, net)
    error = 1e-6 if dtype == torch.float32 else 1e-12
    assert float((gradient.mean((2, 3)) - exact).abs().max()) <= error
    values = EmbeddingGradCAM(**ALL).formula(Feature(maps.detach(), gradient[:, None]))
    # Of the largest value: in float32 every addition rounds once.
    close(values[:, 0].double(), torch.einsum("bk,bkhw->bhw", exact, maps.detach().double()), 2 * error)


def test_the_method_gives_the_closed_form_too():
    net = Embedder()
    near, far = triplets(7)
    found = EmbeddingGradCAM(**ALL)(net, pictures(), TripletLoss(near, far, WIDE))
    maps = net.features(pictures()).detach().double()
    close(found.values[:, 0].double(), torch.einsum("bk,bkhw->bhw", closed_form(near, far, net), maps), 2e-6)


@pytest.mark.parametrize("head", [{}, {"nonlinear": True}, {"normalized": True}])
def test_the_mean_of_single_triplets_maps_is_one_backward_pass_with_the_mean(head):
    net, images = Embedder(**head), pictures()
    near, far = triplets(9)
    method = EmbeddingGradCAM(**ALL)
    together = method(net, images, TripletLoss(near, far, WIDE))
    singles = [method(net, images, TripletLoss(near[:, t], far[:, t], WIDE)).values for t in range(9)]
    close(together.values, torch.stack(singles).mean(0))


@pytest.mark.parametrize("count", [1, 8, 200])
def test_any_number_of_triplets_takes_one_forward_and_one_backward_of_the_head(count, monkeypatch):
    net, images = Embedder(), pictures()
    target = Triplets(gallery(), mining=Mining(triplets=count))
    EmbeddingGradCAM()(net, images, target)
    passes, grad = [], torch.autograd.grad
    monkeypatch.setattr(
        torch.autograd,
        "grad",
        lambda out, at, *a, **k: passes.append([x.shape for x in at]) or grad(out, at, *a, **k),
    )
    ran = []
    hook = net.features[0].register_forward_hook(lambda module, given, output: ran.append(len(output)))
    found = EmbeddingGradCAM()(net, images, target)
    hook.remove()
    assert ran == [5]
    assert passes == [[(5, CHANNELS, 5, 5)]]
    assert (found.cost.forwards, found.cost.backwards, found.cost.replays) == (5, 5, 0)


def test_behind_a_normalised_map_without_bias_every_map_sums_to_zero_and_the_notes_say_so():
    near, far = triplets(6)
    target = TripletLoss(near, far, WIDE)
    found = EmbeddingGradCAM(**ALL)(Embedder(bias=False, normalized=True), pictures(), target)
    assert (found.values.sum((-2, -1)).abs() <= 1e-5 * found.values.abs().sum((-2, -1))).all()
    assert all(any("sums to zero" in note for note in notes) for notes in found.notes)
    biased = EmbeddingGradCAM(**ALL)(Embedder(), pictures(), target)
    assert not any("sums to zero" in note for notes in biased.notes for note in notes)


def test_for_is_the_negated_map_of_against():
    near, far = triplets(6)
    pro, contra = (
        EmbeddingGradCAM(**ALL)(Embedder(), pictures(), TripletLoss(near, far, WIDE, evidence=evidence))
        for evidence in ("for", "against")
    )
    assert torch.equal(pro.values, -contra.values)
    assert torch.equal(
        EmbeddingGradCAM(**ALL, sign=-1)(Embedder(), pictures(), TripletLoss(near, far, WIDE)).values,
        contra.values,
    )


def slow_map(weights, maps, top_k, select):
    """Channel by channel, the way the paper tells it."""
    order = sorted(
        range(len(weights)), key=lambda k: -(abs(weights[k]) if select == "magnitude" else weights[k])
    )
    found = torch.zeros(maps.shape[1:], dtype=torch.float64)
    for k in order[:top_k]:
        if select != "positive" or weights[k] > 0:
            found += float(weights[k]) * maps[k].double()
    return found


class Prices(torch.nn.Module):
    """Red objects raise the price, blue ones lower it; the embedding is the price and how green it is."""

    def __init__(self):
        super().__init__()
        self.features = torch.nn.Sequential(torch.nn.Conv2d(3, 3, 1, bias=False), torch.nn.ReLU())
        self.head = torch.nn.Linear(3, 2, bias=False)
        with torch.no_grad():
            self.features[0].weight.copy_(torch.eye(3)[:, :, None, None])
            self.head.weight.copy_(torch.tensor([[4.0, 0.0, -2.0], [0.0, 1.0, 0.0]]))

    def forward(self, x):
        return self.head(self.features(x).mean((2, 3)))


@pytest.mark.parametrize(("value", "raises"), [(0.5, 1), (-0.5, -1)])
def test_planted_objects_that_raise_and_lower_a_price_are_told_apart(value, raises):
    picture = torch.zeros(1, 3, 8, 8)
    picture[0, 0, :3, :3] = picture[0, 2, 5:, 5:] = 1
    prices = torch.linspace(-0.6, 0.6, 25)
    entries = Gallery(torch.stack([prices, torch.zeros(25)], 1), prices)
    asked = {"labels": torch.tensor([value]), "mining": Mining(tolerance=0.15, margin=1.0)}
    method = EmbeddingGradCAM(layer="features", top_k=None, select="signed")
    pro, contra = (
        method(Prices(), picture, Triplets(entries, evidence=each, **asked)) for each in ("for", "against")
    )
    assert torch.equal(pro.values, -contra.values)
    red, blue = (raises * pro.values[0, 0, area, area] for area in (slice(0, 3), slice(5, 8)))
    # Of a dear house what raises its price is evidence, of a cheap one what lowers it.
    assert (red > 0).all()
    assert (blue < 0).all()
    assert not pro.values[0, 0, 3:5].any()


@pytest.mark.parametrize("select", ["positive", "signed", "magnitude"])
@pytest.mark.parametrize("top_k", [1, 4, CHANNELS])
def test_the_strongest_channels_count(select, top_k):
    net, images = Embedder(), pictures()
    near, far = triplets(3)
    target = TripletLoss(near, far, WIDE)
    weights = closed_form(near, far, net)
    maps = net.features(images).detach()
    found = EmbeddingGradCAM(layer="features", top_k=top_k, select=select)(net, images, target)
    for row in range(5):
        close(found.values[row, 0].double(), slow_map(weights[row], maps[row], top_k, select), 2e-6)
        negative = int((weights[row].sort(descending=True).values[:top_k] < 0).sum())
        said = [note for note in found.notes[row] if "largest weights are negative" in note]
        assert bool(said) == (negative > 0 and select != "magnitude" and bool((weights[row] > 0).any()))
        if said:
            assert said[0].startswith(f"{negative} of the {top_k}")
            assert said[0].endswith("dropped" if select == "positive" else "kept")


def test_presets_differ_by_negative_weights_among_the_largest():
    assert EmbeddingGradCAM.from_preset("paper") == EmbeddingGradCAM()
    assert EmbeddingGradCAM.from_preset("reference").select == "signed"


def test_where_no_channel_speaks_for_it_the_map_is_zero_and_says_so():
    net = Embedder()
    with torch.no_grad():
        net.head[0].weight.abs_()
    far = torch.full((WIDTH,), 5.0)
    found = EmbeddingGradCAM(layer="features")(net, pictures(), TripletLoss(-far, far, WIDE))
    assert not found.values.any()
    assert all("no channel has a positive weight: nothing speaks for it" in notes for notes in found.notes)


def test_settled_triplets_are_flagged_and_give_a_map():
    net, images = Embedder(), pictures()
    embeddings = net(images).detach()
    found = EmbeddingGradCAM()(net, images, TripletLoss(embeddings + 0.01, embeddings + 100, 0.2))
    assert found.values.any(dim=-1).any()
    assert all(any("inactive" in note for note in notes) for notes in found.notes)


def test_all_channels_of_one_target_are_grad_cam_and_without_pooling_hires_cam():
    near, far = triplets(3)
    target, net = TripletLoss(near, far, WIDE), Embedder(nonlinear=True)
    close(
        EmbeddingGradCAM(**ALL)(net, pictures(), target).values,
        GradCAM(layer="features")(net, pictures(), target).values,
    )
    close(
        EmbeddingGradCAM(**ALL, pool=False)(net, pictures(), target).values,
        HiResCAM(layer="features")(net, pictures(), target).values,
    )


@pytest.mark.parametrize("miner", ["random", "hard", "semi-hard"])
def test_a_batch_equals_its_pictures(miner):
    net, images = network(nonlinear=True), pictures()
    before = copy.deepcopy(net.module.state_dict())
    target = Triplets(gallery(), torch.tensor([0, 1, 2, 1, 0]), mining=Mining(miner=miner))
    together = EmbeddingGradCAM()(net, images, target)
    for row in range(5):
        alone = EmbeddingGradCAM()(net, images[row : row + 1], target.pick([row], 5))
        close(together.values[row], alone.values[0], 1e-5)
        assert together.labels[row] == alone.labels[0]
        assert together.notes[row] == alone.notes[0]
    assert all(torch.equal(value, before[name]) for name, value in net.module.state_dict().items())


def test_a_pair_s_table_adds_up_to_its_inner_product():
    net, pair = Embedder(bias=False), pictures(2)
    found = decompose(net, pair, "features")
    embeddings = net(pair).detach()
    assert found.similarity == pytest.approx(float(embeddings[0] @ embeddings[1]), rel=1e-5)
    assert abs(found.rest) <= 1e-5 * float(found.table.abs().sum())
    maps, weight = net.features(pair).detach(), net.head[0].weight.detach()
    for p, q in ((0, 0), (7, 11), (24, 3)):
        one, other = maps[0].flatten(1)[:, p], maps[1].flatten(1)[:, q]
        expected = float((weight @ one) @ (weight @ other)) / PLACES**2
        assert float(found.table.flatten(0, 1).flatten(1)[p, q]) == pytest.approx(
            expected, rel=1e-4, abs=1e-7
        )


def test_what_a_bias_adds_to_a_pair_is_told_apart():
    found = decompose(Embedder(), pictures(2), "features")
    assert abs(found.rest) > 1e-3 * abs(found.similarity)
    with pytest.raises(InputError, match="two pictures"):
        decompose(Embedder(), pictures(3), "features")
