from __future__ import annotations

import gc
import weakref
from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.utils._python_dispatch import TorchDispatchMode
from toy_networks import (
    NETWORKS,
    Plain,
    RandomHead,
    RemembersItsPictures,
    Siamese,
    network,
    pictures,
    seeded,
    trained_head,
)

import seewhy
from seewhy.network import surveys
from seewhy.network.network import Network
from seewhy.network.replay import Head, Plan, record
from seewhy.network.structures import tensors
from seewhy.targets import Function, Target

LAYERS = {
    "plain": ["conv1", "norm1", "pool", "norm2", "relu2"],
    "in-place relu": ["norm1", "relu1", "norm2", "relu2"],
    "functional relu": ["norm1", "norm2"],
    "dict output": ["relu2"],
    "tuple output": ["relu2"],
    "named tuple output": ["relu2"],
    "dataclass output": ["conv2", "relu2"],
    "dataclass inside": ["backbone.relu1", "backbone.relu2"],
    "residual": ["stem", "body", "last"],
    "dense": ["a", "b", "c"],
    "u-net": ["down", "deep", "deep.1", "merge.0"],
    "shared modules": ["stem.0", "stem", "block[0]", "act[1]", "block[1]", "act[2]"],
    "lstm head": ["conv", "relu"],
    "class token": ["patches", "blocks.0.norm2", "blocks.0", "blocks.1.norm1"],
    "mean of tokens": ["blocks.0.mlp", "blocks.1", "norm"],
    "registers": ["blocks.0", "blocks.1.norm1"],
    "sequence first": ["blocks.0", "blocks.1.norm2", "norm"],
    "channels last": ["patches", "act", "norm"],
    "sigmoid head": ["relu2"],
    "frozen backbone": ["backbone.0", "backbone"],
    "inference-mode backbone": ["backbone"],
    "frames, picture by picture": ["last"],
    "frames, time by time": ["last"],
    "writes into others": ["a", "b", "relu"],
    "writes into its input": ["norm1", "relu2"],
}
CASES = [(name, layer) for name, layers in LAYERS.items() for layer in layers]
NOT_REPLAYABLE = {("writes into others", "b"), ("writes into others", "relu")}
ROWS = torch.tensor([1, 0, 2, 2, 0])
TOLERANCE = 1e-5  # rounding of float32 at another batch size; outputs are of order 1


class Anything(Target):
    """Depends on whatever float tensors a network returns."""

    def survey(self, outputs: Any) -> tuple[Tensor, int | None]:
        return sum(each.float().square().sum() for each in tensors(outputs)), None


def head_of(module: nn.Module, layer: str, inputs: Any, run: Callable[[Head], Any]) -> Any:
    """What `run` gives for a head recorded on these inputs."""
    wrapped = Network(module)
    name, _, index = layer.partition("[")
    with wrapped.prepared(inputs) as arguments:
        survey, _ = surveys.surveyed(wrapped, arguments, Anything())
        call = survey.of(name)[int(index.rstrip("]") or 0)]
        plan, _ = surveys.planned(wrapped, arguments, survey, call, wrapped.digest)
        return run(record(module, arguments, plan))


def perturbed(head: Head, rows: Tensor = ROWS) -> Tensor:
    """Random activations for these rows, unlike any that a picture gives."""
    axis = head.plan.call.axes[head.plan.call.leaf]
    expanded = axis.expand(head.activation, rows)
    noise = torch.randn(expanded.shape, generator=torch.Generator().manual_seed(5))
    return expanded + noise.to(expanded) * expanded.std()


def full_forward(
    module: nn.Module, layer: str, inputs: tuple[Tensor, ...], activation: Tensor
) -> list[Tensor]:
    """The oracle: an ordinary forward of repeated pictures, with an ordinary hook that swaps the output."""
    name, _, index = layer.partition("[")
    calls = 0

    def swap(_: nn.Module, __: Any, output: Any) -> Any:
        nonlocal calls
        calls += 1
        return activation.clone() if calls - 1 == int(index.rstrip("]") or 0) else None

    handle = module.get_submodule(name).register_forward_hook(swap)
    with torch.no_grad():
        outputs = module(*(each[ROWS] for each in inputs))
    handle.remove()
    return tensors(outputs)


