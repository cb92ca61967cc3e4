"""What a network was asked before, alone or in a batch, changes no answer."""

from __future__ import annotations

import copy
from collections.abc import Callable

import pytest
import torch
from PIL import Image
from torch import Tensor, nn

import seewhy
from seewhy import Explainer
from seewhy.errors import NotApplicableError
from seewhy.render import panels
from seewhy.targets import Probability, Similarity

IMAGES = torch.randn(2, 3, 24, 24, generator=torch.Generator().manual_seed(1))
OCCLUSION = seewhy.Occlusion(window=12, stride=12)


def trunk(*more: nn.Module) -> nn.Sequential:
    return nn.Sequential(nn.Conv2d(3, 6, 5, stride=3), nn.ReLU(), *more)


def pooled(classes: int) -> nn.Sequential:
    torch.manual_seed(0)
    return trunk(nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(6, classes)).eval()


def curved() -> nn.Module:
    """Its head is not affine, so that Ablation-CAM runs it once per channel."""
    torch.manual_seed(0)
    return trunk(nn.Flatten(), nn.Linear(6 * 49, 10), nn.ReLU(), nn.Linear(10, 3)).eval()


class Squashed(nn.Module):
    """Its sigmoid is a function, which no list of modules shows."""

    def __init__(self, classes: int = 1) -> None:
        super().__init__()
        self.body = pooled(classes)

    def forward(self, x: Tensor) -> Tensor:
        return torch.sigmoid(self.body(x) - 2)


class Gated(nn.Module):
    """Its sigmoid comes last among the modules, and its answers are logits."""

    def __init__(self) -> None:
        super().__init__()
        self.body, self.gate = pooled(1), nn.Sigmoid()

    def forward(self, x: Tensor) -> Tensor:
        return self.gate(x.mean((1, 2, 3)))[:, None] * self.body(x) + 1


class Domains(nn.Module):
    """The second input, or the attribute, says which batch norm it is."""

    domain = 0

    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.conv, self.norms = nn.Conv2d(3, 6, 3), nn.ModuleList(nn.BatchNorm2d(6) for _ in range(2))
        self.fc = nn.Linear(6, 3)
        for place, norm in enumerate(self.norms):
            norm.running_mean.fill_(place / 2)
            norm.running_var.fill_(1 + place)

    def forward(self, x: Tensor, domain: Tensor | None = None) -> Tensor:
        which = self.domain if domain is None else int(domain[0])
        return self.fc(torch.relu(self.norms[which](self.conv(x))).mean((2, 3)))


class Detour(nn.Module):
    """Reads the first layer once more where it is told to."""

    again = False

    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.a, self.b = nn.Conv2d(3, 4, 3, padding=1), nn.Conv2d(4, 4, 3, padding=1)
        self.fc = nn.Linear(4, 3)

    def forward(self, x: Tensor) -> Tensor:
        a = torch.relu(self.a(x))
        b = torch.relu(self.b(a))
        return self.fc((b + a if self.again else b).square().mean((2, 3)))


@pytest.mark.parametrize("first", ["gradient", "input-x-gradient", "guided-backprop", "integrated-gradients"])
@pytest.mark.parametrize(
    "second", ["score-cam", "ablation-cam", "ablation-cam:computation=replay", "group-cam"]
)
def test_methods_may_be_asked_together_in_any_order(first, second) -> None:
    alone = seewhy.explain_all(curved(), IMAGES, [second], 0)
    for order in ([first, second], [second, first]):
        found = seewhy.explain_all(curved(), IMAGES, order, 0)
        name = second.partition(":")[0]
        torch.testing.assert_close(found[name].values, alone[name].values)
        counted = found[name].cost
        assert (counted.forwards, counted.replays) == (alone[name].cost.forwards, alone[name].cost.replays)


