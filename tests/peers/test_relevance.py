"""Every composite beside zennit, in float64, on torchvision's plain, residual and normalised networks."""

from __future__ import annotations

from importlib.util import find_spec

import pytest
import torch

if find_spec("zennit") is None:
    pytest.skip("zennit is not installed; `make test-slow` installs it", allow_module_level=True)

import seewhy
from seewhy import Network
from seewhy.relevance.composites import Composite
from seewhy.relevance.propagate import trace

pytestmark = [pytest.mark.slow, pytest.mark.filterwarnings("ignore")]  # what the package itself warns of
AGREES = 1e-6  # of the largest magnitude: stabilisers of sums and of averages are placed a little differently
STABILISER = 1e-9
LOW, HIGH = -2.2, 2.7
COMPOSITES = {
    "epsilon-plus": "EpsilonPlus",
    "epsilon-plus-flat": "EpsilonPlusFlat",
    "epsilon-gamma-box": "EpsilonGammaBox",
    "epsilon-alpha2-beta1": "EpsilonAlpha2Beta1",
    "epsilon-alpha2-beta1-flat": "EpsilonAlpha2Beta1Flat",
}


@pytest.fixture(scope="module", params=["vgg11", "vgg11_bn", "resnet18", "resnet50"])
def network(request) -> Network:
    """Random weights, and batch norms whose statistics and biases are not those of an untrained network.

    Their eps is 0: zennit leaves a folded batch norm in place as an identity that divides by sqrt(1 + eps).
    """
    torch.manual_seed(0)
    module = seewhy.load(f"torchvision:{request.param}", weights="random", offline=True).module.double()
    for each in module.modules():
        if isinstance(each, torch.nn.BatchNorm2d):
            torch.nn.init.normal_(each.running_mean, std=0.1)
            torch.nn.init.uniform_(each.running_var, 0.5, 1.5)
            torch.nn.init.normal_(each.bias, std=0.1)
            each.eps = 0.0
    return Network(module, name=request.param)


def theirs(module, images, classes, composite):
    from zennit import composites
    from zennit.attribution import Gradient
    from zennit.torchvision import ResNetCanonizer, VGGCanonizer

    canonizer = ResNetCanonizer() if hasattr(module, "layer1") else VGGCanonizer()
    box = {"low": torch.full_like(images, LOW), "high": torch.full_like(images, HIGH)}
    options = box if composite == "EpsilonGammaBox" else {}
    made = getattr(composites, composite)(stabilizer=STABILISER, canonizers=[canonizer], **options)

    def start(outputs):
        return torch.zeros_like(outputs).scatter(1, classes[:, None], outputs.gather(1, classes[:, None]))

    with Gradient(model=module, composite=made) as attributor:
        return attributor(images, start)[1].detach()


@pytest.mark.parametrize("composite", COMPOSITES)
def test_the_map_is_zennit_s(network, composite):
    images = torch.randn(2, 3, 96, 96, dtype=torch.float64).clamp(LOW, HIGH)
    classes = torch.tensor([3, 7])
    with network.prepared(images) as arguments:
        box = (torch.full((3, 1, 1), LOW), torch.full((3, 1, 1), HIGH))
        found = trace(network.module, arguments, Composite.of(composite, {}, None), network.digest, box=box)
        (ours,), _, _ = found.back(found.outputs.gather(1, classes[:, None]).sum())
    wanted = theirs(network.module, images, classes, COMPOSITES[composite])
    assert wanted.any()
    assert (ours - wanted).abs().max() <= AGREES * wanted.abs().max()
