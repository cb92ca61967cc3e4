"""L2-CAF of clips: the deciding frame gets the budget, whatever the layout, and what is ignored is undefined."""

import math

import pytest
import torch
from clip_networks import Latest, Mean, Only, Reader, clips
from torch import nn

import seewhy
from seewhy.clips import ClipAttention, FrameAverage
from seewhy.clips.attention import DEAF, IGNORED
from seewhy.errors import InputError, LayerError, TargetError

QUICK = {"restarts": False}  # where another optimum would do as well


def network(read, order="(BF)", seed=0, **settings):
    torch.manual_seed(seed)
    return Reader(read() if isinstance(read, type) else read, order, **settings).eval()


@pytest.mark.parametrize(("frame", "solver"), [(0, "auto"), (4, "auto"), (1, "riemannian"), (3, "adam")])
def test_a_recurrence_that_reads_one_frame_spends_the_joint_budget_on_it(frame, solver) -> None:
    torch.manual_seed(frame)
    found = ClipAttention(solver=solver)(Reader(Only(frame)), clips(3))

    assert (found.weights[:, frame] >= 0.99).all()
    assert found.weights.sum(1) == pytest.approx(torch.ones(3))


class Marked(nn.Module):
    """Keeps what it saw in the last frame whose first channel is lit, whichever that is."""

    def forward(self, features):
        state = torch.zeros_like(features[:, 0, 1:])
        for each in features.unbind(1):
            state = torch.where(each[:, :1] > 0, each[:, 1:], state)
        return state


class Painted(nn.Module):
    """One channel per colour: each frame's layer is the frame itself."""

    def __init__(self) -> None:
        super().__init__()
        self.layer, self.read = nn.Conv2d(3, 3, 1, bias=False), Marked()
        self.layer.weight.data = torch.eye(3)[:, :, None, None]

    def forward(self, clips):
        maps = self.layer(clips.flatten(0, 1)).unflatten(0, clips.shape[:2])
        return self.read(maps.mean((3, 4)))


def test_the_frame_that_a_content_gate_opens_for_gets_the_budget_in_its_own_places() -> None:
    """Two things in every frame, in green and blue cells; a red cell marks the frame that is read, or two of them."""
    shown = torch.zeros(3, 5, 3, 8, 8)
    for clip in range(3):
        for frame in range(5):
            shown[clip, frame, 1, frame, 1:3] = 1
            shown[clip, frame, 2, 6, frame] = 2
    marked = [1, 4, 3]
    for clip, frame in enumerate(marked):
        shown[clip, [0, frame], 0, 7, 7] = 1

    found = ClipAttention()(Painted(), shown)

    for clip, frame in enumerate(marked):
        assert found.weights[clip, frame] >= 0.99
        own = found.values[clip, frame]
        cells = torch.zeros(8, 8, dtype=torch.bool)
        cells[frame, 1:3] = cells[6, frame] = cells[7, 7] = True
        assert own[cells].square().sum() >= 0.9 * own.square().sum()
        assert found.undefined[clip].tolist() == [each != frame for each in range(5)]


def test_frames_that_a_recurrence_ignores_are_undefined_and_said_to_be() -> None:
    for budget in ("joint", "per-frame"):
        found = ClipAttention(budget=budget)(network(Only(3)), clips())

        assert found.undefined.tolist() == [[True, True, True, False, True]] * 2
        assert not found.values[found.undefined].any()
        assert found.sensitivity[0].tolist() == [0, 0, 0, 1, 0]
        assert found.notes[0][0] == f"{IGNORED} frames 0, 1, 2, 4"


def test_a_network_that_sees_nothing_of_the_layer_says_so() -> None:
    class Constant(nn.Module):
        def forward(self, features):
            return features.detach()[:, 0] * 0 + torch.arange(6.0)

    found = ClipAttention()(network(Constant), clips())

    assert found.undefined.all()
    assert DEAF in found.notes[0]
    assert torch.isfinite(found.weights).all()


