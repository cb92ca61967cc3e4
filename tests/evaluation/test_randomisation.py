"""Weight randomisation: what it must say of maps that ignore the network, of noise, and of Grad-CAM."""

import json
import math
import re
from dataclasses import replace
from typing import Literal

import pytest
import torch
import torch.nn.functional as F
from torch import nn

import seewhy
from seewhy import randomise
from seewhy.errors import InputError, NotApplicableError
from seewhy.evaluation import randomisation
from seewhy.evaluation.likeness import MEASURES, Estimate, Reading, likeness, noise_floor
from seewhy.explainers.base import Computed, Explainer
from seewhy.explainers.draws import generator, picture_keys
from seewhy.explainers.study import Study
from seewhy.explanation import Cost

SIZE = 24


class Edges(Explainer):
    """A Laplacian: it never looks at the network."""

    name: Literal["edges"] = "edges"

    def plan(self, work, network) -> Cost:
        return Cost()

    def values(self, study: Study) -> torch.Tensor:
        grey = study.arguments[0].mean(1, keepdim=True)
        kernel = torch.tensor([[0.0, -1, 0], [-1, 4, -1], [0, -1, 0]]).view(1, 1, 3, 3)
        return F.conv2d(grey, kernel, padding=1)

    def compute(self, study: Study) -> Computed:
        values = self.values(study).expand(-1, study.scores.shape[1], -1, -1)
        return Computed({study.pixels[0]: values}, ((),) * len(values), "the pictures", Cost())


class Noise(Edges):
    """Another random map for each picture and each network."""

    name: Literal["noise"] = "noise"

    def values(self, study: Study) -> torch.Tensor:
        seed = int(study.digest[:8], 16)
        keys = picture_keys(study.arguments[0])
        return torch.stack([torch.randn(1, 8, 8, generator=generator(key, seed, 0)) for key in keys])


class Flat(Edges):
    """A map that is constant once any weight has changed."""

    name: Literal["flat"] = "flat"
    digest: str

    def values(self, study: Study) -> torch.Tensor:
        found = super().values(study)
        return found if study.digest == self.digest else torch.full_like(found, 0.1)


class Toy(nn.Module):
    """Two normalised convolutions and a linear head; what is bright in red is class 0."""

    def __init__(self) -> None:
        super().__init__()
        self.conv1, self.norm1 = nn.Conv2d(3, 16, 3, padding=1), nn.BatchNorm2d(16)
        self.conv2, self.norm2 = nn.Conv2d(16, 16, 3, padding=1), nn.BatchNorm2d(16)
        self.fc = nn.Linear(16, 3)

    def forward(self, x):
        x = F.max_pool2d(F.relu(self.norm1(self.conv1(x))), 2)
        return self.fc(F.relu(self.norm2(self.conv2(x))).mean((2, 3)))


