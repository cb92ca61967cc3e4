"""L2-CAF on networks: its formulas from weights, the public loop by hooks, planted truth, and what notes say."""

from __future__ import annotations

import copy

import numpy as np
import pytest
import torch
from slow import close, linear, network, pairs, pictures
from torch import nn

import seewhy
from seewhy import L2CAF, Classes, Probability, Scenes, Top
from seewhy.errors import NotApplicableError, TargetError
from seewhy.explainers.attention_filter.reading import BEFORE, NO_CLASS
from seewhy.explainers.l2_caf import EVEN, NO_EVIDENCE, SEVERAL, UNSETTLED
from seewhy.network.reinitialise import reinitialise


def class_maps(net, images):
    """What every position adds to every output (B, D, h, w), from the weights of a pooled linear head."""
    activation, _, _ = pairs(net, images, 0)
    weight = linear(net).weight.detach().double().numpy()
    return np.einsum("dk,bkij->bdij", weight, activation) / activation[0, 0].size


def unit(maps):
    return maps / np.linalg.norm(maps, axis=(-2, -1), keepdims=True)


@pytest.mark.parametrize(
    ("contrast", "minus"),
    [("all", [0, 1, 3]), ("mean", [0, 1, 3]), ("none", []), ((0, 3), [0, 3]), ((2, 3), [3])],
    ids=["all", "mean", "none", "given", "given with itself"],
)
def test_a_class_s_filter_is_its_map_less_the_others_on_a_pooled_linear_head(contrast, minus):
    net, images = network("pooled linear"), pictures()
    maps = class_maps(net, images)
    direction = maps[:, 2] - maps[:, minus].sum(1) / (3 if contrast == "mean" else 1)
    signed = L2CAF(layer="features", constraint="sphere", contrast=contrast)(net, images, 2)
    close(signed.values[:, 0], unit(direction))
    found = L2CAF(layer="features", contrast=contrast)(net, images, 2)
    for row, each in enumerate(direction):
        if each.max() > 0:
            close(found.values[row, 0], unit(np.clip(each, 0, None)))


def test_the_strongest_other_classes_are_held_down():
    net, images = network("pooled linear"), pictures()
    maps, scores = class_maps(net, images), net(images).detach().numpy()
    found = L2CAF(layer="features", constraint="sphere", contrast="top-k", k=2)(net, images, 2)
    for row in range(3):
        others = [each for each in np.argsort(-scores[row]) if each != 2][:2]
        close(found.values[row, 0], unit(maps[row, 2] - maps[row, others].sum(0)))


def test_the_oblivious_filter_solves_the_secular_equation_on_a_pooled_linear_head():
    net, images = network("pooled linear", channels=40, classes=30), pictures()
    rows = class_maps(net, images).reshape(3, 30, 25)
    found = L2CAF(layer="features", mode="oblivious", constraint="sphere", rho=0.7)(net, images)
    for row in range(3):
        gram = rows[row].T @ rows[row]
        low, high = 0.0, float(np.linalg.norm(gram.sum(1))) / 0.7
        for _ in range(100):
            middle = (low + high) / 2
            expected = np.linalg.solve(gram + middle * np.eye(25), gram.sum(1))
            low, high = (middle, high) if np.linalg.norm(expected) > 0.7 else (low, middle)
        close(found.values[row, 0].flatten(), expected, 1e-4)


def public_loop(net, layer, image, label, iterations):
    """The loop of the public PyTorch code as it is described: a hook, plain SGD from ones, a look every 50 iterations.

    With a label the class is raised above the others, without one the outputs are kept.
    """
    with torch.no_grad():
        normal = net(image)
    module, kept = net.get_submodule(layer), []
    handle = module.register_forward_hook(
        lambda _module, _inputs, output: kept.append(output.detach().clone())
    )
    with torch.no_grad():
        net(image)
    handle.remove()
    variable = torch.ones(kept[0].shape[2:], requires_grad=True)
    handle = module.register_forward_hook(lambda *_: kept[0] * (variable / variable.norm()))
    optimizer = torch.optim.SGD([variable], lr=0.5)
    last, loss = float("inf"), None
    for turn in range(iterations):
        outputs = net(image)
        loss = (outputs - normal).square().mean() if label is None else outputs.sum() - 2 * outputs[0, label]
        if turn % 50 == 0:
            if abs(loss.item() - last) < 1e-6:
                break
            last = loss.item()
        optimizer.zero_grad()
        loss.backward()
        optimizer.param_groups[0]["lr"] = 1e-5 + (0.5 - 1e-5) * (1 - turn / iterations)
        optimizer.step()
    handle.remove()
    return (variable.abs() / variable.norm()).detach()