def test_per_frame_budgets_give_every_frame_that_counts_the_same_norm() -> None:
    found = ClipAttention(budget="per-frame", rho=0.7)(network(Latest), clips())

    assert not found.undefined.any()
    assert found.values.flatten(2).norm(dim=2) == pytest.approx(torch.full((2, 5), 0.7), rel=1e-5)
    assert found.over_time.sum(1) == pytest.approx(torch.ones(2))
    later, earlier = found.sensitivity[:, -1], found.sensitivity[:, 0]
    assert (later > earlier).all()  # what a GRU saw last has faded least


def test_a_joint_budget_has_the_root_of_the_frames_as_its_norm() -> None:
    found = ClipAttention(rho=2.0, **QUICK)(network(Latest), clips())

    assert found.values.flatten(1).norm(dim=1) == pytest.approx(torch.full((2,), 2 * math.sqrt(5)), rel=1e-5)
    assert (found.values >= 0).all()


def test_averaged_frames_are_one_long_picture() -> None:
    """The mean over frames and places is the mean over a picture of all frames; L2-CAF of that is known to be right."""
    torch.manual_seed(0)
    frames = nn.Sequential(nn.Conv2d(3, 3, 1), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(3, 24))
    shown = clips(2, frames=4, size=5)
    long = shown.transpose(1, 2).flatten(2, 3)

    own = ClipAttention()(FrameAverage(frames), shown)
    other = seewhy.L2CAF(mode="oblivious", rho=2.0)(frames, long)

    assert own.values.flatten(1, 2) == pytest.approx(other.values[:, 0], abs=1e-5)
    assert own.notes[0][-1].startswith("closed-form")


@pytest.mark.parametrize("order", ["(BF)", "(FB)", "BF", "FB", "BKF", "calls"])
def test_frames_are_found_wherever_they_are_in_the_layer(order) -> None:
    """The same weights read in the same way, whatever the shape of what the layer returns."""
    settings = {"width": 5, "kernel": 1}  # as many channels as frames, which shapes alone do not tell apart
    plain = network(Latest(5), **settings)
    layered = Reader(plain.read, order, **settings).eval()
    weight = plain.layer.weight.data
    layered.layer.weight.data = weight[:, :, None] if order == "BKF" else weight
    layered.layer.bias.data = plain.layer.bias.data
    layer = "seen" if order in ("BF", "FB") else "layer"
    read = plain.layer
    plain.layer = nn.Sequential(read, nn.ReLU()) if layer == "seen" else read

    found = ClipAttention(layer=layer, **QUICK)(layered, clips())
    expected = ClipAttention(layer="layer", **QUICK)(plain, clips())

    assert found.order == order
    assert found.values == pytest.approx(expected.values, abs=1e-4)
    assert found.sensitivity == pytest.approx(expected.sensitivity, abs=1e-5)


def test_an_order_of_frames_that_is_declared_is_taken() -> None:
    module = network(Latest(5), "BF", width=5)
    assert ClipAttention(layer="seen", frames="BF")(module, clips()).order == "BF"
    with pytest.raises(LayerError, match="returns a feature map of every frame"):
        ClipAttention(layer="seen", frames="FB")(module, clips())


def test_a_layer_that_mixes_frames_is_reported() -> None:
    found = ClipAttention(**QUICK)(network(Latest, "BKF", kernel=3), clips())
    assert "already mixes frames" in found.notes[0][0]


@pytest.mark.parametrize(("inputs", "axes"), [("FBCHW", (1, 0, 2, 3, 4)), ("BCFHW", (0, 2, 1, 3, 4))])
def test_networks_may_take_clips_in_another_order(inputs, axes) -> None:
    class Other(nn.Module):
        def __init__(self, inner) -> None:
            super().__init__()
            self.inner = inner

        def forward(self, clips):
            assert clips.shape[axes.index(2)] == 3
            return self.inner(clips.permute(axes))

    module = network(Latest)
    expected = ClipAttention(**QUICK)(module, clips())
    found = ClipAttention(inputs=inputs, layer="inner.layer", **QUICK)(Other(module), clips())

    assert found.layer == "inner.layer"
    assert found.values == pytest.approx(expected.values, abs=1e-5)


