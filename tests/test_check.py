"""check_explainer passes good methods and catches each kind of bad one by name."""

from collections.abc import Callable

import pytest
import torch

import seewhy
from bad_methods import BAD, rounding, spoiling
from seewhy import registry
from seewhy.check import check_explainer
from seewhy.check.contract import CHECKS
from seewhy.check.toys import blobs, toys
from seewhy.explainers.base import Explainer
from seewhy.explainers.grad_cam import GradCAM

PICTURES = blobs(3, 3, 24, 24)
TOYS = {network.name: network for network, _ in toys()}
METHODS = [entry.name for entry in registry.explainers() if not entry.requires]


# What takes thousands of forwards by default keeps the same promises with few.
SMALL = {
    "crisp-mask": {"smooth": 4, "sharp": 2},
    "rise": {"masks": 24},
    "group-cam": {"groups": 4},
    "occlusion": {"window": 8, "stride": 8},
    "integrated-gradients": {"steps": 4},
    "integrated-grad-cam": {"steps": 4},
    "rsi-grad-cam": {"steps": 4},
    "layer-integrated-gradients": {"steps": 4},
    "smooth-grad": {"samples": 3},
    "salient-relevance": {
        "saliency": {"mode": "relevance", "longest_side": 16, "scales": (1,), "patch": (3,), "nearest": 4}
    },
}


REFUSED = [("cam", "flattened with dropout"), ("cam", "two pictures through one trunk")]


@pytest.mark.parametrize("name", METHODS)
def test_every_built_in_method_keeps_the_contract_on_the_toy_networks(name: str) -> None:
    contract = check_explainer(registry.explainer(name)(**SMALL.get(name, {})))

    assert contract.passed, str(contract)
    for toy in TOYS:
        own = [check for check in contract.checks if check.network == toy]
        if (name, toy) in REFUSED:
            assert [check.name for check in own] == ["the method applies"]
        else:
            assert sum(check.status == "passed" for check in own) >= 33, str(contract)


def test_a_method_that_does_not_apply_is_inconclusive_not_passed() -> None:
    contract = check_explainer(seewhy.CAM(), TOYS["flattened with dropout"], PICTURES)

    assert [check.status for check in contract.checks] == ["inconclusive"]
    assert not contract.passed
    assert "not linear" in contract.checks[0].detail


def test_there_is_a_bad_method_for_every_check() -> None:
    assert {promise for promise, _ in BAD} == set(CHECKS)


@pytest.mark.parametrize(
    ("promise", "bad"), BAD, ids=[f"{k} {promise}" for k, (promise, _) in enumerate(BAD)]
)
def test_a_bad_method_is_caught_by_name(promise: str, bad: Callable[[], Explainer]) -> None:
    plain, _ = toys()[0]  # anew, as it may not stay as it is
    contract = check_explainer(bad(), plain, PICTURES)

    assert promise in [check.name for check in contract.failed], str(contract)


def test_what_only_float32_does_not_keep_is_rounding() -> None:
    contract = check_explainer(spoiling(rounding)(), TOYS["plain"], PICTURES)

    (check,) = (each for each in contract.checks if each.name == "a batch gives what its pictures give")
    assert check.status == "inconclusive"
    assert "not in float64" in check.detail
    assert contract.passed


def test_the_outcome_reads_as_a_table() -> None:
    text = str(check_explainer(dict(BAD)["the same call gives the same map"](), TOYS["plain"], PICTURES))

    assert "failed       plain: the same call gives the same map" in text
    assert text.splitlines()[-1].endswith("inconclusive")


def test_other_weights_are_read_and_named_as_the_network_itself() -> None:
    module = torch.nn.Sequential(
        torch.nn.Conv2d(3, 8, 3),
        torch.nn.ReLU(),
        torch.nn.AdaptiveAvgPool2d(1),
        torch.nn.Flatten(),
        torch.nn.Linear(8, 3),
    )
    preprocess = seewhy.Preprocess(resize=(24, 24), mean=(0.5,) * 3, std=(0.2,) * 3)
    network = seewhy.Network(module.eval(), preprocess=preprocess, classes=["ant", "bee", "cow"])
    images = torch.randn(3, 3, 24, 24, generator=torch.Generator().manual_seed(0))
    for method, target in (
        (seewhy.Occlusion(baseline="black", window=12, stride=12), None),
        (GradCAM(), "bee"),
    ):
        contract = check_explainer(method, network, images, target)
        assert contract.passed, str(contract)


def test_a_method_that_cannot_be_asked_of_a_toy_says_why() -> None:
    contract = check_explainer(seewhy.Occlusion(baseline="black", window=12, stride=12))
    assert contract.passed
    assert any("came without a preprocess" in check.detail for check in contract.checks)