def same_twice(
    ask: Callable[[nn.Module], seewhy.Explanation], make: Callable[[], nn.Module], before: Callable
) -> None:
    """The answer of a fresh network, and of one that something else was done with before."""
    fresh, other = make(), make()
    before(other)
    expected, found = ask(fresh), ask(other)
    assert found.labels == expected.labels
    torch.testing.assert_close(found.scores, expected.scores)
    torch.testing.assert_close(found.values, expected.values)


METHODS = [
    seewhy.Gradient(),
    OCCLUSION,
    seewhy.RISE(masks=8, precision="float32"),
    seewhy.IntegratedGradients(steps=2),
]


@pytest.mark.parametrize("method", METHODS, ids=lambda each: each.name)
def test_a_sigmoid_without_a_module_is_known_at_once(method: Explainer) -> None:
    same_twice(lambda net: method(net, IMAGES), Squashed, lambda net: seewhy.GradCAM()(net, IMAGES))
    assert method(Squashed(), IMAGES).labels == (("negative",), ("negative",))
    several = method(Squashed(3), IMAGES, Probability(0))
    torch.testing.assert_close(several.scores[:, 0], Squashed(3)(IMAGES)[:, 0].detach())


def test_a_target_s_own_sigmoid_says_nothing_of_the_network() -> None:
    def squashing(net: nn.Module) -> None:
        seewhy.GradCAM()(net, IMAGES, lambda outputs: outputs[:, 0].sigmoid())

    def small() -> nn.Module:  # logits between 0 and 1
        net = pooled(3)
        net[-1].weight.data *= 0.1
        net[-1].bias.data = torch.tensor([0.2, 0.5, 0.8])
        return net

    assert bool(((small()(IMAGES) > 0) & (small()(IMAGES) < 1)).all())
    same_twice(lambda net: seewhy.Gradient()(net, IMAGES, Probability(0)), small, squashing)
    found = seewhy.Gradient()(small(), IMAGES, Probability(0)).scores[:, 0]
    torch.testing.assert_close(found, small()(IMAGES).softmax(1)[:, 0].detach())


def test_a_sigmoid_that_is_a_gate_squashes_no_answer_of_a_picture_alone() -> None:
    images = torch.cat([IMAGES[:1], 20 * IMAGES[1:]])
    logits = Gated()(images).flatten().tolist()
    assert 0 < logits[0] < 1
    assert not 0 < logits[1] < 1
    both = seewhy.Gradient()(Gated(), images)
    alone = seewhy.Gradient()(Gated(), images[:1])
    assert alone.labels[0] == both.labels[0] == ("positive",)
    torch.testing.assert_close(alone.values[0], both.values[0])


@pytest.mark.parametrize(
    "method", [OCCLUSION, seewhy.ScoreCAM(layer="conv", precision="float32")], ids=lambda e: e.name
)
def test_batch_norms_may_depend_on_an_input_or_an_attribute(method) -> None:
    def domain(number: int) -> Tensor:
        return torch.full((2,), number)

    def asked(net: nn.Module) -> seewhy.Explanation:
        return method(net, (IMAGES, domain(1)), 0)

    def switched(net: nn.Module) -> seewhy.Explanation:
        net.domain = 1
        return method(net, IMAGES, 0)

    def make() -> nn.Module:
        return Domains().eval()

    same_twice(asked, make, lambda net: method(net, (IMAGES, domain(0)), 0))
    same_twice(switched, make, lambda net: method(net, IMAGES, 0))


def _eps(net: nn.Module) -> None:
    net[1].eps = 1.0


def _bias(net: nn.Module) -> None:
    net[0].bias = nn.Parameter(torch.ones(6))


