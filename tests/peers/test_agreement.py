"""Our maps and those of the public packages, on real networks; float64 decides where they differ."""

from __future__ import annotations

from importlib.util import find_spec

import numpy as np
import pytest
import torch

for package in ("captum", "pytorch_grad_cam", "torchcam"):
    if find_spec(package) is None:
        pytest.skip(f"{package} is not installed; `make test-slow` installs it", allow_module_level=True)

from benchmarks import agreement, oracle, peers  # noqa: E402
from benchmarks.oracle import Pair, normalised  # noqa: E402
from benchmarks.subjects import PICTURES  # noqa: E402
from benchmarks.subjects import subjects as subjects_of_the_page  # noqa: E402

pytestmark = [
    pytest.mark.slow,
    # captum puts a hook on modules whose inputs need no gradient, and torch remarks on it
    pytest.mark.filterwarnings("ignore:Setting forward, backward hooks and attributes:UserWarning"),
]

TOLERANCE = 1e-4  # of maps in [0, 1]: the agreement that is asked for
ROUNDING = 1e-5  # what float32 forwards leave, on the same maps
TITLES = ["MobileNetV2", "SqueezeNet 1.0", "ResNet-50, random weights"]
SAME_EQUATION = [
    ("grad-cam", "captum"),
    ("grad-cam", "pytorch-grad-cam"),
    ("grad-cam", "torchcam"),
    ("x-grad-cam", "pytorch-grad-cam"),
    ("x-grad-cam", "torchcam"),
    ("hires-cam", "pytorch-grad-cam"),
    ("layer-cam", "pytorch-grad-cam"),
    ("layer-cam", "torchcam"),
    ("eigen-cam", "pytorch-grad-cam"),
]


@pytest.fixture(scope="module")
def subjects():
    try:
        found = {subject.title: subject for subject in subjects_of_the_page()}
    except FileNotFoundError as error:
        pytest.skip(str(error))
    assert list(found) == TITLES
    return found


@pytest.fixture(scope="module")
def pairs(subjects):
    return {title: subject.pair() for title, subject in subjects.items()}


def apart(a: np.ndarray, b: np.ndarray) -> float:
    return float(np.abs(a - b).max())


@pytest.mark.parametrize(("method", "peer"), SAME_EQUATION)
@pytest.mark.parametrize("title", TITLES)
def test_maps_agree_with_the_packages_that_compute_the_same_equation(subjects, pairs, title, method, peer):
    found = agreement.compare(subjects[title], pairs[title], method, peer)
    assert found.apart <= TOLERANCE
    assert found.ours <= ROUNDING


@pytest.mark.parametrize("title", TITLES)
def test_grad_cams_signed_values_are_captums_before_any_normalisation(subjects, title):
    subject = subjects[title]
    theirs = peers.Captum(subject.module, subject.layer)(subject.images, subject.classes)
    assert apart(subject.ours("grad-cam"), theirs) <= ROUNDING * np.abs(theirs).max()


@pytest.mark.parametrize("title", TITLES)
@pytest.mark.parametrize("method", agreement.METHODS)
def test_maps_are_not_trivially_equal(subjects, title, method):
    subject = subjects[title]
    maps = normalised(subject.ours(method), subject.size)
    # every picture's map spans the range and is not another picture's
    assert (maps.max((1, 2)) == 1).sum() >= PICTURES // 2
    assert apart(maps[1:], maps[:-1]) > 0.05


@pytest.mark.parametrize("title", TITLES)
@pytest.mark.parametrize("peer", ["pytorch-grad-cam", "torchcam"])
def test_grad_cam_plus_plus_sides_with_the_papers_equation_against_the_packages(subjects, pairs, title, peer):
    found = agreement.compare(subjects[title], pairs[title], "grad-cam++", peer)
    assert found.ours <= ROUNDING
    assert found.theirs > 100 * TOLERANCE


