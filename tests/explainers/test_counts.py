"""The work that explanations take, counted from outside: module calls, and calls of the backward engine."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field

import pytest
import torch
from slow import network, pictures

from seewhy import Classes, Network, Top, explain_all
from seewhy.explainers.base import Workload

GRADIENT = ["cam", "grad-cam", "grad-cam++", "x-grad-cam", "hires-cam", "layer-cam"]
ALL = [*GRADIENT, "eigen-cam"]


@dataclass
class Counted:
    """Calls seen.

    Attributes:
        trunk: pictures in each call of the first convolution.
        head: pictures in each call of the last linear layer.
        differentiated: layers' shapes in each backward pass.
        trunk_has_graph: whether the first convolution's output could be differentiated.
    """

    trunk: list[int] = field(default_factory=list)
    head: list[int] = field(default_factory=list)
    differentiated: list[list[tuple[int, ...]]] = field(default_factory=list)
    trunk_has_graph: bool = False


@contextmanager
def counting(net: torch.nn.Module, monkeypatch: pytest.MonkeyPatch) -> Iterator[Counted]:
    counted, grad = Counted(), torch.autograd.grad

    def trunk(_module, _inputs, output):
        counted.trunk.append(len(output))
        counted.trunk_has_graph |= output.requires_grad

    def counting_grad(outputs, inputs, *args, **kwargs):
        counted.differentiated.append([tuple(each.shape) for each in inputs])
        return grad(outputs, inputs, *args, **kwargs)

    def backward(*_args, **_kwargs):
        raise AssertionError("gradients must not be accumulated")

    hooks = [
        net.features[0].register_forward_hook(trunk),
        net.head[-1].register_forward_hook(lambda m, i, output: counted.head.append(len(output))),
    ]
    with monkeypatch.context() as patch:
        patch.setattr(torch.autograd, "grad", counting_grad)
        patch.setattr(torch.Tensor, "backward", backward)
        patch.setattr(torch.autograd, "backward", backward)
        yield counted
    for hook in hooks:
        hook.remove()


@pytest.fixture(scope="module")
def net():
    """A network that every method knows already: choosing the layer and judging the head is done once."""
    module = network("pooled linear")
    explain_all(Network(module), pictures(), ALL)
    explain_all(Network(module), pictures(), ALL, Top(2))
    explain_all(Network(module), pictures(1), ALL, Classes([0]))
    return module


@pytest.mark.parametrize("name", GRADIENT)
def test_a_method_takes_one_trunk_forward_and_one_backward_of_the_head(name, net, monkeypatch):
    with counting(net, monkeypatch) as counted:
        found = explain_all(net, pictures(), [name])
    assert (counted.trunk, counted.head) == ([3], [3])
    assert counted.differentiated == [[(3, 6, 5, 5)]]
    assert not counted.trunk_has_graph
    assert (found.cost.forwards, found.cost.backwards, found.cost.replays, found.cost.setup) == (3, 3, 0, 0)


def test_eigen_cam_takes_one_forward_and_no_backward(net, monkeypatch):
    with counting(net, monkeypatch) as counted:
        found = explain_all(net, pictures(), ["eigen-cam"])
    assert (counted.trunk, counted.head, counted.differentiated) == ([3], [3], [])
    assert (found.cost.forwards, found.cost.backwards, found.cost.replays, found.cost.setup) == (3, 0, 0, 0)


def test_all_seven_together_take_one_trunk_forward_and_one_backward(net, monkeypatch):
    with counting(net, monkeypatch) as counted:
        found = explain_all(net, pictures(), ALL)
    assert (counted.trunk, counted.head) == ([3], [3])
    assert counted.differentiated == [[(3, 6, 5, 5)]]
    assert not counted.trunk_has_graph
    assert (found.cost.forwards, found.cost.backwards) == (3, 3)


@pytest.mark.parametrize("names", [["grad-cam"], ALL], ids=["grad-cam", "all"])
def test_twenty_targets_take_one_trunk_forward_and_one_backward_call(names, monkeypatch):
    module = network("pooled linear", classes=30)
    twenty = Classes(list(range(5, 25)))
    explain_all(module, pictures(1), names, twenty)
    with counting(module, monkeypatch) as counted:
        found = explain_all(module, pictures(1), names, twenty)
    assert found[names[0]].values.shape == (1, 20, 5, 5)
    assert (counted.trunk, counted.head) == ([1], [1])
    assert counted.differentiated == [[(1, 6, 5, 5)]]
    assert found.cost.backwards == 20


def test_two_layers_take_one_trunk_forward_and_one_backward(net, monkeypatch):
    from seewhy import GradCAM, LayerCAM

    layers = ("features.1", "features")
    with counting(net, monkeypatch) as counted:
        explain_all(net, pictures(), [GradCAM(layer=layers), LayerCAM(layer="features.1")])
    assert counted.trunk == [3]
    assert counted.differentiated == [[(3, 6, 5, 5), (3, 8, 7, 7)]]
    assert not counted.trunk_has_graph


def test_new_pictures_and_other_targets_need_no_new_set_up(net, monkeypatch):
    with counting(net, monkeypatch) as counted:
        found = explain_all(net, pictures(5, seed=9), ALL, Top(2))
    assert counted.trunk == [5]
    assert found.cost.setup == 0


@pytest.mark.parametrize("names", [["grad-cam"], ["eigen-cam"], ALL], ids=["grad-cam", "eigen-cam", "all"])
def test_the_counted_cost_is_within_the_planned_cost(names, net):
    found = explain_all(net, pictures(), names, Top(2))
    from seewhy import make

    for name, explanation in found.items():
        assert explanation.cost.within(make(name).plan(Workload(3, 2, ((16, 16),)), Network(net)))
