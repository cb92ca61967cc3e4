"""check_explainer passes good methods and catches each kind of bad one by name."""

from collections.abc import Callable
from typing import Literal

import pytest
import torch
from torch import Tensor

import seewhy
from seewhy import registry
from seewhy.check import check_explainer
from seewhy.check.toys import toys
from seewhy.explainers.base import Computed, Workload
from seewhy.explainers.grad_cam import GradCAM
from seewhy.explainers.study import Feature, Study
from seewhy.explanation import Cost

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


@pytest.mark.parametrize("name", METHODS)
def test_every_built_in_method_keeps_the_contract_on_the_toy_networks(name: str) -> None:
    contract = check_explainer(registry.explainer(name)(**SMALL.get(name, {})))

    assert contract.passed, str(contract)


def test_the_contract_has_at_least_thirty_checks_on_each_of_the_toys() -> None:
    contract = check_explainer(GradCAM())

    for name in TOYS:
        kept = [check for check in contract.checks if check.network == name and check.status == "passed"]
        assert len(kept) >= 30


def test_a_method_that_does_not_apply_is_inconclusive_not_passed() -> None:
    contract = check_explainer(seewhy.CAM(), TOYS["flattened with dropout"], torch.rand(3, 3, 24, 24))

    assert [check.status for check in contract.checks] == ["inconclusive"]
    assert not contract.passed
    assert "not linear" in contract.checks[0].detail


class _Spoiled(GradCAM):
    """Grad-CAM with something wrong."""

    name: Literal["grad-cam"] = "grad-cam"

    def compute(self, study: Study) -> Computed:
        found = super().compute(study)
        return Computed(
            {s: self.spoil(v, study) for s, v in found.maps.items()}, found.notes, found.reason, found.cost
        )

    def spoil(self, values: Tensor, study: Study) -> Tensor:
        return values


class _ScaledByBatch(_Spoiled):
    def spoil(self, values: Tensor, study: Study) -> Tensor:
        return values / values.abs().max()


class _LeaksALittle(_Spoiled):
    def spoil(self, values: Tensor, study: Study) -> Tensor:
        return values + 1e-4 * values.mean(0, keepdim=True)


class _Rounds(_LeaksALittle):
    def spoil(self, values: Tensor, study: Study) -> Tensor:
        return super().spoil(values, study) if study.network.dtype == torch.float32 else values


class _RoundsMuch(_Spoiled):
    """By as much as bfloat16 would, which a network in float64 is spared."""

    def spoil(self, values: Tensor, study: Study) -> Tensor:
        leak = 4e-3 * values.mean(0, keepdim=True)
        return values + leak if study.network.dtype == torch.float32 else values


class _DependsOnOrder(_Spoiled):
    def spoil(self, values: Tensor, study: Study) -> Tensor:
        return values * torch.arange(1, len(values) + 1)[:, None, None, None]


class _Random(_Spoiled):
    def spoil(self, values: Tensor, study: Study) -> Tensor:
        return values * torch.rand(())


class _WritesWeights(_Spoiled):
    def spoil(self, values: Tensor, study: Study) -> Tensor:
        with torch.no_grad():
            next(study.network.module.parameters()).mul_(1.0001)
        return values


class _LeavesGradients(_Spoiled):
    def spoil(self, values: Tensor, study: Study) -> Tensor:
        for parameter in study.network.module.parameters():
            parameter.grad = torch.ones_like(parameter) * 2
        return values


class _LeavesHooks(_Spoiled):
    def __call__(self, network: seewhy.Network, *args: object, **kwargs: object) -> seewhy.Explanation:
        found = super().__call__(network, *args, **kwargs)
        network.module.register_forward_hook(lambda module, inputs, output: None)
        return found


class _Float64(_Spoiled):
    def spoil(self, values: Tensor, study: Study) -> Tensor:
        return values.double()


class _DividesByMaximum(_Spoiled):
    def spoil(self, values: Tensor, study: Study) -> Tensor:
        return values / values.abs().amax((-2, -1), keepdim=True)


class _IgnoresWeights(_Spoiled):
    def spoil(self, values: Tensor, study: Study) -> Tensor:
        rows = torch.linspace(0, 1, values.shape[-2])
        return rows[:, None].expand(values.shape).contiguous()


class _UnderstatesItsCost(GradCAM):
    def plan(self, work: Workload, network: seewhy.Network) -> Cost:
        return Cost(forwards=work.pictures)


class _RunsTwiceAndCountsOnce(_Spoiled):
    def spoil(self, values: Tensor, study: Study) -> Tensor:
        study.arguments.call(study.network.module)
        return values


class _MixesTargets(GradCAM):
    def formula(self, feature: Feature) -> Tensor:
        values = super().formula(feature)
        return values + values.mean(1, keepdim=True)


class _ChangesRandomState(_Spoiled):
    def __call__(self, *args: object, **kwargs: object) -> seewhy.Explanation:
        torch.rand(1)
        return super().__call__(*args, **kwargs)


@pytest.mark.parametrize(
    ("bad", "caught"),
    [
        (_ScaledByBatch, "a batch gives what its pictures give"),
        (_ScaledByBatch, "the chunk size changes nothing"),
        (_LeaksALittle, "a batch gives what its pictures give"),
        (_RoundsMuch, "a batch gives what its pictures give"),
        (_DependsOnOrder, "the order of the pictures changes nothing"),
        (_Random, "the same call gives the same map"),
        (_MixesTargets, "several targets give what single ones give"),
        (_WritesWeights, "parameters and buffers are as they were"),
        (_LeavesGradients, "gradients and their flags are as they were"),
        (_LeavesHooks, "hooks and attributes are as they were"),
        (_ChangesRandomState, "random states are as they were"),
        (_Float64, "maps are float32, detached, on the network's device"),
        (_DividesByMaximum, "a dead layer gives a zero map and says so"),
        (_IgnoresWeights, "other weights give another map"),
        (_RunsTwiceAndCountsOnce, "the counted cost is within the declared cost"),
        (_UnderstatesItsCost, "the counted cost is within the declared cost"),
    ],
)
def test_a_bad_method_is_caught_by_name(bad: Callable[[], GradCAM], caught: str) -> None:
    contract = check_explainer(bad(), TOYS["plain"], torch.randn(3, 3, 24, 24))

    assert caught in [check.name for check in contract.failed], str(contract)


def test_what_only_float32_does_not_keep_is_rounding() -> None:
    contract = check_explainer(_Rounds(), TOYS["plain"], torch.randn(3, 3, 24, 24))

    (check,) = (each for each in contract.checks if each.name == "a batch gives what its pictures give")
    assert check.status == "inconclusive"
    assert "not in float64" in check.detail
    assert contract.passed


def test_the_outcome_reads_as_a_table() -> None:
    text = str(check_explainer(_Random(), TOYS["plain"], torch.randn(3, 3, 24, 24)))

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
