"""The engine that scores masked pictures: blending, chunks, memory, several inputs, number formats."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from slow import close, network, pictures
from torch import nn

import seewhy
from seewhy import RISE, Occlusion, Top
from seewhy.errors import NotApplicableError
from seewhy.explainers import masking
from seewhy.explainers.baseline import baseline, blurred
from seewhy.explainers.draws import picture_keys
from seewhy.explainers.masking import Masking, score_masked
from seewhy.explainers.study import Study
from seewhy.targets import as_target


def scored(net, images, masks, how, target=1):
    """Scores (B, N, T) of all pictures under the same masks, and the masks as they came back."""
    wrapped = seewhy.Network.of(net)
    with wrapped.prepared(images) as arguments:
        study = Study(wrapped, arguments, as_target(target), "")
        found = torch.zeros(len(images), len(masks), study.scores.shape[1])
        shown = {}

        def collect(rows, numbers, scores, full):
            found[rows, numbers] = scores
            shown.update(zip(zip(rows.tolist(), numbers.tolist(), strict=True), full, strict=True))

        cost = score_masked(study, 0, len(masks), lambda rows, numbers: masks[numbers], collect, how)
    return found, shown, cost


MASKS = torch.rand(5, 4, 4, generator=torch.Generator().manual_seed(8))


@pytest.mark.parametrize("kind", ["zero", "mean", "blur"])
@pytest.mark.parametrize("batch", [None, 1, 3, 7])
def test_scores_are_those_of_pictures_blended_one_by_one(kind, batch):
    net, images = network("convolutions"), pictures()
    found, shown, cost = scored(net, images, MASKS, Masking(kind, precision="float32", batch=batch), Top(2))
    behind = baseline(seewhy.Network(net), images, kind)
    for row, image in enumerate(images):
        best = net(image[None]).topk(2).indices[0]
        for number, mask in enumerate(MASKS):
            full = nn.functional.interpolate(mask[None, None], (16, 16), mode="bilinear")[0, 0]
            close(shown[row, number], full, 1e-6)
            with torch.no_grad():
                expected = net((image * full + behind[row] * (1 - full))[None])[0, best]
            close(found[row, number], expected, 1e-4)
    assert cost.forwards == 15


def test_a_chunk_that_does_not_fit_is_halved_and_nothing_is_lost(monkeypatch):
    net, images = network("convolutions"), pictures()
    expected, _, _ = scored(net, images, MASKS, Masking(precision="float32"))
    original, most = nn.Conv2d.forward, 4

    def forward(self, x):
        if len(x) > most:
            raise torch.cuda.OutOfMemoryError("out of memory")
        return original(self, x)

    monkeypatch.setattr(nn.Conv2d, "forward", forward)
    found, _, cost = scored(net, images, MASKS, Masking(precision="float32"))
    close(found, expected, 1e-5)
    assert cost.forwards == 15  # those that fitted


def test_probabilities_are_asked_of_classes_and_other_targets_stay_what_they_are():
    net, images = network("convolutions"), pictures()
    ones = torch.ones(1, 4, 4)
    found, _, _ = scored(net, images, ones, Masking(score="probability", precision="float32"), Top(2))
    with torch.no_grad():
        close(found[:, 0], net(images).softmax(1).topk(2).values, 1e-5)
    found, _, _ = scored(
        net,
        images,
        ones,
        Masking(score="probability", precision="float32"),
        lambda outputs: outputs[:, 0] ** 2,
    )
    with torch.no_grad():
        close(found[:, 0, 0], net(images)[:, 0] ** 2, 1e-5)


def test_log_probabilities_are_asked_of_classes_too():
    net, images = network("convolutions"), pictures()
    how = Masking(score="log-probability", precision="float32")
    found, _, _ = scored(net, images, torch.ones(1, 4, 4), how, Top(2))
    with torch.no_grad():
        close(found[:, 0], net(images).log_softmax(1).topk(2).values, 1e-5)
    found, _, _ = scored(net, images, torch.ones(1, 4, 4), how, lambda outputs: outputs[:, 0] ** 2)
    with torch.no_grad():
        close(found[:, 0, 0], net(images)[:, 0] ** 2, 1e-5)


def test_a_baseline_may_be_given_and_a_whole_mask_shows_nothing_of_it():
    net, images, behind = network("convolutions"), pictures(), pictures(seed=9)
    masks = torch.stack([torch.ones(4, 4), torch.zeros(4, 4)])
    found, _, _ = scored(net, images, masks, Masking(behind, precision="float32"))
    with torch.no_grad():
        close(found[:, 0, 0], net(images)[:, 1], 1e-5)
        close(found[:, 1, 0], net(behind)[:, 1], 1e-5)


class Pair(nn.Module):
    """Two pictures in, one score out: how alike they are."""

    def __init__(self) -> None:
        super().__init__()
        self.body = network("pooled linear")

    def forward(self, one, other):
        return (self.body(one) * self.body(other)).sum(1, keepdim=True)


def test_with_two_picture_inputs_each_has_a_map_while_the_other_stays_whole():
    net, one, other = Pair(), pictures(2, seed=1), pictures(2, seed=2)
    settings = {"window": 6, "stride": 5, "precision": "float32"}
    found = Occlusion(**settings)(net, (one, other), lambda outputs: outputs[:, 0])
    assert [site.input for site in found.maps] == [0, 1]
    for place, site in enumerate(found.maps):
        for row in range(2):
            fixed = (other, one)[place][row : row + 1]

            class Half(nn.Module):
                def forward(self, x, place=place, fixed=fixed):
                    rest = fixed.expand(len(x), -1, -1, -1)
                    return net(x, rest) if place == 0 else net(rest, x)

            alone = Occlusion(**settings)(
                Half(), (one, other)[place][row : row + 1], lambda outputs: outputs[:, 0]
            )
            close(found.maps[site][row], alone.values[0], 1e-4)
    cost = found.cost.forwards
    assert cost == 2 * (1 + 2 * (1 + 9))


def test_the_blur_is_a_gaussian_with_the_border_repeated():
    image, reach = pictures(1, size=24), 6
    padded = np.pad(image[0].double().numpy(), ((0, 0), (reach, reach), (reach, reach)), mode="edge")
    expected, total = np.zeros((3, 24, 24)), 0.0
    for dy in range(2 * reach + 1):
        for dx in range(2 * reach + 1):
            weight = math.exp(-((dy - reach) ** 2 + (dx - reach) ** 2) / (2 * 2.0**2))
            expected += weight * padded[:, dy : dy + 24, dx : dx + 24]
            total += weight
    close(blurred(image, 2.0)[0], expected / total, 1e-5)


def test_the_chunk_follows_from_the_free_memory(monkeypatch):
    net, images = seewhy.Network.of(network("convolutions")), pictures()
    with net.prepared(images) as arguments:
        study = Study(net, arguments, as_target(None), "")
        monkeypatch.setattr(masking, "is_kept", lambda: True)
        assert masking.fitting(study) == 48
        monkeypatch.setattr(masking, "is_kept", lambda: False)
        assert masking.fitting(study) == 16
        monkeypatch.setattr(masking, "free_memory", lambda device: 50_000)
        assert 1 <= masking.fitting(study) < 16
        monkeypatch.setattr(masking, "free_memory", lambda device: 0)
        assert masking.fitting(study) == 1


def test_bfloat16_forwards_agree_in_rank_with_float32_on_a_trained_network():
    demo, scenes = seewhy.load("demo"), seewhy.Scenes(3, seed=61)
    images = demo.read([scene.image for scene in scenes])
    settings = {"masks": 200}
    exact = RISE(precision="float32", **settings)(demo, images)
    rough = RISE(precision="bfloat16", **settings)(demo, images)
    assert exact.settings["precision"] == "float32"
    for one, other in zip(exact.values, rough.values, strict=True):
        ranks = torch.stack([each.flatten().argsort().argsort().double() for each in (one, other)])
        assert torch.corrcoef(ranks)[0, 1] > 0.99


def test_draws_belong_to_the_picture_not_to_its_place():
    images = pictures(3)
    assert picture_keys(images[[2, 0]]) == [picture_keys(images)[2], picture_keys(images)[0]]
    assert picture_keys(images.double().float()) == picture_keys(images)


class EarlyFusion(nn.Module):
    """A picture and its depth meet in the first layer."""

    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.features, self.head = nn.Sequential(nn.Conv2d(4, 6, 3), nn.ReLU()), nn.Linear(6, 4)

    def forward(self, x, depth):
        return self.head(self.features(torch.cat([x, depth], 1)).mean((2, 3)))


@pytest.mark.parametrize("name", ["score-cam", "group-cam:groups=3"])
def test_it_is_said_which_of_several_pictures_is_masked(name):
    inputs = {0: torch.randn(2, 3, 8, 8), 1: torch.rand(2, 1, 8, 8)}
    found = seewhy.make(name)(EarlyFusion().eval(), inputs, target=1)
    said = "only input 0 is masked; input 1, which the layer sees too, stays whole"
    assert all(said in notes for notes in found.notes)


class Checkpointed(nn.Module):
    """A reentrant checkpoint, which torch cannot differentiate with respect to chosen tensors."""

    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.stem, self.block = nn.Conv2d(3, 6, 3), nn.Sequential(nn.ReLU(), nn.Conv2d(6, 6, 3), nn.ReLU())
        self.head = nn.Linear(6, 4)

    def through(self, x):
        return torch.utils.checkpoint.checkpoint(self.block, x, use_reentrant=True)

    def forward(self, x):
        return self.head(self.through(self.stem(x)).mean((2, 3)))


class Plain(Checkpointed):
    """The same without it."""

    def through(self, x):
        return self.block(x)


class OneByOne(Plain):
    """It takes one picture at a time."""

    def through(self, x):
        assert len(x) == 1
        return self.block(x)


@pytest.mark.filterwarnings("ignore:None of the inputs have requires_grad")  # of the checkpoint
@pytest.mark.parametrize("net", [Checkpointed, OneByOne])
@pytest.mark.parametrize("name", ["occlusion:window=4,stride=4", "rise:masks=5,score=target"])
def test_what_masks_pixels_needs_neither_gradients_nor_batches(net, name):
    picture = torch.randn(1, 3, 8, 8)
    found = seewhy.make(name)(net().eval(), picture, target=1).values
    assert found.any()
    torch.testing.assert_close(
        found, seewhy.make(name)(Plain().eval(), picture, target=1).values, rtol=1e-4, atol=1e-6
    )


@pytest.mark.filterwarnings("ignore:None of the inputs have requires_grad")  # of the checkpoint
def test_a_network_that_cannot_be_differentiated_says_so_and_what_can_be_asked():
    with pytest.raises(
        NotApplicableError, match=r"cannot be differentiated \(.*use_reentrant.*occlusion and rise"
    ):
        seewhy.GradCAM()(Checkpointed().eval(), torch.randn(1, 3, 8, 8), target=1)


class KeepsItsGrid(Plain):
    """Coordinates are made once per size and kept, as detectors do."""

    def __init__(self) -> None:
        super().__init__()
        self.grids: dict[tuple[int, ...], torch.Tensor] = {}

    def through(self, x):
        if x.shape not in self.grids:
            self.grids[x.shape] = torch.linspace(0.5, 1.5, x.shape[-1]).expand(x.shape).clone()
        return self.block(x * self.grids[x.shape])


def test_what_a_network_keeps_of_masked_pictures_does_not_reach_later_graphs():
    net, images = KeepsItsGrid().eval(), torch.randn(1, 3, 8, 8)
    later = [seewhy.IntegratedGradients(steps=32), seewhy.Gradient()]  # of 16 pictures, and of one
    found = seewhy.explain_all(net, images, [RISE(masks=32), *later], target=1)
    for each in later:
        alone = each(net, images, target=1)
        torch.testing.assert_close(found[each.name].values, alone.values, rtol=0, atol=0)
    assert not net.grids