@pytest.fixture(scope="module")
def images() -> torch.Tensor:
    noise = torch.randn(6, 3, SIZE // 3, SIZE // 3, generator=torch.Generator().manual_seed(0))
    return F.interpolate(noise, SIZE, mode="bilinear") + 0.05 * torch.randn(
        6, 3, SIZE, SIZE, generator=torch.Generator().manual_seed(1)
    )


@pytest.fixture(scope="module")
def toy(images) -> nn.Module:
    """Trained for a moment, so that its statistics are of use."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        module = Toy()
    optimizer = torch.optim.Adam(module.parameters(), 1e-2)
    for _ in range(30):
        optimizer.zero_grad()
        F.cross_entropy(module(images), torch.tensor([0, 1, 2, 0, 1, 2])).backward()
        optimizer.step()
    return module.eval()


@pytest.fixture(scope="module")
def both(toy, images):
    methods = [Edges(), Noise(), "grad-cam"]
    return {
        kind: randomise(methods, toy, images, kind=kind, seeds=6) for kind in ("cascading", "independent")
    }


@pytest.mark.parametrize("kind", ["cascading", "independent"])
@pytest.mark.parametrize("measure", MEASURES)
def test_a_map_that_ignores_the_network_stays_the_same_at_every_stage(both, kind, measure) -> None:
    values = both[kind].similarities["edges"][measure]
    assert values.shape == (3, 6, 6, 1)
    torch.testing.assert_close(values, torch.ones_like(values), atol=1e-12, rtol=0)


def test_a_map_that_ignores_the_network_fails_and_is_told_so(both) -> None:
    found = both["cascading"].verdict("edges")
    assert (found.dies, found.clear, found.ignores_head) == (False, True, True)
    assert found.text.startswith("fails, the map stays: rank correlation 1.00 (1.00 to 1.00)")
    assert "does not depend on the last layer" in found.text
    alone = both["independent"].verdict("edges")
    assert (alone.dies, alone.ignores_head) == (None, True)


def test_a_random_map_is_like_no_other(both) -> None:
    for kind in both:
        values = both[kind].similarities["noise"]
        count = values["spearman"][0].numel() * (8 * 8 - 1)
        for stage in range(3):
            for measure in ("spearman", "spearman-absolute"):
                assert abs(values[measure][stage].mean()) <= 3 / math.sqrt(count)
    found = both["cascading"].verdict("noise")
    assert (found.dies, found.clear, found.ignores_head) == (True, True, False)


def test_grad_cam_dies_once_all_is_random(both) -> None:
    found = both["cascading"].verdict("grad-cam")
    assert (found.dies, found.ignores_head) == (True, False)
    assert found.text.startswith("passes, the map dies")


def test_the_original_network_is_not_touched(toy, images) -> None:
    before, buffers = seewhy.Network(toy).digest, [each.clone() for each in toy.buffers()]
    toy.train()
    random_state = torch.random.get_rng_state()
    found = randomise(["grad-cam"], toy, images, seeds=1, bn="recompute")
    assert toy.training
    toy.eval()
    assert torch.equal(torch.random.get_rng_state(), random_state)
    assert seewhy.Network(toy).digest == before == found.digest
    assert all(map(torch.equal, buffers, toy.buffers()))


def weights_seen(monkeypatch, *args, **settings) -> list[dict[str, torch.Tensor]]:
    """The state of the copy at every explanation but the clean one."""
    seen = []

    def watched(network, *rest, **named):
        seen.append({name: each.clone() for name, each in network.module.state_dict().items()})
        return seewhy.explain_all(network, *rest, **named)

    monkeypatch.setattr(randomisation, "explain_all", watched)
    randomise(["grad-cam"], *args, **settings)
    return seen[1:]


STAGES = {"fc": ("fc",), "conv2": ("conv2", "norm2"), "conv1": ("conv1", "norm1")}


@pytest.mark.parametrize("kind", ["cascading", "independent"])
def test_only_the_stages_that_are_meant_have_other_weights(toy, images, kind, monkeypatch) -> None:
    seen = weights_seen(monkeypatch, toy, images, kind=kind, seeds=1)
    assert len(seen) == 3
    for place, state in enumerate(seen):
        names = list(STAGES)[: place + 1] if kind == "cascading" else [list(STAGES)[place]]
        modules = tuple(f"{each}." for name in names for each in STAGES[name])
        for name, old in toy.state_dict().items():
            buffer = "running" in name or "num_batches" in name
            assert torch.equal(state[name], old) == (buffer or not name.startswith(modules)), name


def test_a_seed_gives_a_stage_the_same_weights_in_both_kinds(toy, images, monkeypatch) -> None:
    cascading, independent = (
        weights_seen(monkeypatch, toy, images, kind=kind, seeds=[5]) for kind in ("cascading", "independent")
    )
    assert torch.equal(cascading[-1]["conv2.weight"], independent[1]["conv2.weight"])


def test_statistics_are_recomputed_where_asked(toy, images, monkeypatch) -> None:
    seen = weights_seen(monkeypatch, toy, images, seeds=1, bn="recompute", batch=2)
    last = seen[-1]
    inside = F.conv2d(images, last["conv1.weight"], last["conv1.bias"], padding=1)
    torch.testing.assert_close(last["norm1.running_mean"], inside.mean((0, 2, 3)))


def test_runs_repeat_exactly_and_seeds_differ(toy, images) -> None:
    def run(seeds):
        return randomise(["grad-cam"], toy, images[:2], seeds=seeds).similarities["grad-cam"]["spearman"]

    first = run(2)
    torch.rand(3)
    assert torch.equal(first, run([0, 1]))
    assert torch.equal(first.flip(1), run([1, 0]))
    assert not torch.equal(first[:, 0], first[:, 1])


def test_batches_change_nothing(toy, images) -> None:
    methods = ["grad-cam", Noise()]
    whole, parts = (randomise(methods, toy, images, seeds=1, batch=batch) for batch in (6, 4))
    assert whole.labels == parts.labels
    assert len(whole.labels) == 6
    for method in whole.methods:
        for table in ("similarities", "floors"):
            for measure in MEASURES:
                values = [getattr(each, table)[method][measure] for each in (whole, parts)]
                # Other batch sizes round differently; ranks of almost equal values may swap.
                torch.testing.assert_close(*values, atol=1e-3, rtol=0)


def test_what_is_explained_is_what_the_clean_network_says(toy, images) -> None:
    predicted = seewhy.Network(toy)(images).argmax(1)
    asked = randomise(["grad-cam"], toy, images, seeds=1, target=predicted.tolist(), batch=4)
    unasked = randomise(["grad-cam"], toy, images, seeds=1, batch=4)
    assert unasked.labels == tuple((str(each),) for each in predicted.tolist())
    for measure in MEASURES:
        torch.testing.assert_close(
            asked.similarities["grad-cam"][measure], unasked.similarities["grad-cam"][measure], equal_nan=True
        )


def test_several_targets_and_layers_are_compared_each(toy, images) -> None:
    methods = [seewhy.GradCAM(layer=("conv1", "conv2"))]
    found = randomise(methods, toy, images[:3], seeds=1, target=seewhy.Classes([0, 2]))
    assert found.methods == ("grad-cam at conv1", "grad-cam at conv2")
    assert found.similarities["grad-cam at conv2"]["hog"].shape == (3, 1, 3, 2)


def test_constant_maps_have_no_value_and_are_counted(toy, images) -> None:
    found = randomise([Flat(digest=seewhy.Network(toy).digest)], toy, images, seeds=2)
    assert found.constant["flat"].all()
    for measure in MEASURES:
        assert found.similarities["flat"][measure].isnan().all()
        assert found.estimate("flat", measure).undefined == found.estimate("flat", measure).compared == 12
    verdict = found.verdict("flat")
    assert (verdict.dies, verdict.ignores_head) == (None, None)
    assert verdict.text.startswith("undefined, all its maps are constant")
    assert "12 of 12" in str(found)
    assert found.to_json()["methods"]["flat"]["stages"][0]["spearman"]["value"] is None


def test_a_doubtful_mean_is_said_to_be_one(both) -> None:
    values = torch.tensor([-0.1, 0.5, 0.1, 0.1, 0.3, 0.0]).view(1, 1, 6, 1).expand(3, 1, 6, 1).double()
    table = {"a": dict.fromkeys(MEASURES, values)}
    floors = {"a": dict.fromkeys(MEASURES, values[0])}
    found = replace(
        both["cascading"], seeds=(0,), similarities=table, constant={"a": values.isnan()}, floors=floors
    )
    verdict = found.verdict("a")
    assert (verdict.dies, verdict.clear) == (True, False)
    assert verdict.text.startswith("passes, the map dies, not beyond doubt: rank correlation 0.15 (")


def test_seeds_that_disagree_leave_a_doubt_however_sure_the_pictures_are(both) -> None:
    values = torch.tensor([-0.4, 0.5, 0.1]).view(1, 3, 1, 1).expand(3, 3, 6, 1).double()
    found = replace(
        both["cascading"],
        seeds=(0, 1, 2),
        similarities={"a": dict.fromkeys(MEASURES, values)},
        constant={"a": values.isnan()},
        floors={"a": dict.fromkeys(MEASURES, values[0])},
    )
    assert found.estimate("a").low == pytest.approx(found.estimate("a").high)
    verdict = found.verdict("a")
    assert (verdict.dies, verdict.clear) == (True, False)
    assert "(seeds -0.40 to 0.50)" in verdict.text


def test_the_result_can_be_read_by_people_and_machines(both) -> None:
    found = both["cascading"]
    text = re.sub(" +", " ", str(found))
    assert "| edges | fc | 1.00 | 1.00 | 1.00 | 1.00 | 0 of 36 |" in text
    assert "| grad-cam | *different pictures* |" in text
    assert text.count("\n* ") == 3
    read = json.loads(json.dumps(found.to_json()))
    assert read["stages"] == list(STAGES)
    assert read["methods"]["edges"]["verdict"]["dies"] is False
    assert read["methods"]["edges"]["stages"][2]["ssim"]["value"] == 1
    assert repr(found) == "Randomisation(cascading of Toy: edges, noise, grad-cam)"
    assert found.estimate("edges", stage="conv2").value == 1


def test_the_floor_compares_different_pictures() -> None:
    draws = torch.Generator().manual_seed(0)
    raw = torch.randn(5, 2, 7, 7, generator=draws)
    clean = Reading(raw, torch.rand(5, 2, 16, 16, generator=draws))
    floor = noise_floor(clean)
    assert floor["spearman"].shape == (3, 5, 2)
    for shift in range(3):
        other = [(row - shift - 1) % 5 for row in range(5)]
        expected = likeness(clean, Reading(clean.raw[other], clean.stretched[other]))
        assert all(torch.equal(floor[name][shift], expected[name]) for name in MEASURES)
    alone = noise_floor(Reading(clean.raw[:1], clean.stretched[:1]))
    assert math.isnan(Estimate.of(alone["hog"]).value)


def test_the_interval_is_over_pictures_not_over_their_repetitions() -> None:
    rows = torch.randn(40, 1, generator=torch.Generator().manual_seed(0)).double()
    once, often = Estimate.of(rows[None]), Estimate.of(rows[None].expand(9, -1, -1))
    assert (once.low, once.high) == (often.low, often.high)
    half = 1.96 * float(rows.std()) / math.sqrt(40)
    assert (once.high - once.low) / 2 == pytest.approx(half, rel=0.1)
    assert math.isnan(Estimate.of(rows[None, :1]).low)


def test_wrong_settings_are_told(toy, images, both) -> None:
    for wrong in ({"seeds": 0}, {"seeds": []}, {"batch": 0}):
        with pytest.raises(InputError):
            randomise(["grad-cam"], toy, images, **wrong)
    with pytest.raises(InputError, match="list of methods"):
        randomise("grad-cam", toy, images)
    found = both["cascading"]
    with pytest.raises(InputError, match=r"no method 'cam'.*edges, noise, grad-cam"):
        found.estimate("cam")
    with pytest.raises(InputError, match="no measure 'mse'"):
        found.floor("edges", "mse")
    with pytest.raises(InputError, match="no stage 'conv3'"):
        found.estimate("edges", stage="conv3")


def test_a_network_that_cannot_be_copied_is_refused(images) -> None:
    module = Toy()
    module.kept = module.conv1.weight * 2
    with pytest.raises(NotApplicableError, match="cannot be copied"):
        randomise(["grad-cam"], module, images)


def test_an_error_says_which_stage_was_random(toy, images, monkeypatch) -> None:
    def broken(self, study):
        if study.digest == digest:
            return Edges.values(self, study)
        raise InputError("no map")

    digest = seewhy.Network(toy).digest
    monkeypatch.setattr(Noise, "values", broken)
    with pytest.raises(InputError, match="no map") as caught:
        randomise([Noise()], toy, images, seeds=[7])
    assert caught.value.__notes__ == ["with random weights, cascading, stage 'fc', seed 7"]
