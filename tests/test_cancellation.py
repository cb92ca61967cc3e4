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


def test_another_thread_may_ask_and_other_explanations_go_on(network):
    asked = threading.Event()
    raised = []

    def explain():
        try:
            with cancellable(asked.is_set):
                seewhy.RISE(masks=100_000)(network, torch.rand(4, 3, 64, 64))
        except CancelledError as error:
            raised.append(error)

    thread = threading.Thread(target=explain)
    thread.start()
    asked.set()
    seewhy.RISE(masks=4)(network, torch.rand(1, 3, 24, 24))
    thread.join(60)
    assert len(raised) == 1


def test_nothing_stops_outside_the_context(network):
    with cancellable(lambda: True):
        pass
    assert seewhy.GradCAM()(network, torch.rand(1, 3, 24, 24)).values.any()
