"""The methods of masks and of pixel gradients beside the public packages, on the bundled and on trained networks."""

from __future__ import annotations

from importlib.util import find_spec

import pytest

for package in ("captum", "pytorch_grad_cam", "torchcam"):
    if find_spec(package) is None:
        pytest.skip(f"{package} is not installed; `make test-slow` installs it", allow_module_level=True)

from benchmarks import input_methods  # noqa: E402
from benchmarks.subjects import Subject  # noqa: E402

pytestmark = [
    pytest.mark.slow,
    pytest.mark.filterwarnings("ignore"),  # what the packages themselves warn of
]
TOLERANCE = 1e-4  # of maps divided by their largest magnitude: the agreement that is asked for
TITLES = ("demo", "MobileNetV2", "SqueezeNet 1.0")
METHODS = {
    "gradient",
    "input-x-gradient",
    "integrated-gradients:rule=midpoint",
    "integrated-gradients:rule=gauss-legendre",
    "occlusion",
    "ablation-cam",
}
ON_RELUS = {"guided-backprop", "deconvolution"}


@pytest.fixture(scope="module", params=TITLES)
def subject(request) -> Subject:
    if request.param == "demo":
        return input_methods.bundled()
    try:
        return next(each for each in input_methods.few() if each.title == request.param)
    except FileNotFoundError as error:
        pytest.skip(str(error))


def test_maps_agree_with_the_packages(subject):
    found = list(input_methods.compared(subject))
    assert {each.method for each in found} == METHODS | (
        set() if subject.title == "MobileNetV2" else ON_RELUS
    )
    assert {each.method: each.apart for each in found if not each.apart <= TOLERANCE} == {}
    # A deconvolution may let nothing through; nothing else may be empty.
    assert {each.method for each in found if each.empty} <= {"deconvolution"}


def test_captum_leaves_a_relu6_as_it_is_under_guided_backpropagation(subject):
    if subject.title != "MobileNetV2":
        pytest.skip("the network has no ReLU6")
    plain, guided = (
        input_methods.peers.captum_pixels(kind, subject.module, subject.images, subject.classes, **options)
        for kind, options in (("Saliency", {"abs": False}), ("GuidedBackprop", {}))
    )
    assert input_methods.matched(subject, "gradient", "captum", plain, guided).agrees


def test_score_cam_is_the_papers_equation_and_the_packages_are_it_with_other_masks(subject):
    found = input_methods.scored(subject)
    assert found.ours <= TOLERANCE
    assert found.grad_cam <= TOLERANCE
    assert found.torchcam <= TOLERANCE
    # Both differ from the equation, by how they enlarge and stretch the masks.
    assert found.grad_cam_apart > 10 * TOLERANCE
    assert found.torchcam_apart > 10 * TOLERANCE
