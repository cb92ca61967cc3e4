from __future__ import annotations

import copy
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from toy_networks import Frozen, Plain, Siamese, network, pictures, seeded

import seewhy
from seewhy.errors import InputError, LayerError
from seewhy.explanation import Cost
from seewhy.network.network import Network, main_output
from seewhy.network.probe import gradients, probe

EXACT = 1e-12  # float64, same operations in another order
LAYERS = {
    "plain": ["norm1", "relu2"],
    "in-place relu": ["norm1", "norm2", "relu2"],
    "functional relu": ["norm1", "norm2"],
    "dict output": ["relu2"],
    "named tuple output": ["relu2"],
    "residual": ["stem", "body", "last"],
    "dense": ["a", "b", "c"],
    "lstm head": ["relu"],
    "class token": ["patches", "blocks.0", "blocks.1.norm1"],
    "sequence first": ["blocks.1"],
    "channels last": ["act", "norm"],
    "sigmoid head": ["relu2"],
    "frames, time by time": ["frame", "last"],
    "writes into others": ["a"],
    "writes into its input": ["norm1"],
}


def probed(
    module: nn.Module, layers: list[str], inputs: Any, targets: list[int]
) -> list[tuple[Tensor, Tensor]]:
    """Per layer its activation, and its gradient for each target."""
    with Network(module).prepared(inputs) as arguments:
        found = probe(module, arguments, dict.fromkeys(layers, 0), differentiate=True)
        activations = [found.activations[layer, 0] for layer in layers]
        scores = main_output(found.outputs)[:, targets]
        return list(zip(activations, gradients(scores, activations), strict=True))


def plain_autograd(module: nn.Module, layer: str, image: Tensor, target: int) -> tuple[Tensor, Tensor]:
    """The oracle: ordinary backward through an unfrozen copy, whose layer's output is taken by a hook.

    What follows gets a copy of it, so that in-place operations do not write into the value or its gradient.
    """
    module = copy.deepcopy(module).requires_grad_(True)
    kept: list[Tensor] = []

    def keep(_: nn.Module, __: Any, output: Tensor) -> Tensor:
        kept.append(output.clone())
        kept[0].retain_grad()
        return kept[0].clone()

    module.get_submodule(layer).register_forward_hook(keep)
    main_output(module(image.clone()))[:, target].sum().backward()
    return kept[0].detach(), kept[0].grad


@pytest.mark.parametrize(("name", "layers"), LAYERS.items(), ids=list(LAYERS))
def test_activations_and_gradients_are_those_of_plain_autograd(name, layers):
    module, image = network(name).double(), pictures().double()
    for layer, (activation, gradient) in zip(layers, probed(module, layers, image, [1, 3]), strict=True):
        for place, target in enumerate([1, 3]):
            expected = plain_autograd(module, layer, image, target)
            assert torch.allclose(activation, expected[0], atol=EXACT)
            assert torch.allclose(gradient[place], expected[1], atol=EXACT)


def test_a_frozen_backbone_is_differentiated_at_its_end():
    module, image = seeded(Frozen).double(), pictures().double()
    ((_, gradient),) = probed(module, ["backbone"], image, [2])
    # scores = fc(mean over 14 x 14 positions)
    expected = module.fc.weight[2] / 14**2
    assert torch.allclose(gradient[0], expected[:, None, None].expand(2, 6, 14, 14), atol=EXACT)


def test_a_repeated_module_has_a_gradient_per_call():
    module = seeded(Siamese).double()
    left, right = pictures().double(), pictures(seed=1).double()
    with Network(module).prepared((left, right)) as arguments:
        found = probe(module, arguments, {"backbone": 0}, differentiate=True)
        both = [found.activations["backbone", call] for call in (0, 1)]
        one, other = gradients(found.outputs[:, 1:2], both)
    a, b = (module.backbone(each).detach().requires_grad_() for each in (left, right))
    module.fc(torch.cat([a.amax((2, 3)), b.amax((2, 3))], 1))[:, 1].sum().backward()
    assert torch.allclose(one[0], a.grad, atol=EXACT)
    assert torch.allclose(other[0], b.grad, atol=EXACT)