@pytest.mark.parametrize(("name", "layer"), CASES, ids=[f"{name}-{layer}" for name, layer in CASES])
def test_a_replay_gives_what_a_full_forward_gives(name, layer):
    module, inputs = network(name), pictures(3)

    def run(head: Head) -> tuple[Tensor, list[Tensor], bool]:
        activation = perturbed(head)
        with torch.no_grad():
            return activation, tensors(head(activation.clone(), ROWS)), head.plan.verified

    activation, got, verified = head_of(module, layer, inputs, run)
    expected = full_forward(module, layer, (inputs.clone(),), activation)
    assert len(got) == len(expected) > 0
    for one, other in zip(got, expected, strict=True):
        assert torch.allclose(one, other, atol=TOLERANCE, rtol=TOLERANCE)
    assert verified is ((name, layer) not in NOT_REPLAYABLE)


def test_every_toy_is_replayed_somewhere():
    assert LAYERS.keys() == NETWORKS.keys()


@pytest.mark.parametrize("layer", ["backbone[0]", "backbone[1]", "backbone.0[1]"])
def test_a_backbone_that_runs_twice_is_replayed_call_by_call(layer):
    module = seeded(Siamese)
    inputs = pictures(3), pictures(3, seed=1)

    def run(head: Head) -> tuple[Tensor, Tensor]:
        activation = perturbed(head)
        with torch.no_grad():
            assert head.plan.verified
            return activation, head(activation.clone(), ROWS)

    activation, got = head_of(module, layer, inputs, run)
    assert torch.allclose(got, full_forward(module, layer, inputs, activation)[0], atol=TOLERANCE)


def test_a_replay_without_rows_stands_for_all_pictures_in_order():
    module, inputs = network("dense"), pictures(3)

    def run(head: Head) -> Tensor:
        with torch.no_grad():
            return head(head.activation)

    assert torch.allclose(head_of(module, "c", inputs, run), module(inputs), atol=TOLERANCE)


def test_a_replay_can_be_differentiated():
    module, inputs = network("residual").double(), pictures(2).double()

    def run(head: Head) -> Tensor:
        activation = head.activation.clone().requires_grad_()
        (gradient,) = torch.autograd.grad(head(activation)[:, 1].sum(), activation)
        return gradient

    found = head_of(module, "last", inputs, run)
    kept: list[Tensor] = []
    module.last.register_forward_hook(lambda _, __, output: (output.retain_grad(), kept.append(output))[0])
    module(inputs)[:, 1].sum().backward()
    assert torch.allclose(found, kept[0].grad, atol=1e-12)  # float64


def test_replaying_often_gives_the_same_each_time():
    module = network("residual")

    def run(head: Head) -> list[Tensor]:
        activation = perturbed(head)
        with torch.no_grad():
            return [head(activation.clone(), ROWS) for _ in range(3)]

    first, second, third = head_of(module, "body", pictures(3), run)
    assert torch.equal(first, second)
    assert torch.equal(first, third)


def test_a_head_that_writes_into_its_activation_leaves_the_caller_s_alone():
    def run(head: Head) -> tuple[Tensor, Tensor]:
        activation = perturbed(head)
        before = activation.clone()
        with torch.no_grad():
            head(activation, ROWS)
        return before, activation

    before, after = head_of(network("residual"), "body", pictures(3), run)  # b += a follows
    assert torch.equal(before, after)


def test_a_head_that_writes_into_its_activation_can_be_differentiated():
    def run(head: Head) -> Tensor:
        activation = head.activation.clone().requires_grad_()
        return torch.autograd.grad(head(activation).sum(), activation)[0]

    module = network("residual")
    found = head_of(module, "body", pictures(2), run)
    # The body's output reaches the scores like its sum with the stem: the gradient of a plain forward.
    kept: list[Tensor] = []
    handle = module.body.register_forward_hook(
        lambda _, __, output: (kept.append(output.detach().requires_grad_()), kept[0].clone())[1]
    )
    module(pictures(2)).sum().backward()
    handle.remove()
    assert torch.allclose(found, kept[0].grad, atol=TOLERANCE)


@pytest.mark.parametrize("kind", [RandomHead, RemembersItsPictures])
def test_a_network_that_cannot_be_replayed_runs_whole_and_is_counted_as_such(kind):
    def run(head: Head) -> tuple[bool, int, int]:
        with torch.no_grad():
            head(perturbed(head), ROWS)
        return head.plan.verified, head.forwards, head.replays

    assert head_of(seeded(kind), "relu2", pictures(3), run) == (False, 3 + 5, 0)


