"""Every method keeps the contract on networks with one odd habit each, or refuses with the reason."""

import pytest
import torch
import toy_networks

from seewhy import Network, registry
from seewhy.check import check_explainer

METHODS = [
    # One with and one without a gradient, and the one that replays heads; the others share all they do.
    entry.name
    if entry.name in ("cam", "grad-cam", "eigen-cam")
    else pytest.param(entry.name, marks=pytest.mark.slow)
    for entry in registry.explainers()
    if not entry.requires
]
HABITS = [
    "in-place relu",
    "functional relu",
    "dict output",
    "tuple output",
    "named tuple output",
    "residual",
    "shared modules",
    "lstm head",
    "class token",
    "registers",
    "sequence first",
    "channels last",
    "sigmoid head",
    "frozen backbone",
    "writes into others",
]


NOT_POOLED_LINEAR = {"functional relu", "lstm head", "class token", "registers", "sigmoid head"}


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("habit", HABITS)
def test_the_contract_holds_or_the_method_refuses_with_the_reason(habit: str, method: str) -> None:
    network = Network(toy_networks.network(habit), name=habit)

    contract = check_explainer(registry.explainer(method)(), network, toy_networks.pictures(3))

    if method == "cam" and habit in NOT_POOLED_LINEAR:
        (refusal,) = contract.checks
        assert "CAM is not defined for" in refusal.detail
    else:
        assert contract.passed, "\n".join(str(check) for check in contract.failed)


@pytest.mark.parametrize("method", METHODS[1:])
def test_the_contract_holds_for_two_pictures_through_one_backbone(method: str) -> None:
    network = Network(toy_networks.seeded(toy_networks.Siamese))
    pair = (toy_networks.pictures(3), toy_networks.pictures(3, seed=1))

    contract = check_explainer(registry.explainer(method)(), network, pair)

    assert contract.passed, str(contract)


@pytest.mark.parametrize("method", METHODS[1:])
def test_the_contract_holds_for_a_picture_and_a_text(method: str) -> None:
    network = Network(toy_networks.seeded(toy_networks.PictureAndText))
    inputs = {
        "image": toy_networks.pictures(3),
        "text": torch.tensor([[1, 2], [3, 4], [5, 6]]),
    }

    contract = check_explainer(registry.explainer(method)(), network, inputs)

    assert contract.passed, str(contract)