@pytest.mark.parametrize("head", ["pooled linear", "convolutions"])
@pytest.mark.parametrize("mode", ["class", "oblivious"])
def test_the_preset_reference_pt_is_the_public_loop(head, mode):
    net, images = network(head).eval().requires_grad_(False), pictures()
    found = L2CAF.from_preset("reference-pt", mode=mode, layer="features", iterations=120)(net, images, 1)
    for row in range(3):
        expected = public_loop(net, "features", images[row : row + 1], 1 if mode == "class" else None, 120)
        cosine = torch.cosine_similarity(found.values[row, 0].flatten(), expected.flatten(), dim=0)
        assert float(cosine) >= 0.9999
        # The loop stops early or late, which its length alone does not tell.
        assert float((found.values[row, 0] - expected).abs().max()) < 1e-3


@pytest.mark.slow
@pytest.mark.parametrize("mode", ["class", "oblivious"])
def test_the_preset_reference_pt_is_the_public_loop_on_resnet_50(mode):
    torch.manual_seed(0)
    net = seewhy.load("torchvision:resnet50", weights="random", offline=True)
    image = torch.randn(1, 3, 224, 224)
    found = L2CAF.from_preset("reference-pt", mode=mode, layer="layer4", iterations=150)(net, image, 243)
    module = copy.deepcopy(net.module).eval().requires_grad_(False)
    expected = public_loop(module, "layer4", image, 243 if mode == "class" else None, 150)
    cosine = torch.cosine_similarity(found.values.flatten(), expected.flatten(), dim=0)
    assert float(cosine) >= 0.9999


def test_the_preset_reference_tf_begins_anywhere_by_its_seed():
    net, images = network("convolutions"), pictures()
    method = L2CAF.from_preset("reference-tf", layer="features", iterations=60)
    one, other = (method.model_copy(update={"seed": seed})(net, images, 1) for seed in (0, 1))
    again = method(net, images, 1)
    assert torch.equal(one.values, again.values)
    assert not torch.equal(one.values, other.values)
    assert method.randomized
    assert not L2CAF().randomized


class Colours(nn.Module):
    """One channel per kind of object, as red and green patches are; a class's score is how much there is of it."""

    def __init__(self):
        super().__init__()
        self.features = nn.Conv2d(3, 3, 4, stride=4, bias=False)
        self.head = nn.Linear(3, 3, bias=False)
        with torch.no_grad():
            self.features.weight.copy_(torch.eye(3)[:, :, None, None].expand(3, 3, 4, 4) / 16)
            self.head.weight.copy_(torch.eye(3))

    def forward(self, images):
        return self.head(self.features(images).mean((2, 3)))


def patches():
    """Red on the left, green on the right, on a dim background of all colours."""
    image = torch.full((1, 3, 32, 32), 0.01)
    image[:, 0, 8:16, 4:12] = 1
    image[:, 1, 16:24, 20:28] = 1
    return image


def shares(values):
    """Of a map's mass, that in the cells of red and that in those of green."""
    energy = values[0, 0].abs()
    return float(energy[2:4, 1:3].sum() / energy.sum()), float(energy[4:6, 5:7].sum() / energy.sum())


@pytest.mark.parametrize(("label", "own"), [(0, 0), (1, 1)])
def test_of_two_classes_in_a_picture_each_map_shows_its_own_and_not_the_other(label, own):
    found = L2CAF()(Colours(), patches(), label)
    inside = shares(found.values)
    assert inside[own] >= 0.9
    assert inside[1 - own] < 0.01
    row, column = divmod(int(found.values.argmax()), 8)
    assert (row in (2, 3) and column in (1, 2)) if own == 0 else (row in (4, 5) and column in (5, 6))


