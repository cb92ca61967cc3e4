"""Every method keeps the contract on real architectures with random weights."""

import pytest
import torch

import seewhy
from architectures import ARCHITECTURES
from seewhy import registry
from seewhy.check import check_explainer

pytestmark = pytest.mark.slow

METHODS = [entry.name for entry in registry.explainers()]
# What takes hundreds of forwards keeps the same promises with few.
SMALL = {
    "rise": {"masks": 8},
    "occlusion": {"window": 112, "stride": 112},
    "integrated-gradients": {"steps": 2},
    "smooth-grad": {"samples": 2},
    "score-cam": {"channels": 4},
}
NEED_RELUS = ("guided-backprop", "deconvolution", "guided-grad-cam")


@pytest.fixture(scope="module")
def network(request) -> seewhy.Network:
    torch.manual_seed(0)
    return seewhy.load(request.param, weights="random")


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize(("network", "pooled_linear"), ARCHITECTURES.items(), indirect=["network"])
def test_the_method_keeps_the_contract_or_refuses_with_the_reason(network, pooled_linear, method) -> None:
    contract = check_explainer(registry.explainer(method)(**SMALL.get(method, {})), network)

    if method in NEED_RELUS and len(contract.checks) == 1:
        (refusal,) = contract.checks
        assert refusal.status == "inconclusive"
        assert "changes the gradient of ReLUs" in refusal.detail
        assert not any(isinstance(each, torch.nn.ReLU) for each in network.module.modules())
    elif method == "cam" and not pooled_linear:
        (refusal,) = contract.checks
        assert refusal.status == "inconclusive"
        assert "CAM is not defined for" in refusal.detail
    else:
        assert contract.passed, "\n".join(str(check) for check in contract.checks if check.status != "passed")
        assert len(contract.checks) >= 30