@pytest.mark.parametrize("change", [_eps, _bias])
def test_a_changed_eps_or_bias_counts_at_once(change) -> None:
    def make() -> nn.Module:
        torch.manual_seed(0)
        layers = (
            nn.Conv2d(3, 6, 3, bias=False),
            nn.BatchNorm2d(6),
            nn.ReLU(),
            nn.AdaptiveAvgPool2d(1),
            nn.Flatten(),
        )
        return nn.Sequential(*layers, nn.Linear(6, 3)).eval()

    def changed(net: nn.Module) -> seewhy.Explanation:
        change(net)
        return OCCLUSION(net, IMAGES, 0)

    same_twice(changed, make, lambda net: OCCLUSION(net, IMAGES, 0))


def test_a_head_that_reads_more_than_when_its_replay_was_planned_is_run_whole() -> None:
    method = seewhy.AblationCAM(layer="b", computation="replay")

    def again(net: nn.Module) -> seewhy.Explanation:
        net.again = True
        return method(net, IMAGES, 0)

    same_twice(again, lambda: Detour().eval(), lambda net: method(net, IMAGES, 0))


def test_the_shape_of_a_head_is_of_this_target_and_this_size() -> None:
    reference = torch.randn(6, generator=torch.Generator().manual_seed(2))
    net = trunk(nn.AdaptiveAvgPool2d(1), nn.Flatten()).eval()
    seewhy.AblationCAM()(net, IMAGES, Similarity(reference, normalize=False))
    cosine = Similarity(reference)
    found = seewhy.AblationCAM()(net, IMAGES, cosine)
    replayed = seewhy.AblationCAM(computation="replay")(net, IMAGES, cosine)
    torch.testing.assert_close(found.values, replayed.values)
    with pytest.raises(NotApplicableError):
        seewhy.CAM()(net, IMAGES, cosine)

    sized = trunk(nn.AdaptiveMaxPool2d(1), nn.Flatten(), nn.Linear(6, 3)).eval()
    seewhy.CAM(layer="1")(sized, IMAGES[..., :5, :5], 0)  # one cell, whose maximum is its mean
    with pytest.raises(NotApplicableError):
        seewhy.CAM(layer="1")(sized, IMAGES, 0)


def test_l2_caf_of_a_picture_is_the_same_after_a_black_one_and_at_another_size() -> None:
    def net() -> nn.Module:
        torch.manual_seed(0)
        layers = nn.Conv2d(3, 6, 5, stride=3, bias=False), nn.ReLU(), nn.AdaptiveMaxPool2d(1), nn.Flatten()
        return nn.Sequential(*layers, nn.Linear(6, 3)).eval()

    method, black = seewhy.L2CAF(layer="1", iterations=20), torch.zeros_like(IMAGES[:1])
    alone = method(net(), IMAGES[:1], 0)
    first = method(net(), torch.cat([black, IMAGES[:1]]), 0)
    torch.testing.assert_close(first.values[1], alone.values[0], atol=1e-4, rtol=1e-3)

    other = torch.randn(1, 3, 33, 45, generator=torch.Generator().manual_seed(5))
    for size in (1, 2):

        def averaged(size: int = size) -> nn.Module:
            torch.manual_seed(0)
            return trunk(nn.AdaptiveAvgPool2d(size), nn.Flatten(), nn.Linear(6 * size * size, 3)).eval()

        same_twice(
            lambda net: seewhy.L2CAF(layer="1")(net, other, 0),
            averaged,
            lambda net: seewhy.L2CAF(layer="1")(net, IMAGES, 0),
        )


def test_a_picture_from_memory_is_drawn_as_it_was_given(tmp_path) -> None:
    preprocess = seewhy.Preprocess(resize=(24, 24), mean=(0.5,) * 3, std=(0.5,) * 3)
    net = seewhy.Network(pooled(3), preprocess=preprocess)
    path = tmp_path / "blue.png"
    Image.new("RGB", (40, 30), "blue").save(path)
    opened = Image.open(path).convert("RGB")
    opened.filename = str(path)
    opened.paste((255, 0, 0), (0, 0, 40, 30))
    found = seewhy.GradCAM()(
        net, net.read([opened, path.read_bytes(), path, Image.new("RGB", (20, 50), "lime")]), 0
    )
    shown = [panels.picture(found, row) for row in range(4)]
    assert [each.size for each in shown] == [(40, 30), (40, 30), (40, 30), (20, 50)]
    assert [each.getpixel((3, 3)) for each in shown] == [(255, 0, 0), (0, 0, 255), (0, 0, 255), (0, 255, 0)]
    assert panels.picture(found.select([3]), 0).size == (20, 50)
    assert len(found.save(tmp_path / "saved")) == 5