def test_a_layer_that_the_score_ignores_has_a_zero_gradient():
    ((_, gradient),) = probed(network("class token"), ["blocks.1"], pictures(), [0])
    assert bool((gradient[:, :, 1:] == 0).all())
    module = network("u-net")
    with Network(module).prepared(pictures()) as arguments:
        found = probe(module, arguments, {"merge": 0}, differentiate=True)
        activation = found.activations["merge", 0]
        assert bool((gradients(torch.ones(2, 3, requires_grad=True) * 2, [activation])[0] == 0).all())


def test_many_targets_at_once_are_a_loop_of_single_ones():
    module, image = network("class token").double(), pictures().double()
    ((_, together),) = probed(module, ["blocks.0"], image, [0, 1, 2, 3])
    singles = [probed(module, ["blocks.0"], image, [target])[0][1][0] for target in range(4)]
    assert torch.allclose(together, torch.stack(singles), atol=EXACT)


class Halved(torch.autograd.Function):
    """An operation whose derivative cannot be batched: it leaves torch on the way."""

    @staticmethod
    def forward(ctx: Any, x: Tensor) -> Tensor:
        return x / 2

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> Tensor:
        return torch.from_numpy(gradient.numpy() / 2)


def test_where_targets_cannot_be_batched_they_are_differentiated_one_by_one():
    class Custom(Plain):
        def forward(self, x: Tensor) -> Tensor:
            return self.fc(Halved.apply(self.features(x)).mean((2, 3)))

    module, image = seeded(Custom).double(), pictures().double()
    ((_, together),) = probed(module, ["relu2"], image, [0, 2])
    expected = module.fc.weight[[0, 2]] / 2 / 64  # the mean of 8 x 8 positions, halved
    assert torch.allclose(together, expected[:, None, :, None, None].expand_as(together), atol=EXACT)


def test_targets_are_differentiated_in_fewer_at_once_where_memory_runs_out(monkeypatch):
    from seewhy.network import probe as module_of_probe

    sizes: list[int] = []
    batched = module_of_probe._batched

    def small(scores: Tensor, activations: Any, retain: bool) -> Any:
        sizes.append(scores.shape[1])
        if scores.shape[1] > 2:
            raise torch.OutOfMemoryError("out of memory")
        return batched(scores, activations, retain)

    image, module = pictures(), network("plain")
    ((_, expected),) = probed(module, ["relu2"], image, [0, 1, 2, 3])
    monkeypatch.setattr(module_of_probe, "_batched", small)
    ((_, found),) = probed(module, ["relu2"], image, [0, 1, 2, 3])
    assert sizes == [4, 2, 2]
    assert torch.allclose(found, expected)


@pytest.mark.parametrize("differentiate", [True, False])
def test_what_follows_in_place_does_not_write_into_the_activation(differentiate):
    module, image = network("in-place relu"), pictures()
    with Network(module).prepared(image) as arguments:
        found = probe(module, arguments, {"norm2": 0}, differentiate).activations["norm2", 0]
    assert bool((found < 0).any())
    expected, _ = plain_autograd(module, "norm2", image, 0)
    assert torch.allclose(found, expected, atol=1e-6)


def test_no_graph_is_built_before_the_first_layer():
    module = network("plain")
    seen: dict[str, bool] = {}
    for name in ("conv1", "pool", "conv2", "norm2", "fc"):
        module.get_submodule(name).register_forward_hook(
            lambda _, __, output, name=name: seen.update({name: output.requires_grad})
        )
    with Network(module).prepared(pictures()) as arguments:
        probe(module, arguments, {"conv2": 0}, differentiate=True)
    assert seen == {"conv1": False, "pool": False, "conv2": True, "norm2": True, "fc": True}


def test_without_gradients_no_graph_is_built_at_all():
    module = network("plain")
    with Network(module).prepared(pictures()) as arguments:
        found = probe(module, arguments, {"conv2": 0}, differentiate=False)
    assert not found.outputs.requires_grad
    assert not found.activations["conv2", 0].requires_grad


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_half_precision_networks_have_gradients_at_every_layer(dtype):
    module, image = network("plain"), pictures()
    exact = probed(module, ["norm1", "relu2"], image, [1])
    half = probed(copy.deepcopy(module).to(dtype), ["norm1", "relu2"], image, [1])
    for (_, expected), (activation, gradient) in zip(exact, half, strict=True):
        assert activation.dtype == gradient.dtype == torch.float32
        # Eight bits of mantissa through three layers: directions agree, values to some per cent.
        assert torch.cosine_similarity(gradient.flatten(), expected.flatten(), dim=0) > 0.99