@pytest.mark.parametrize("read", [Latest, Mean])
def test_a_batch_gives_what_its_clips_give(read) -> None:
    module, shown = network(read), clips(3, frames=3)
    whole, halves = ClipAttention()(module, shown), ClipAttention()(module, shown, chunk=2)
    alone = ClipAttention()(module, shown[1:2])
    assert whole.values[1] == pytest.approx(alone.values[0], abs=1e-4)
    assert halves.values == pytest.approx(whole.values, abs=1e-4)
    assert halves.notes[2][:-1] == whole.notes[2][:-1]


def test_nothing_about_the_network_changes() -> None:
    module = network(Latest).train()
    before = {name: value.clone() for name, value in module.state_dict().items()}
    state = torch.random.get_rng_state()

    ClipAttention(**QUICK)(module, clips())

    assert module.training
    assert module.layer.training
    assert all(torch.equal(value, before[name]) for name, value in module.state_dict().items())
    assert all(each.grad is None and each.requires_grad for each in module.parameters())
    assert "forward" not in module.layer.__dict__
    assert torch.equal(state, torch.random.get_rng_state())


def test_a_normalised_embedding_is_matched_before_it_was_normalised() -> None:
    class Unit(Latest):
        def forward(self, features):
            return nn.functional.normalize(super().forward(features))

    torch.manual_seed(0)
    read = Unit()
    plain, unit = network(Latest), network(read)
    unit.load_state_dict(plain.state_dict())

    found, expected = ClipAttention(**QUICK)(unit, clips()), ClipAttention(**QUICK)(plain, clips())
    assert "normalised" in found.notes[0][0]
    assert found.values == pytest.approx(expected.values, abs=1e-3)


def test_a_class_is_raised_in_the_frame_that_shows_it() -> None:
    """Class 0 is red, class 1 green; red is shown in the second frame, green in the fourth."""
    shown = torch.zeros(1, 5, 3, 8, 8)
    shown[0, 1, 0, 2:4, 2:4] = 1
    shown[0, 3, 1, 5:7, 5:7] = 1
    read = Mean(3, 2)
    read.head.weight.data, read.head.bias.data = torch.eye(2, 3), torch.zeros(2)
    module = Painted()
    module.read = read

    for label, frame in ((0, 1), (1, 3)):
        found = ClipAttention(mode="class")(module, shown, label)
        assert found.weights[0, frame] >= 0.99
    with pytest.raises(TargetError, match="one target per clip"):
        ClipAttention(mode="class")(module, shown, seewhy.Classes([0, 1]))


def test_maps_of_a_joint_budget_have_one_scale_and_others_one_each() -> None:
    module = network(Latest)
    joint, each = (
        ClipAttention(budget=budget, **QUICK)(module, clips()).heatmaps() for budget in ("joint", "per-frame")
    )
    assert joint.shape == each.shape == (2, 5, 17, 17)
    assert (joint.amax((1, 2, 3)) == 1).all()
    assert (joint.amax((2, 3)) < 1).any()
    assert (each.amax((2, 3)) == 1).all()


def test_what_was_found_is_kept_in_a_file(tmp_path) -> None:
    import numpy as np

    found = ClipAttention(**QUICK)(network(Only(3)), clips())
    with np.load(found.to_npz(tmp_path / "found.npz"), allow_pickle=False) as file:
        assert file["values"] == pytest.approx(found.values.numpy())
        assert file["undefined"].tolist() == found.undefined.tolist()
        assert '"budget": "joint"' in str(file["facts"])


def test_errors_say_what_would_work() -> None:
    module = network(Latest)
    with pytest.raises(InputError, match=r"\(B, F, C, H, W\), got torch.float32 \(5, 3, 17, 17\)"):
        ClipAttention()(module, clips()[0])
    with pytest.raises(LayerError, match=r"no layer 'nowhere' .* layer"):
        ClipAttention(layer="nowhere")(module, clips())
    with pytest.raises(LayerError, match="no layer of this network returns a feature map of every frame"):
        ClipAttention()(nn.Sequential(nn.Flatten(), nn.Linear(5 * 3 * 17 * 17, 4)), clips())
    broken = network(Latest)
    broken.layer.weight.data[0] = torch.nan
    with pytest.raises(InputError, match="NaN"):
        ClipAttention()(broken, clips())
