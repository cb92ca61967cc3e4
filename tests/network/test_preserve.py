from __future__ import annotations

import copy
import gc
import random
import warnings
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn
from toy_networks import Plain, WritesIntoItsInput, pictures, seeded

import seewhy
from seewhy.errors import NotApplicableError
from seewhy.network.network import Network
from seewhy.network.preserve import _backends, preserved, replaced_forwards

CPU = torch.device("cpu")


class Counting(nn.Module):
    """Counts its calls in a buffer, through `.data` as old code does, in a new buffer, and in attributes."""

    def __init__(self) -> None:
        super().__init__()
        self.register_buffer("calls", torch.zeros((), dtype=torch.long))
        self.register_buffer("quiet", torch.zeros(3))
        self.register_buffer("replaced", torch.zeros(2))
        self.number, self.seen, self.cache = 0, [], {}

    def forward(self, x: Tensor) -> Tensor:
        self.calls += 1
        self.quiet.data.add_(1)
        self.replaced = self.replaced + 1
        self.number += 1
        self.seen.append(x)
        self.cache[x.device] = x
        self.last = x
        return x


class Failing(nn.Module):
    def forward(self, x: Tensor) -> Tensor:
        raise ValueError("half-way")


class Everything(nn.Module):
    """Whatever could be left behind, in one network."""

    def __init__(self, tail: nn.Module) -> None:
        super().__init__()
        self.first, self.count, self.norm = nn.Conv2d(3, 5, 3, padding=1), Counting(), nn.BatchNorm2d(5)
        self.act, self.noise, self.tail = nn.ReLU(), nn.Dropout(0.5), tail
        self.fc = nn.Linear(5, 3)

    def forward(self, x: Tensor) -> Tensor:
        torch.rand(3), np.random.rand(3), random.random()
        x = self.noise(self.act(self.norm(self.count(self.first(x)))))
        return self.fc(self.tail(x).mean((2, 3)))


def mixed(tail: nn.Module | None = None) -> Everything:
    network = seeded(lambda: Everything(tail or nn.Identity()))
    network.train()
    network.norm.eval()
    network.fc.weight.requires_grad_(False)
    network.first.bias.grad = torch.ones(5)
    return network


def state(network: nn.Module) -> list[Any]:
    """Everything that the owner of a network could notice, in a form that can be compared."""
    tensors = [*network.named_parameters(), *network.named_buffers()]
    return [
        [(name, id(each), each._version, each.tolist(), each.requires_grad) for name, each in tensors],
        [None if each.grad is None else each.grad.tolist() for each in network.parameters()],
        [(name, each.training, sorted(each.__dict__)) for name, each in network.named_modules()],
        [[list(table) for key, table in vars(each).items() if "hooks" in key] for each in network.modules()],
        [
            {key: each.__dict__[key] for key in ("number", "seen", "cache") if key in each.__dict__}
            for each in copy.deepcopy(list(network.modules()))
        ],
    ]


def without_versions(found: list[Any]) -> list[Any]:
    """Writing a buffer back counts as a write."""
    return [[(name, key, values, flag) for name, key, _, values, flag in found[0]], *found[1:]]


@pytest.mark.parametrize("method", ["cam", "grad-cam", "eigen-cam"])
def test_an_explanation_leaves_the_network_as_it_was(method):
    network = mixed()
    before = without_versions(state(network))
    seewhy.make(method)(network, pictures(), 1)
    assert without_versions(state(network)) == before


def test_weights_are_not_even_written_to():
    network = seeded(Plain)
    before = state(network)
    seewhy.GradCAM()(network, pictures(), 1)
    assert state(network) == before


def test_a_network_that_fails_half_way_is_left_as_it_was():
    network = mixed(Failing())
    before = without_versions(state(network))
    with pytest.raises(ValueError, match="half-way"):
        seewhy.GradCAM()(network, pictures(), 1)
    assert without_versions(state(network)) == before


@pytest.mark.parametrize("tail", [None, Failing()])
def test_random_states_are_as_they_were(tail):
    network = mixed(tail)
    before = torch.get_rng_state(), np.random.get_state()[1].tolist(), random.getstate()
    try:
        seewhy.GradCAM()(network, pictures(), 1)
    except ValueError:
        assert tail is not None
    assert torch.equal(before[0], torch.get_rng_state())
    assert (np.random.get_state()[1].tolist(), random.getstate()) == before[1:]