def test_the_magnitudes_of_the_paper_s_filter_light_up_the_other_class_too():
    found = L2CAF(contrast="all", constraint="sphere", magnitude=True)(Colours(), patches(), 0)
    assert shares(found.values)[1] > 0.4


def test_with_random_weights_the_kept_output_lies_anywhere_and_the_class_loses_most_of_its_place():
    scenes = list(Scenes(24, seed=77, size=96))

    def on_objects(net):
        """Beside chance: how much more of the evidence lies on the objects than they have of the area."""
        found = [seewhy.planted_truth([L2CAF(mode=mode)], net, scenes) for mode in ("oblivious", "class")]
        return [each["l2-caf"].mean("object") - each["constant"].mean("object") for each in found]

    rolls = []
    for seed in range(4):
        net = seewhy.load("demo")
        reinitialise(net, list(net.module.modules()), f"{seed}")
        rolls.append(on_objects(net))
    kept, of_class = np.mean(rolls, 0)
    trained_kept, trained_class = on_objects(seewhy.load("demo"))
    assert abs(kept) < 0.03  # one standard error of the pictures
    assert trained_kept > 0.3
    # Untrained layers, too, answer to what differs from its background, and one class to its colours.
    assert of_class < trained_class / 2


class Embedder(nn.Module):
    """A pooled embedding, normalised in one of several ways."""

    def __init__(self, how):
        super().__init__()
        torch.manual_seed(2)
        self.features = nn.Sequential(nn.Conv2d(3, 8, 3, stride=2), nn.ReLU())
        self.project = nn.Linear(8, 60, bias=False)
        self.how = how

    def forward(self, images):
        found = self.project(self.features(images).mean((2, 3)))
        if self.how == "function":
            return nn.functional.normalize(found, dim=1)
        return found if self.how == "plain" else found / found.norm(dim=1, keepdim=True)


@pytest.mark.parametrize("how", ["function", "division"])
def test_of_a_normalised_embedding_what_it_was_before_is_kept(how):
    plain = L2CAF(mode="oblivious", layer="features")(Embedder("plain"), pictures())
    found = L2CAF(mode="oblivious", layer="features")(Embedder(how), pictures())
    close(found.values, plain.values, 1e-4)
    assert all(BEFORE in notes for notes in found.notes)
    assert not any(BEFORE in notes for notes in plain.notes)
    assert float(found.values.std((-2, -1)).min()) > 0.01


def test_of_the_normalised_embedding_itself_the_uniform_filter_is_optimal_and_that_is_said():
    found = L2CAF(mode="oblivious", layer="features", embedding="output")(Embedder("function"), pictures())
    close(found.values, torch.full_like(found.values, 1 / 7), 1e-3)
    assert all(EVEN in notes for notes in found.notes)


def test_the_oblivious_map_is_looked_for_once_and_the_same_for_all_targets():
    net, images = network("convolutions"), pictures()
    one = L2CAF(mode="oblivious", layer="features")(net, images)
    three = L2CAF(mode="oblivious", layer="features")(net, images, Top(3))
    assert three.class_agnostic
    assert three.values.shape == (3, 3, 5, 5)
    for target in range(3):
        assert torch.equal(three.values[:, target], one.values[:, 0])
    spent = [(each.cost.forwards, each.cost.backwards, each.cost.replays) for each in (one, three)]
    assert spent[0] == spent[1]


def test_several_classes_at_once_are_what_each_is_alone():
    net, images = network("convolutions"), pictures()
    both = L2CAF(layer="features")(net, images, Classes([0, 2]))
    for place, label in enumerate((0, 2)):
        close(both.values[:, place], L2CAF(layer="features")(net, images, label).values[:, 0], 1e-4)


def test_several_layers_have_a_filter_each_and_those_before_the_last_are_gated():
    net, images = network("pooled linear"), pictures()
    both = L2CAF(layer=("features.1", "features"))(net, images, 1)
    for layer, size in (("features.1", 7), ("features", 5)):
        alone = L2CAF(layer=layer)(net, images, 1)
        assert both.at(layer).shape == (3, 1, size, size)
        close(both.at(layer), alone.values, 1e-4)
    assert any("riemannian" in note for note in both.notes[0])
    assert any("closed-form" in note for note in both.notes[0])