def test_a_network_whose_head_reads_what_the_trunk_set_is_still_right():
    module, inputs = seeded(RemembersItsPictures), pictures(3)

    def run(head: Head) -> tuple[Tensor, Tensor]:
        activation = perturbed(head)
        with torch.no_grad():
            return activation, head(activation, ROWS)

    activation, got = head_of(module, "relu2", inputs, run)
    assert torch.allclose(got, full_forward(module, "relu2", (inputs,), activation)[0], atol=TOLERANCE)


def test_outputs_that_hold_no_tensor_are_not_taken_for_verified():
    class Opaque(Plain):
        def forward(self, x: Tensor) -> object:
            return type("Answer", (), {"scores": super().forward(x)})()

    module = seeded(Opaque)
    target = Function(lambda outputs: outputs.scores[:, 1])
    wrapped = Network(module)
    with wrapped.prepared(pictures()) as arguments:
        survey, _ = surveys.surveyed(wrapped, arguments, target)
        plan, _ = surveys.planned(wrapped, arguments, survey, survey.of("relu2")[0], wrapped.digest)
    assert not plan.verified


def test_a_classifier_of_zeros_verifies_nothing_and_is_tried_again_when_it_is_trained():
    module = network("plain")
    with torch.no_grad():
        module.fc.weight.zero_()
    assert not head_of(module, "relu2", pictures(), lambda head: head.plan.verified)
    with torch.no_grad():
        module.fc.weight.normal_(generator=torch.Generator().manual_seed(0))
    assert head_of(module, "relu2", pictures(), lambda head: head.plan.verified)


def test_the_replays_are_counted_by_picture():
    def run(head: Head) -> tuple[int, int]:
        with torch.no_grad():
            head(perturbed(head), ROWS)
            head(perturbed(head), ROWS)
        return head.forwards, head.replays

    assert head_of(network("plain"), "relu2", pictures(3), run) == (3, 10)


class Allocations(TorchDispatchMode):
    """The largest tensor that any operation returns, in bytes of memory of its own."""

    def __init__(self) -> None:
        super().__init__()
        self.largest = 0

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        output = func(*args, **(kwargs or {}))
        for tensor in tensors(output):
            self.largest = max(self.largest, tensor.untyped_storage().nbytes())
        return output


def test_what_nobody_reads_takes_no_memory():
    rows = torch.zeros(400, dtype=torch.long)

    def run(head: Head) -> int:
        activation = head.activation[rows]
        with torch.no_grad(), Allocations() as seen:
            head(activation, rows)
        return seen.largest

    # The activation itself: 400 x 8 x 8 x 8 floats; the first convolution's output would be six times that.
    assert head_of(network("plain"), "relu2", pictures(1), run) <= 400 * 8 * 8 * 8 * 4


def test_a_plan_names_only_the_calls_whose_values_are_read():
    plan: Plan = head_of(network("plain"), "relu2", pictures(2), lambda head: head.plan)
    assert plan.needed == {("relu2", 0)}
    plan = head_of(network("residual"), "last", pictures(2), lambda head: head.plan)
    assert {("", -1), ("stem", 0)} <= plan.needed  # the head adds both


def test_a_network_is_let_go_after_it_was_explained():
    module = network("residual")
    seewhy.explain_all(module, pictures(), ["grad-cam", "eigen-cam"], 1)
    head_of(module, "last", pictures(), lambda head: None)
    watched = weakref.ref(module)
    del module
    gc.collect()
    assert watched() is None


def test_a_network_is_let_go_though_the_target_s_function_refers_to_it():
    module = network("plain")
    seewhy.GradCAM()(module, pictures(), lambda outputs: outputs[:, 1] * module.fc.weight.sum())
    watched = weakref.ref(module)
    del module
    gc.collect()
    assert watched() is None


def test_functions_of_the_same_code_have_surveys_of_their_own():
    module = network("dict output")
    targets = {
        leaf: (lambda outputs, leaf=leaf: outputs[leaf].flatten(1).sum(1)) for leaf in ("maps", "logits")
    }
    for leaf in targets:
        wrapped = Network(module)
        with wrapped.prepared(pictures()) as arguments:
            survey, _ = surveys.surveyed(wrapped, arguments, Function(targets[leaf]))
        assert survey.of("fc")[0].shape == (1, 4)
        # `drop` feeds neither maps nor logits of this network, and only logits come from `fc`.
    kept = surveys._kept[module]
    assert len([key for key in kept if key[0] == "survey"]) == 2


