from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from importlib.metadata import EntryPoint
from pathlib import Path

import pytest

import seewhy
from seewhy import registry
from seewhy.errors import InputError
from seewhy.explainers.base import Workload
from seewhy.settings import listed

NAMES = ["cam", "grad-cam", "grad-cam++", "x-grad-cam", "hires-cam", "layer-cam", "eigen-cam"]
ENTRIES = {entry.name: entry for entry in registry.explainers()}
MORE = [
    *("eigen-grad-cam", "ablation-cam", "score-cam", "group-cam", "integrated-grad-cam", "rsi-grad-cam"),
    *("layer-integrated-gradients", "l2-caf", "rise", "occlusion", "crisp-mask", "gradient"),
    *("input-x-gradient", "integrated-gradients", "smooth-grad", "lrp", "salient-relevance"),
    *("guided-backprop", "deconvolution", "guided-grad-cam"),
    *("embedding-grad-cam", "transfer-cam"),
]


def run(code: str) -> str:
    return subprocess.run([sys.executable, "-c", code], check=True, capture_output=True, text=True).stdout


def test_the_seven_methods_of_the_family_are_registered_by_their_names():
    assert [name for name in ENTRIES if name in NAMES] == NAMES


def test_nothing_else_is_built_in():
    assert list(ENTRIES) == [*NAMES, *MORE]


@pytest.mark.parametrize("name", [*NAMES, *MORE])
def test_a_name_leads_to_the_class_that_has_it(name):
    found = registry.explainer(name)
    assert found().name == name
    assert getattr(seewhy, found.__name__) is found


@pytest.mark.parametrize("name", [*NAMES, *MORE])
@pytest.mark.parametrize("fact", ["title", "paper", "needs"])
def test_what_a_listing_shows_is_what_the_class_says(name, fact):
    assert getattr(ENTRIES[name], fact) == getattr(registry.explainer(name), fact)


@pytest.mark.parametrize("name", NAMES)
def test_a_listing_shows_the_cost_that_the_method_plans(name):
    cost = registry.explainer(name)().plan(Workload(1), seewhy.Network(__import__("torch").nn.Identity()))
    shown = f"{cost.forwards} forward" + (f" + {cost.backwards} head backward" if cost.backwards else "")
    assert ENTRIES[name].cost == shown


@pytest.mark.parametrize(
    ("typed", "meant"),
    [("gradcam", "grad-cam"), ("grad-cam+", "grad-cam++"), ("hirescam", "hires-cam"), ("eigen", "eigen-cam")],
)
def test_an_unknown_name_is_refused_with_the_near_ones(typed, meant):
    with pytest.raises(InputError, match=rf"no method is called '{typed.replace('+', '[+]')}'") as refused:
        registry.explainer(typed)
    assert meant in str(refused.value).partition("did you mean ")[2].rstrip("?").split(", ")


def test_a_name_unlike_any_other_is_refused_with_all_of_them():
    with pytest.raises(InputError) as refused:
        registry.explainer("zzz")
    assert all(name in str(refused.value) for name in NAMES)


def test_the_listing_is_read_without_importing_torch():
    shown = run(
        "import sys, seewhy, seewhy.registry as registry\n"
        "print([entry.name for entry in registry.explainers()])\n"
        "print('torch' in sys.modules, 'numpy' in sys.modules, 'pydantic' in sys.modules)"
    )
    assert shown.splitlines() == [repr(list(ENTRIES)), "False False False"]


def test_an_unknown_name_is_refused_without_importing_torch():
    shown = run(
        "import sys, seewhy.registry as registry\n"
        "try: registry.explainer('gradcam')\n"
        "except ValueError as error: print(error)\n"
        "print('torch' in sys.modules)"
    )
    assert "did you mean grad-cam" in shown
    assert shown.endswith("False\n")