@pytest.mark.parametrize("title", TITLES)
def test_torchcams_grad_cam_plus_plus_is_a_sum_of_cubes_without_alpha(subjects, pairs, title):
    subject = subjects[title]
    theirs = subject.theirs("grad-cam++", "torchcam")
    assert apart(theirs, normalised(agreement.cubes(pairs[title]), subject.size)) <= ROUNDING


@pytest.mark.parametrize("title", TITLES)
def test_pytorch_grad_cams_grad_cam_plus_plus_is_the_equation_with_a_constant_that_outweighs_it(
    subjects, pairs, title
):
    subject, pair = subjects[title], pairs[title]
    squared = pair.gradient**2
    total = pair.activation.sum((2, 3), keepdims=True)
    alpha = squared / (2 * squared + total * pair.gradient**3 + 1e-6)
    weights = (alpha * pair.gradient.clip(0)).sum((2, 3))
    with_constant = np.einsum("bk,bkhw->bhw", weights, pair.activation)
    theirs = subject.theirs("grad-cam++", "pytorch-grad-cam")
    assert apart(theirs, normalised(with_constant, subject.size)) <= TOLERANCE
    assert np.median(squared[pair.gradient != 0]) < 1e-6


@pytest.mark.parametrize("peer", ["pytorch-grad-cam", "torchcam"])
def test_a_constant_in_the_divisor_of_x_grad_cam_matters_where_activations_are_small(subjects, peer):
    small = agreement.rescaled(subjects["MobileNetV2"], -30)
    found = agreement.compare(small, small.pair(), "x-grad-cam", peer)
    assert found.ours <= ROUNDING
    assert found.theirs > 100 * TOLERANCE


@pytest.mark.parametrize("exponent", [0, -30, 30])
def test_x_grad_cam_does_not_depend_on_the_unit_of_the_activations(subjects, exponent):
    expected = normalised(subjects["MobileNetV2"].ours("x-grad-cam"), (224, 224))
    found = agreement.rescaled(subjects["MobileNetV2"], exponent).ours("x-grad-cam")
    assert apart(normalised(found, (224, 224)), expected) <= ROUNDING


def test_a_layer_that_is_overwritten_in_place_is_explained_as_it_was(subjects):
    before = agreement.before_in_place(subjects["MobileNetV2"])
    pair = before.pair()
    assert (pair.activation < 0).any()
    assert agreement.compare(before, pair, "grad-cam", "captum").apart <= TOLERANCE
    for peer in ("pytorch-grad-cam", "torchcam"):
        found = agreement.compare(before, pair, "grad-cam", peer)
        assert found.ours <= ROUNDING
        assert found.theirs > 100 * TOLERANCE


def test_pytorch_grad_cam_mixes_what_is_before_and_after_an_in_place_layer(subjects):
    before = agreement.before_in_place(subjects["MobileNetV2"])
    pair = before.pair()
    mixed = oracle.grad_cam(Pair(pair.activation.clip(0, 6), pair.gradient))
    assert apart(before.theirs("grad-cam", "pytorch-grad-cam"), normalised(mixed, before.size)) <= TOLERANCE


def test_torchcam_explains_the_in_place_layer_instead_of_the_one_asked_for(subjects):
    subject = subjects["MobileNetV2"]
    before = agreement.before_in_place(subject)
    after = oracle.grad_cam(oracle.pair(subject.module, subject.images, "features.18.2", subject.classes))
    assert apart(before.theirs("grad-cam", "torchcam"), normalised(after, before.size)) <= TOLERANCE


@pytest.mark.parametrize("title", TITLES)
def test_eigen_cams_sign_follows_the_maps_when_they_are_turned(pairs, title):
    ours, _ = agreement.sign_changes(pairs[title])
    assert ours == 0


def test_pytorch_grad_cams_sign_does_not_follow_any_rule(pairs):
    theirs = sum(agreement.sign_changes(pair)[1] for pair in pairs.values())
    assert theirs > 0


@pytest.mark.parametrize("title", TITLES)
def test_the_network_is_as_it_was_after_every_comparison(subjects, title):
    module = subjects[title].module
    assert not any(each._forward_hooks or each._backward_hooks for each in module.modules())
    assert not torch.is_inference_mode_enabled()