def test_the_same_function_again_needs_no_new_survey():
    module = network("plain")

    def first_class(outputs: Tensor) -> Tensor:
        return outputs[:, 1]

    costs = [seewhy.GradCAM()(module, pictures(), first_class).cost.setup for _ in range(2)]
    assert costs == [3, 0]


def test_training_between_two_replays_meets_no_stale_numbers():
    module, inputs = network("residual"), pictures(3)

    def run(head: Head) -> tuple[Tensor, Tensor]:
        activation = perturbed(head)
        with torch.no_grad():
            return activation, head(activation, ROWS)

    head_of(module, "body", inputs, run)
    with torch.no_grad():
        for parameter in module.parameters():
            parameter.add_(0.1)
    activation, got = head_of(module, "body", inputs, run)
    assert torch.allclose(got, full_forward(module, "body", (inputs,), activation)[0], atol=1e-4)


def test_an_exchanged_module_is_surveyed_anew():
    module, inputs = network("plain"), pictures()
    assert seewhy.GradCAM()(module, inputs, 1).values.shape[-2:] == (8, 8)
    # The old one is dropped first, so that the new one may get its address.
    del module.conv2
    module.conv2 = seeded(lambda: nn.Conv2d(6, 8, 3, padding=1, stride=2))
    again = seewhy.GradCAM()(module, inputs, 1)
    assert again.cost.setup == 3
    assert again.values.shape[-2:] == (4, 4)


def test_other_sizes_of_picture_have_plans_of_their_own():
    module = network("plain")
    for size in (16, 24):

        def run(head: Head) -> tuple[Tensor, Tensor]:
            activation = perturbed(head)
            with torch.no_grad():
                return activation, head(activation, ROWS)

        activation, got = head_of(module, "relu2", pictures(3, size), run)
        expected = full_forward(module, "relu2", (pictures(3, size),), activation)[0]
        assert torch.allclose(got, expected, atol=TOLERANCE)


def test_ever_new_sizes_do_not_pile_up(monkeypatch):
    monkeypatch.setattr(surveys, "_MOST", 4)
    module = network("plain")
    for size in range(8, 16):
        seewhy.EigenCAM()(module, pictures(1, size), 1)
    assert len(surveys._kept[module]) == 4


@pytest.mark.slow
def test_replaying_the_last_layer_of_resnet50_for_512_rows_takes_little_memory():
    module = seewhy.load("torchvision:resnet50", weights="random").module
    rows = torch.zeros(512, dtype=torch.long)

    def run(head: Head) -> tuple[int, bool]:
        activation = head.activation[rows]
        with torch.no_grad(), Allocations() as seen:
            head(activation, rows)
        return seen.largest, head.plan.verified

    largest, verified = head_of(module, "layer4", pictures(1, 224), run)
    assert verified
    # The classifier's own weights, 1000 x 2048 floats. The pictures alone would be 308 MB.
    assert largest <= 1000 * 2048 * 4


@pytest.mark.slow
@pytest.mark.parametrize(
    ("spec", "layer"),
    [
        ("torchvision:resnet18", "layer3.0"),
        ("torchvision:densenet121", "features.denseblock3.denselayer5"),
        ("torchvision:inception_v3", "Mixed_6d"),
        ("torchvision:swin_t", "features.5.2"),
        ("torchvision:vit_b_16", "encoder.layers.encoder_layer_8"),
        ("torchvision:convnext_tiny", "features.5.3"),
        ("timm:vit_tiny_patch16_224", "blocks.6"),
        ("timm:levit_128s", "stages.1"),
        ("timm:ghostnet_100", "blocks.5"),
        ("timm:coatnet_0_rw_224", "stages.2"),
    ],
)
def test_real_networks_are_replayed(spec, layer):
    module = trained_head(seewhy.load(spec, weights="random").module)
    inputs = pictures(3, 299 if "inception" in spec else 224)

    def run(head: Head) -> tuple[Tensor, Tensor, bool]:
        activation = perturbed(head)
        with torch.no_grad():
            return activation, head(activation.clone(), ROWS), head.plan.verified

    activation, got, verified = head_of(module, layer, inputs, run)
    assert verified
    (expected,) = full_forward(module, layer, (inputs,), activation)
    assert float((got - expected).abs().max() / expected.abs().max()) < 1e-4  # a hundred layers of float32