def test_attention_biases_cached_in_evaluation_mode_do_not_outlive_the_explanation():
    class Caching(Plain):
        """As in LeViT: the bias is computed once in evaluation mode, and forgotten by `train()`."""

        def __init__(self) -> None:
            super().__init__()
            self.scale, self.cache = nn.Parameter(torch.ones(1)), {}

        def train(self, mode: bool = True) -> nn.Module:
            super().train(mode)
            if mode:
                self.cache = {}
            return self

        def forward(self, x: Tensor) -> Tensor:
            if not self.training and "bias" not in self.cache:
                self.cache["bias"] = 2 * self.scale
            return super().forward(x) + (2 * self.scale if self.training else self.cache["bias"])

    network = seeded(Caching).train()
    before = seewhy.GradCAM()(network, pictures(), 1).scores
    with torch.no_grad():
        network.scale.add_(1)  # a training step
    # The score is a constant plus 2 * scale.
    assert torch.allclose(seewhy.GradCAM()(network, pictures(), 1).scores, before + 2, atol=1e-5)


def test_an_owner_s_forward_override_runs_and_stays():
    network = seeded(Plain)
    plain = seewhy.GradCAM()(network, pictures(), 1).scores
    original = network.fc.forward
    override = lambda x: original(x) + 5  # noqa: E731 - an instance attribute, as monkey patches are
    network.fc.forward = override
    found = seewhy.GradCAM()(network, pictures(), 1).scores
    assert network.fc.__dict__["forward"] is override
    assert torch.allclose(found, plain + 5, atol=1e-5)  # float32 rounding of a sum
    del network.fc.forward
    seewhy.GradCAM()(network, pictures(), 1)
    assert "forward" not in network.fc.__dict__


def test_hooks_run_once_per_forward_and_see_what_they_always_see():
    network = seeded(Plain)
    image = pictures()
    seewhy.GradCAM()(network, image, 1)  # the survey is a pass of its own
    seen: list[tuple[str, tuple[int, ...]]] = []
    network.relu2.register_forward_pre_hook(
        lambda module, inputs: seen.append(("pre", tuple(inputs[0].shape)))
    )
    network.relu2.register_forward_hook(lambda module, inputs, out: seen.append(("post", tuple(out.shape))))
    network.register_forward_hook(lambda module, inputs, out: seen.append(("root", tuple(out.shape))))
    seewhy.GradCAM()(network, image, 1)
    assert seen == [("pre", (2, 8, 8, 8)), ("post", (2, 8, 8, 8)), ("root", (2, 4))]


def test_a_hook_that_changes_an_output_changes_the_explanation_like_the_network():
    network = seeded(Plain)
    network.fc.register_forward_hook(lambda module, inputs, output: 3 * output)
    explained = seewhy.GradCAM()(network, pictures(), 1)
    with torch.no_grad():
        assert torch.allclose(explained.scores[:, 0], network(pictures())[:, 1], atol=1e-5)


def test_the_backends_are_as_they_were(monkeypatch):
    inside: list[tuple[bool, bool]] = []
    flags: Callable[[], tuple[bool, bool]] = lambda: (  # noqa: E731
        torch.backends.mha.get_fastpath_enabled(),
        torch.backends.cudnn.enabled,
    )
    network = seeded(Plain)
    network.register_forward_hook(lambda *_: inside.append(flags()))
    before = flags()
    seewhy.GradCAM()(network, pictures(), 1)
    assert flags() == before == (True, True)
    assert all(not fastpath for fastpath, _ in inside)


def test_cudnn_is_off_only_for_recurrent_layers_on_an_accelerator():
    for device, layer, expected in [
        ("cuda", nn.LSTM(2, 2), False),
        ("cuda", nn.Linear(2, 2), True),
        ("cpu", nn.LSTM(2, 2), True),
    ]:
        with _backends([layer], torch.device(device)):
            assert torch.backends.cudnn.enabled is expected
        assert torch.backends.cudnn.enabled


def test_a_module_compiled_in_place_runs_uncompiled_and_stays_compiled():
    network = seeded(Plain)
    calls: list[int] = []
    network.fc._compiled_call_impl = compiled = lambda *args: calls.append(1)
    seewhy.GradCAM()(network, pictures(), 1)
    assert network.fc._compiled_call_impl is compiled
    assert not calls


def test_a_compiled_submodule_runs_its_original():
    network = seeded(Plain)
    expected = seewhy.GradCAM()(network, pictures(), 1)
    inner = network.fc
    network.fc = torch.compile(inner, backend="eager")
    forward = network.fc.__dict__.get("forward")
    found = seewhy.GradCAM()(network, pictures(), 1)
    assert torch.equal(found.values, expected.values)
    assert network.fc.__dict__.get("forward") is forward


def test_a_scripted_submodule_is_evaluated_in_evaluation_mode_and_put_back():
    network = seeded(Plain)
    expected = seewhy.GradCAM()(network, pictures(), 1).scores
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)
        network.drop = torch.jit.script(network.drop)
    network.train()
    found = seewhy.GradCAM()(network, pictures(), 1).scores
    assert network.drop.training
    assert torch.equal(found, expected)