class Prompted(nn.Module):
    """Compares pictures with a table, which serves all of them."""

    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.body = trunk()

    def forward(self, images: Tensor, prompts: Tensor) -> Tensor:
        return self.body(images).mean((2, 3)) @ prompts.T


class Described(Prompted):
    """Weighs features by what is said of each picture."""

    def forward(self, images: Tensor, facts: Tensor) -> Tensor:
        return (self.body(images).mean((2, 3)) * facts).cumsum(1)


@pytest.mark.parametrize("kind", [Prompted, Described])
@pytest.mark.parametrize("batch", [1, 2, 3, 4])
@pytest.mark.parametrize("named", [False, True])
def test_a_table_as_long_as_the_batch_serves_every_picture(kind, batch, named) -> None:
    images = torch.randn(batch, 3, 24, 24, generator=torch.Generator().manual_seed(3))
    table = torch.randn(4 if kind is Prompted else batch, 6, generator=torch.Generator().manual_seed(4))
    net = kind().eval()
    for method in (
        OCCLUSION,
        seewhy.GradCAM(layer="body.1"),
        seewhy.ScoreCAM(layer="body.1", precision="float32"),
    ):
        second = {"prompts" if kind is Prompted else "facts": table}
        together = method(net, {0: images, **second} if named else (images, table), 0)
        for row in range(batch):
            own = table if kind is Prompted else table[row : row + 1]
            alone = method(kind().eval(), (images[row : row + 1], own), 0)
            torch.testing.assert_close(together.values[row], alone.values[0], atol=1e-5, rtol=1e-3)
            torch.testing.assert_close(together.scores[row], alone.scores[0])


