"""Every method keeps the contract on real architectures with random weights, and on trained networks."""

import os
from pathlib import Path

import pytest
import torch

import seewhy
from architectures import ARCHITECTURES, Architecture
from seewhy import registry
from seewhy.check import check_explainer
from seewhy.check.contract import Contract
from seewhy.check.toys import blobs

# Ablation-CAM replays a transformer's head once per channel, in every one of the checks.
pytestmark = [pytest.mark.slow, pytest.mark.timeout(3600)]

METHODS = [entry.name for entry in registry.explainers() if not entry.requires]
# What takes hundreds of forwards keeps the same promises with few.
SMALL = {
    "crisp-mask": {"smooth": 4, "sharp": 2},
    "rise": {"masks": 8},
    "occlusion": {"window": 64, "stride": 64},
    "integrated-gradients": {"steps": 2},
    "integrated-grad-cam": {"steps": 2},
    "rsi-grad-cam": {"steps": 2},
    "layer-integrated-gradients": {"steps": 2},
    "smooth-grad": {"samples": 2},
    "salient-relevance": {
        "saliency": {"mode": "relevance", "longest_side": 16, "scales": (1,), "patch": (3,), "nearest": 4}
    },
    "score-cam": {"channels": 4},
    "group-cam": {"groups": 4},
}
NEED_RELUS = ("guided-backprop", "deconvolution", "guided-grad-cam")


@pytest.fixture(scope="module", params=ARCHITECTURES, ids=lambda each: each.name)
def architecture(request) -> Architecture:
    return request.param


@pytest.fixture(scope="module")
def network(architecture) -> seewhy.Network:
    torch.manual_seed(0)
    return seewhy.load(architecture.name, weights="random")


@pytest.mark.parametrize("method", METHODS)
def test_the_method_keeps_the_contract_or_refuses_with_the_reason(architecture, network, method) -> None:
    images = blobs(3, 3, architecture.side, architecture.side)
    contract = check_explainer(registry.explainer(method)(**SMALL.get(method, {})), network, images)

    if method in NEED_RELUS and len(contract.checks) == 1:
        (refusal,) = contract.checks
        assert refusal.status == "inconclusive"
        assert "changes the gradient of ReLUs" in refusal.detail
        assert not any(isinstance(each, torch.nn.ReLU) for each in network.module.modules())
    elif method == "cam" and not architecture.pooled_linear:
        (refusal,) = contract.checks
        assert refusal.status == "inconclusive"
        assert "CAM is not defined for" in refusal.detail
    elif method in ("lrp", "salient-relevance") and len(contract.checks) == 1:
        (refusal,) = contract.checks
        assert refusal.status == "inconclusive"
        assert "no rule for" in refusal.detail
        assert "(matrix product)" in refusal.detail  # attention, and nothing else
    else:
        keeps(contract)


DATA = Path(os.environ.get("SEEWHY_DATA", "../shared/data"))


@pytest.fixture(scope="module", params=["demo", "mobilenet_v2", "squeezenet1_0"])
def trained(request) -> tuple[seewhy.Network, torch.Tensor]:
    """A trained network and three pictures that it knows."""
    if request.param == "demo":
        network = seewhy.load("demo")
        return network, network.read([scene.image for scene in seewhy.Scenes(3, seed=5)]).pixels
    weights = DATA / "weights" / f"imagenet_torchvision_{request.param}.safetensors"
    photos = sorted((DATA / "photos").rglob("*.JPEG"))[:3]
    if not (weights.exists() and photos):
        pytest.skip(f"no weights or photographs in {DATA}; set SEEWHY_DATA")
    network = seewhy.load(f"torchvision:{request.param}", weights=weights, offline=True)
    return network, network.read(photos).pixels


@pytest.mark.parametrize("method", METHODS)
def test_the_method_keeps_the_contract_on_trained_networks(trained, method) -> None:
    network, images = trained
    contract = check_explainer(registry.explainer(method)(**SMALL.get(method, {})), network, images)
    if method == "cam" and len(contract.checks) == 1:
        assert "CAM is not defined for" in contract.checks[0].detail
        assert network.name == "torchvision:squeezenet1_0"  # its last layer is a convolution
    else:
        keeps(contract)


def keeps(contract: Contract) -> None:
    """Nothing is broken, and much was looked at."""
    assert contract.passed, "\n".join(str(check) for check in contract.checks if check.status != "passed")
    assert sum(check.status == "passed" for check in contract.checks) >= 25
