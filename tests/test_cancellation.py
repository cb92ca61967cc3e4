import threading

import pytest
import torch
from torch import nn

import seewhy
from seewhy import cancellable
from seewhy.errors import CancelledError


@pytest.fixture
def network() -> nn.Module:
    torch.manual_seed(0)
    return nn.Sequential(nn.Conv2d(3, 4, 3), nn.ReLU(), nn.AdaptiveAvgPool2d(1), nn.Flatten())


@pytest.mark.parametrize(
    "explainer",
    [
        seewhy.RISE(masks=500),
        seewhy.Occlusion(window=2, stride=1),
        seewhy.ScoreCAM(),
        seewhy.GroupCAM(),
        seewhy.IntegratedGradients(steps=500),
        seewhy.SmoothGrad(samples=500),
        seewhy.GradCAM(),
    ],
    ids=lambda each: each.name,
)
def test_an_explanation_stops_soon_after_it_was_asked_to(network, explainer):
    asked, forwards = threading.Event(), 0

    def count(*_):
        nonlocal forwards
        forwards += 1
        if forwards == 4:
            asked.set()

    explainer(network, torch.rand(3, 3, 24, 24))  # surveys the network
    handle = network[0].register_forward_hook(count)
    with cancellable(asked.is_set), pytest.raises(CancelledError):
        explainer(network, torch.rand(8, 3, 24, 24), chunk=1)
    handle.remove()
    assert 4 <= forwards <= 6


def test_two_threads_explain_in_turn_and_leave_the_network_as_it_was(network):
    asked, running = threading.Event(), threading.Event()
    raised = []
    network.train()
    handle = network[0].register_forward_hook(lambda *_: running.set())

    def explain():
        try:
            with cancellable(asked.is_set):
                seewhy.RISE(masks=100_000)(network, torch.rand(4, 3, 64, 64))
        except CancelledError as error:
            raised.append(error)

    fast = torch.backends.mha.get_fastpath_enabled()
    thread = threading.Thread(target=explain)
    thread.start()
    assert running.wait(60)
    threading.Timer(0.2, asked.set).start()  # while the other thread waits for its turn
    found = seewhy.RISE(masks=4)(network, torch.rand(1, 3, 24, 24))
    thread.join(60)
    handle.remove()
    assert len(raised) == 1
    assert found.values.any()
    assert all(each.training for each in network.modules())
    assert all(each.requires_grad for each in network.parameters())
    assert torch.backends.mha.get_fastpath_enabled() == fast


@pytest.mark.parametrize("inner", [True, False])
def test_an_inner_context_does_not_switch_off_the_outer_one(network, inner):
    with (
        cancellable(lambda: not inner),
        cancellable(lambda: inner),
        pytest.raises(CancelledError),
    ):
        seewhy.GradCAM()(network, torch.rand(1, 3, 24, 24))


def test_nothing_stops_outside_the_context(network):
    with cancellable(lambda: True):
        pass
    assert seewhy.GradCAM()(network, torch.rand(1, 3, 24, 24)).values.any()