def test_in_bfloat16_the_trunk_runs_in_it_and_the_head_in_float32():
    module, seen = network("plain"), {}
    for name in ("conv1", "conv2", "fc"):
        module.get_submodule(name).register_forward_hook(
            lambda _, __, output, name=name: seen.update({name: output.dtype})
        )
    with Network(module).prepared(pictures()) as arguments:
        found = probe(module, arguments, {"norm1": 0}, differentiate=True, precision="bfloat16")
    assert seen == {"conv1": torch.bfloat16, "conv2": torch.float32, "fc": torch.float32}
    assert found.activations["norm1", 0].dtype == torch.float32


def test_a_layer_that_does_not_run_is_named():
    class Unused(Plain):
        def __init__(self) -> None:
            super().__init__()
            self.spare = nn.Conv2d(1, 1, 1)

    module = seeded(Unused)
    with Network(module).prepared(pictures()) as arguments, pytest.raises(LayerError, match="spare"):
        probe(module, arguments, {"spare": 0}, differentiate=False)


class Counts:
    """Forwards by a hook on the network and backwards by a patched `torch.autograd.grad`, in pictures."""

    def __init__(self) -> None:
        self.forwards = self.grads = 0


@contextmanager
def counted(module: nn.Module, monkeypatch: pytest.MonkeyPatch) -> Iterator[Counts]:
    counts = Counts()

    def forward(_: nn.Module, inputs: tuple[Tensor, ...]) -> None:
        counts.forwards += len(inputs[0])

    original = torch.autograd.grad

    def grad(*args: Any, **kwargs: Any) -> Any:
        counts.grads += 1
        return original(*args, **kwargs)

    handle = module.register_forward_pre_hook(forward)
    monkeypatch.setattr(torch.autograd, "grad", grad)
    yield counts
    handle.remove()
    monkeypatch.undo()


@pytest.mark.parametrize("name", ["residual", "class token", "frozen backbone", "in-place relu"])
def test_every_forward_is_counted(name, monkeypatch):
    module = network(name)
    with counted(module, monkeypatch) as counts:
        found = seewhy.explain_all(module, pictures(5), ["grad-cam", "layer-cam"], seewhy.Top(2), chunk=2)
    assert found.cost == Cost(forwards=5, backwards=10, setup=3)
    assert counts.forwards == found.cost.forwards + found.cost.setup
    assert counts.grads == 1 + 3  # one for the survey, one per chunk


def test_methods_at_different_layers_share_the_pass(monkeypatch):
    module = network("residual")
    seewhy.GradCAM()(module, pictures(), 1)
    with counted(module, monkeypatch) as counts:
        seewhy.explain_all(
            module, pictures(), [seewhy.GradCAM(layer="stem"), seewhy.GradCAM(layer="last")], 1
        )
    assert (counts.forwards, counts.grads) == (2, 1)


def test_a_function_that_answers_for_other_pictures_is_refused():
    with pytest.raises(seewhy.SeewhyError, match="scores for 4 pictures, not for 2"):
        seewhy.GradCAM()(network("plain"), pictures(2), lambda outputs: outputs[0])


def test_a_function_written_for_all_pictures_at_once_is_answered():
    module, labels = network("plain"), torch.tensor([3, 0, 2])
    found = seewhy.GradCAM()(module, pictures(3), lambda outputs: outputs[torch.arange(3), labels])
    expected = seewhy.GradCAM()(module, pictures(3), labels)
    assert torch.allclose(found.values, expected.values, atol=1e-6)


def test_nan_is_an_error_that_names_the_network():
    module = network("plain")
    with torch.no_grad():
        module.conv2.weight.fill_(float("nan"))
    for method in ("grad-cam", "eigen-cam"):
        with pytest.raises(InputError, match="Plain gives NaN"):
            seewhy.make(method)(module, pictures(), 1)