class Pair(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.trunk, self.fc = trunk(nn.Conv2d(6, 4, 1), nn.ReLU()), nn.Linear(8, 3)

    def forward(self, a: Tensor, b: Tensor) -> Tensor:
        return self.fc(torch.cat([self.trunk(each).mean((2, 3)) for each in (a, b)], 1))


@pytest.mark.parametrize("method", ["gradient", "grad-cam", "occlusion:window=8,stride=8"])
def test_inputs_of_other_sizes_have_maps_of_their_own_size(method, tmp_path) -> None:
    small, large = IMAGES[..., :16, :16], torch.randn(2, 3, 24, 40)
    found = seewhy.explain_all(Pair().eval(), (small, large), [method], 0)[method.partition(":")[0]]
    sizes = {0: (16, 16), 1: (24, 40)}
    assert {site.input for site in found.maps} == {0, 1}
    again = seewhy.Explanation.from_npz(found.to_npz(tmp_path / "pair.npz"))
    for site in found.maps:
        assert found.size_at(site) == again.size_at(site) == sizes[site.input]
        assert found.evidence(site).shape[-2:] == found.heatmaps(site=site).shape[-2:] == sizes[site.input]
        assert [each.shape[-2:] for each in found.original(0, site)] == [sizes[site.input]] * 2


@pytest.mark.parametrize(
    "name", ["score-cam", "ablation-cam", "l2-caf", "layer-integrated-gradients", "group-cam"]
)
def test_what_is_announced_covers_every_layer_of_every_input(name) -> None:
    from seewhy.explainers.base import Workload

    settings = {"l2-caf": {"iterations": 2}, "layer-integrated-gradients": {"steps": 2}}.get(name, {})
    method = seewhy.make(name, layer=("trunk.1", "trunk.3"), **settings)
    net = seewhy.Network(Pair().eval())
    method(net, (IMAGES, IMAGES), 0)
    found = method(net, (IMAGES, IMAGES), 0)
    assert len(found.maps) > 2
    assert found.cost.within(method.plan(Workload(2, 1, ((24, 24), (24, 24))), net))


def test_smooth_grad_says_what_its_method_says_of_every_copy() -> None:
    warned = seewhy.GuidedBackprop()(curved(), IMAGES, 0).notes
    found = seewhy.SmoothGrad(method="guided-backprop", samples=3)(curved(), IMAGES, 0).notes
    assert all(set(own) <= set(more) and own for own, more in zip(warned, found, strict=True))


def test_score_cam_of_channels_that_all_are_constant_is_zero() -> None:
    net = trunk(nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(6, 3)).eval()
    found = seewhy.ScoreCAM(layer="2", channels=4)(net, IMAGES, 0)
    assert not bool(found.values.any())
    assert all("4 of 4 channels are constant" in notes for notes in found.notes)


def test_pruned_weights_are_those_that_masked_pictures_are_scored_with():
    net = nn.Sequential(
        nn.Conv2d(3, 8, 3),
        nn.BatchNorm2d(8),
        nn.ReLU(),
        nn.AdaptiveAvgPool2d(1),
        nn.Flatten(),
        nn.Linear(8, 3),
    ).eval()
    OCCLUSION(net, IMAGES, target=1)
    net[0].weight.data[:4] = 0  # which torch does not count as a write
    found = OCCLUSION(net, IMAGES, target=1).values
    torch.testing.assert_close(found, OCCLUSION(copy.deepcopy(net), IMAGES, target=1).values, rtol=0, atol=0)


@pytest.mark.parametrize(
    "explainer",
    [
        seewhy.RISE(masks=8),
        seewhy.SmoothGrad(samples=2),
        seewhy.IntegratedGradients(steps=2),
        seewhy.IntegratedGradients(steps=2, rule="trapezoid"),
        seewhy.IntegratedGradCAM(steps=2, baseline="noise"),
        seewhy.L2CAF(start="random", solver="adam"),
    ],
    ids=str,
)
def test_torch_s_default_number_format_changes_no_draw(explainer):
    net = pooled(3)
    before = explainer(net, IMAGES, target=1).values
    torch.set_default_dtype(torch.float64)
    try:
        after = explainer(net, IMAGES, target=1).values
    finally:
        torch.set_default_dtype(torch.float32)
    assert after.dtype == torch.float32
    torch.testing.assert_close(after, before, rtol=1e-5, atol=1e-7)


class NoGraph(nn.Module):
    """Its forward pass breaks the graph."""

    def __init__(self, way: str) -> None:
        super().__init__()
        self.net, self.way = pooled(3), way

    def forward(self, x: Tensor) -> Tensor:
        if self.way == "detach":
            return self.net(x).detach()
        with torch.no_grad():
            return self.net(x)


@pytest.mark.parametrize("way", ["detach", "no_grad"])
def test_a_score_without_a_graph_is_refused_by_what_differentiates_at_the_pixels(way):
    net = NoGraph(way).eval()
    for name in ("gradient", "input-x-gradient", "integrated-gradients:steps=2", "smooth-grad:samples=2"):
        with pytest.raises(NotApplicableError, match=r"cannot be differentiated.*rise need no gradient"):
            seewhy.make(name)(net, IMAGES, target=1)
    assert OCCLUSION(net, IMAGES, target=1).values.any()


@pytest.mark.parametrize("name", ["rise", "smooth-grad", "l2-caf", "group-cam"])
def test_a_seed_has_eight_bytes(name):
    assert seewhy.make(f"{name}:seed={2**63 - 1}")
    with pytest.raises(seewhy.errors.InputError, match="seed"):
        seewhy.make(f"{name}:seed={2**63}")