def test_on_a_pooled_linear_head_it_costs_one_forward_and_nothing_else():
    net, images = network("pooled linear"), pictures()
    for mode in ("class", "oblivious"):
        method = L2CAF(layer="features", mode=mode)
        method(net, images, 1)
        cost = method(net, images, 1).cost
        assert (cost.forwards, cost.backwards, cost.replays, cost.setup) == (3, 0, 0, 0)


def test_a_probability_is_raised_as_it_is_and_that_is_said():
    net, images = network("pooled linear"), pictures()
    found = L2CAF(layer="features")(net, images, Probability(1))
    assert all(NO_CLASS in notes for notes in found.notes)
    assert all(any(note.startswith("riemannian: KKT residual") for note in notes) for notes in found.notes)
    shown = torch.tensor(pairs(net, images, 0)[0]).float()
    with torch.no_grad():
        raised = net.head(found.values * shown).softmax(1)[:, 1]
        uniform = net.head(shown / 5).softmax(1)[:, 1]
    assert (raised >= uniform).all()


class Lowered(Colours):
    """A class against which everything speaks."""

    def __init__(self):
        super().__init__()
        with torch.no_grad():
            self.head.weight[2] = -1


def test_a_class_that_nothing_speaks_for_has_a_map_of_zeros_and_a_note():
    found = L2CAF(contrast="none")(Lowered(), patches(), 2)
    assert not found.values.any()
    assert NO_EVIDENCE in found.notes[0]


def test_an_activation_of_zeros_gives_a_map_of_zeros_and_a_note():
    net = network("convolutions")
    with torch.no_grad():
        for parameter in net.features.parameters():
            parameter.zero_()
    for mode in ("class", "oblivious"):
        for preset in ({}, L2CAF.presets["reference-pt"]):
            found = L2CAF(layer="features", mode=mode, **preset)(net, pictures(), 1)
            assert not found.values.any()
            assert all(any("map is zero" in note for note in notes) for notes in found.notes)


def test_fewer_outputs_than_the_norm_asks_for_are_said_to_leave_a_choice():
    net, images = network("pooled linear"), pictures()
    found = L2CAF(layer="features", mode="oblivious", rho=4.9)(net, images)
    assert all(SEVERAL in notes for notes in found.notes)


@pytest.mark.parametrize("constraint", ["sphere", "simplex", "gaussian", "box"])
def test_every_constraint_holds_on_a_network(constraint):
    net, images = network("convolutions"), pictures()
    values = L2CAF(layer="features", constraint=constraint, rho=2.0, area=0.3)(net, images, 1).values.flatten(
        2
    )
    if constraint == "box":
        assert float(values.max()) <= 1
        assert float(values.mean(2).max()) <= 0.3 + 1e-6
    else:
        size = values.sum(2) if constraint == "simplex" else values.norm(dim=2)
        assert torch.allclose(size, torch.full_like(size, 2.0), atol=1e-5)
    assert constraint == "sphere" or bool((values >= 0).all())


def test_what_cannot_be_is_refused():
    net, images = network("convolutions"), pictures()
    with pytest.raises(NotApplicableError, match="closed form"):
        L2CAF(layer="features", solver="closed-form")(net, images, 1)
    with pytest.raises(TargetError, match="4 outputs"):
        L2CAF(layer="features", contrast=(9,))(net, images, 1)
    with pytest.raises(ValueError, match="knows no gaussian filters"):
        L2CAF(solver="adam", constraint="gaussian")


def test_steps_that_end_early_are_said_not_to_have_settled():
    net, images = network("convolutions"), pictures()
    found = L2CAF(layer="features", mode="oblivious", iterations=2)(net, images)
    assert any(note.startswith(UNSETTLED) for notes in found.notes for note in notes)


@pytest.mark.slow  # two minutes: some checks have heads that take hundreds of steps
def test_the_oblivious_mode_keeps_the_contract():
    contract = seewhy.check_explainer(L2CAF(mode="oblivious"))
    assert contract.passed, str(contract)