@pytest.mark.parametrize(
    "context",
    [
        torch.no_grad,
        torch.inference_mode,
        lambda: torch.autocast("cpu", dtype=torch.bfloat16),
        lambda: torch.set_grad_enabled(False),
    ],
    ids=["no_grad", "inference_mode", "autocast", "set_grad_enabled"],
)
def test_the_caller_s_context_neither_changes_the_map_nor_is_changed(context):
    network = seeded(Plain)
    expected = seewhy.GradCAM()(network, pictures(), 1)
    before = torch.is_grad_enabled(), torch.is_inference_mode_enabled(), torch.is_autocast_enabled("cpu")
    with context():
        image = pictures()
        inside = torch.is_grad_enabled(), torch.is_inference_mode_enabled(), torch.is_autocast_enabled("cpu")
        found = seewhy.GradCAM()(network, image, 1)
        assert inside == (
            torch.is_grad_enabled(),
            torch.is_inference_mode_enabled(),
            torch.is_autocast_enabled("cpu"),
        )
    assert torch.equal(found.values, expected.values)
    assert before == (
        torch.is_grad_enabled(),
        torch.is_inference_mode_enabled(),
        torch.is_autocast_enabled("cpu"),
    )


def test_pictures_made_in_inference_mode_may_enter_the_head():
    class InputSkip(Plain):
        def forward(self, x: Tensor) -> Tensor:
            return super().forward(x) + self.fc(
                (self.features(x)[:, :3] * x[:, :, ::2, ::2]).mean((2, 3)) @ eye
            )

    eye = torch.eye(3, 8)
    network = seeded(InputSkip)
    expected = seewhy.GradCAM(layer="relu2")(network, pictures(), 1)
    with torch.inference_mode():
        found = seewhy.GradCAM(layer="relu2")(network, pictures(), 1)
    assert torch.equal(found.values, expected.values)


def test_a_network_built_in_inference_mode_is_refused_with_the_reason():
    with torch.inference_mode():
        network = seeded(Plain)
    with pytest.raises(NotApplicableError, match=r"inference_mode.*build it\s+outside"):
        seewhy.GradCAM()(network, pictures(), 1)


def test_lazy_layers_that_never_ran_are_refused_with_the_way_out():
    network = nn.Sequential(nn.Conv2d(3, 4, 3), nn.Flatten(), nn.LazyLinear(2))
    with pytest.raises(NotApplicableError, match="run it once"):
        seewhy.GradCAM()(network, pictures(), 1)


def test_pictures_are_not_written_to_by_networks_that_normalise_in_place():
    network, image = seeded(WritesIntoItsInput), pictures()
    outputs = Network(network)(image)
    explained = seewhy.make("cam")(network, image, 1)
    assert torch.equal(image, pictures())
    assert torch.allclose(explained.scores[:, 0], outputs[:, 1])


def test_inside_the_block_parameters_are_frozen_and_modules_evaluate():
    network = mixed()
    with preserved(network, CPU):
        assert not any(each.requires_grad for each in network.parameters())
        assert not any(each.training for each in network.modules())
        assert torch.is_grad_enabled()


def test_evaluation_mode_is_set_without_calling_what_owners_override():
    class Merging(Plain):
        def train(self, mode: bool = True) -> nn.Module:
            raise AssertionError("as some adapters do, this would merge weights")

    network = seeded(Plain)
    network.__class__ = Merging
    seewhy.GradCAM()(network, pictures(), 1)


def test_a_replaced_forward_also_catches_direct_calls_and_is_taken_back():
    network = seeded(Plain)
    with replaced_forwards({network.fc: lambda original, x: original(x) * 0 + 7}):
        assert bool((network.fc(torch.rand(1, 8)) == 7).all())
        assert bool((network.fc.forward(torch.rand(1, 8)) == 7).all())
    assert "forward" not in network.fc.__dict__


def test_replaced_forwards_are_taken_back_after_an_error():
    network = seeded(Plain)
    with pytest.raises(ValueError, match="half-way"), replaced_forwards({network.fc: lambda original, x: x}):
        raise ValueError("half-way")
    assert "forward" not in network.fc.__dict__


def test_fifty_calls_keep_no_tensor():
    network, image = seeded(Plain), pictures(1)
    method = seewhy.GradCAM()
    method(network, image, 1)

    def alive() -> int:
        gc.collect()
        return sum(issubclass(type(each), Tensor) for each in gc.get_objects())

    method(network, image, 1)
    before = alive()
    for _ in range(50):
        method(network, image, 1)
    assert alive() == before