def test_another_package_adds_a_method_by_an_entry_point(monkeypatch):
    point = EntryPoint("my-cam", "seewhy.explainers.grad_cam:GradCAM", registry.ENTRY_POINTS)
    taken = EntryPoint("grad-cam", "elsewhere:Other", registry.ENTRY_POINTS)
    monkeypatch.setattr(registry, "entry_points", lambda group: [taken, point])
    assert registry.explainer("my-cam") is seewhy.GradCAM
    assert registry.explainer("grad-cam") is seewhy.GradCAM


def test_a_spec_with_settings_makes_the_method():
    made = seewhy.make("grad-cam:layer=layer3+layer4,sign=-1")
    assert made == seewhy.GradCAM(layer=("layer3", "layer4"), sign=-1)
    assert seewhy.make("eigen-cam:preset=reference") == seewhy.EigenCAM(centre=True)


def test_settings_that_hold_commas_are_written_as_a_json_object():
    rules = {"convolution": "gamma:gamma=0.5", "linear": "epsilon"}
    spec = f"lrp:{json.dumps({'rules': rules, 'bias': 'ignore'})}"
    assert seewhy.make(spec) == seewhy.LRP.checked({"rules": rules, "bias": "ignore"})
    assert seewhy.make('eigen-cam:{"preset": "reference"}') == seewhy.EigenCAM(centre=True)
    assert listed(["cam,rise:masks=5,seed=1", spec]) == ["cam", "rise:masks=5,seed=1", spec]


@pytest.mark.parametrize(
    ("spec", "message"),
    [
        ('lrp:{"rules": {"convolution"}}', "is not a JSON object"),
        ("grad-cam:layers=a", "GradCAM: layers: .*its settings are layer, sign, precision"),
        ("grad-cam:sign", "key=value"),
        ("grad-cam:sign=2", "GradCAM: sign"),
        ("eigen-cam:preset=pager", "EigenCAM has no preset 'pager'; it has paper, reference"),
    ],
)
def test_a_wrong_setting_is_refused_with_those_that_exist(spec, message):
    with pytest.raises(InputError, match=message):
        seewhy.make(spec)


def test_a_layer_whose_name_is_a_number_stays_a_name() -> None:
    assert seewhy.make("layer-cam:layer=4") == seewhy.LayerCAM(layer="4")


def test_a_method_of_another_package_is_found_once_it_is_installed(tmp_path) -> None:
    package = Path(__file__).parent.parent / "examples" / "own_method"
    options = [
        "--quiet",
        "--no-deps",
        "--no-index",
        "--no-build-isolation",
        "--target",
        str(tmp_path / "site"),
    ]
    copy = shutil.copytree(package, tmp_path / "package")
    subprocess.run([sys.executable, "-m", "pip", "install", *options, str(copy)], check=True, timeout=120)
    code = """
import seewhy
from seewhy.cli import run
assert run(["methods"]) == 0
method = seewhy.make("activation-energy:power=1.5")
contract = seewhy.check_explainer(method)
assert contract.passed, str(contract)
print(type(method).__module__, method.power)
"""
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, timeout=120,
        env={**os.environ, "PYTHONPATH": str(tmp_path / "site")},
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert done.stdout.splitlines()[-1] == "activation_energy 1.5"
    assert any(line.startswith("activation-energy") for line in done.stdout.splitlines())


METRICS = {entry.name: entry for entry in registry.metrics()}


@pytest.mark.parametrize("name", METRICS)
def test_a_metric_s_name_leads_to_its_class_and_a_listing_says_what_the_class_does(name):
    found = registry.metric(name)
    assert found.model_validate({}).name == name
    assert getattr(seewhy, found.__name__) is found
    assert (METRICS[name].title, METRICS[name].paper) == (found.title, found.paper)
    assert bool(METRICS[name].needs) == found.needs_truth


def test_a_metric_mistyped_is_answered_with_the_nearest():
    with pytest.raises(InputError, match="did you mean insertion"):
        registry.metric("insert")
