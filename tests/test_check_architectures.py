"""Every method keeps the contract on real architectures with random weights."""

import pytest
import torch

import seewhy
from architectures import ARCHITECTURES
from seewhy import registry
from seewhy.check import check_explainer

pytestmark = pytest.mark.slow

METHODS = [entry.name for entry in registry.explainers()]


@pytest.fixture(scope="module")
def network(request) -> seewhy.Network:
    torch.manual_seed(0)
    return seewhy.load(request.param, weights="random")


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize(("network", "pooled_linear"), ARCHITECTURES.items(), indirect=["network"])
def test_the_method_keeps_the_contract_or_refuses_with_the_reason(network, pooled_linear, method) -> None:
    contract = check_explainer(registry.explainer(method)(), network)

    if method == "cam" and not pooled_linear:
        (refusal,) = contract.checks
        assert refusal.status == "inconclusive"
        assert "CAM is not defined for" in refusal.detail
    else:
        assert contract.passed, "\n".join(str(check) for check in contract.checks if check.status != "passed")
        assert len(contract.checks) >= 15
