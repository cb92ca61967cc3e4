"""A whole evaluation on a small dataset: against the metrics themselves, stopped and resumed, with broken pictures."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
import torch
from PIL import Image

import seewhy
from seewhy import datasets
from seewhy.datasets.manifest import Annotation
from seewhy.datasets.masks import MaskFile
from seewhy.errors import InputError, MissingExtraError, NotFiniteError, SeewhyError, TargetError
from seewhy.evaluation.campaign import Campaign, Options, tuning
from seewhy.evaluation.controls import RandomMap, controls
from seewhy.evaluation.evaluate import Evaluation
from seewhy.evaluation.mosaics import Mosaics, draw_mosaics, tiled
from seewhy.evaluation.result import Result
from seewhy.evaluation.standings import clearly_differs
from seewhy.evaluation.subjects import Pictures, class_of, named, sampled, share_of_picture
from small_dataset import CLASSES, Quarters, network, write_dataset


@pytest.fixture
def folder(tmp_path) -> Path:
    return write_dataset(tmp_path / "data")


METRICS = (
    seewhy.InsertionDeletion(),
    seewhy.AverageDrop(),
    seewhy.EnergyPointingGame(),
    seewhy.PointingGame(),
    seewhy.MaxBoxAcc(),
)


def evaluation(folder: Path, store: Path, *methods: seewhy.Explainer, metrics=METRICS) -> Evaluation:
    manifest = datasets.read(folder)
    subjects = Pictures(network(), manifest, manifest.faultless)
    named_ = {each.name: each for each in methods or (seewhy.GradCAM(), seewhy.LayerCAM(), *controls())}
    return Evaluation(subjects.network, named_, metrics, subjects, store, chunk=4)


def contents(folder: Path) -> dict[str, bytes]:
    return {str(each.relative_to(folder)): each.read_bytes() for each in folder.rglob("*") if each.is_file()}


def test_every_value_is_that_of_the_metric_itself(folder, tmp_path) -> None:
    made = evaluation(folder, tmp_path / "store")
    made.run()

    manifest, net = datasets.read(folder), network()
    items = list(manifest)
    images = net.read([each.path for each in items])
    truths = [named(each, manifest, net) for each in items]
    targets = [class_of(each, manifest, net) for each in items]
    for name, explainer in made.explainers.items():
        explanation = explainer(net, images, target=targets)
        for metric in METRICS:
            expected = metric(net, images, explanation, truths, ids=[each.id for each in items])
            found = made.results[name][metric.name]
            assert found.keys == expected.keys
            torch.testing.assert_close(found.values.double(), expected.values.double(), atol=1e-6, rtol=1e-5)
            assert dict(found.remarks) == dict(expected.remarks)


def several_labels(folder: Path, *, unknown: str | None = None) -> Pictures:
    """The small dataset, of which every third picture has another label, too, and every sixth two."""
    manifest = datasets.read(folder)
    chosen = []
    for number, each in enumerate(manifest.faultless):
        others = [name for name in CLASSES if name not in each.labels]
        more = (others[: 1 + (number % 6 == 0)] if number % 3 == 0 else []) + [unknown] * (number == 5)
        chosen.append(replace(each, labels=(*each.labels, *filter(None, more))))
    return Pictures(network(), manifest, tuple(chosen), "labels")


def test_each_label_of_a_picture_is_a_row_of_its_own(folder, tmp_path) -> None:
    subjects = several_labels(folder)
    explainers = {"grad-cam": seewhy.GradCAM(), "occlusion": seewhy.Occlusion(window=16, stride=16)}
    made = Evaluation(subjects.network, explainers, METRICS, subjects, tmp_path / "store", chunk=5)
    made.run()
    assert subjects.targets == 2  # 18 labels of 12 pictures
    for name, explainer in explainers.items():
        for metric in METRICS:
            found = made.results[name][metric.name]
            assert found.keys == tuple(
                sorted((each.id, label) for each in subjects.chosen for label in each.labels)
            )
            parts = []
            for each in subjects.chosen:
                images = subjects.network.read([each.path])
                explanation = explainer(subjects.network, images, target=[list(each.labels)])
                truth = named(each, subjects.manifest, subjects.network)
                parts.append(metric(subjects.network, images, explanation, [truth], ids=[each.id]).table)
            for part in parts:
                torch.testing.assert_close(
                    found.table.only(part.keys).data.double(),
                    part.data.double(),
                    atol=1e-6,
                    rtol=1e-5,
                    equal_nan=True,
                )


def test_a_label_that_the_network_lacks_fails_its_picture_alone(folder, tmp_path) -> None:
    subjects = several_labels(folder, unknown="unicorn")
    made = Evaluation(
        subjects.network, {"grad-cam": seewhy.GradCAM()}, METRICS[:1], subjects, tmp_path, chunk=5
    )
    made.run()
    ((id, reason),) = made.failed.items()
    assert id == subjects.chosen[5].id
    assert "no class 'unicorn'" in reason
    assert len({image for image, _ in made.results["grad-cam"]["insertion-deletion"].keys}) == 11


def test_stopped_anywhere_and_resumed_the_bytes_are_those_of_an_undisturbed_run(folder, tmp_path) -> None:
    class StoppedError(Exception):
        pass

    evaluation(folder, tmp_path / "whole").run()
    stops = 0
    while True:
        left = iter(range(3))

        def stop(done: int, left=left) -> None:
            if next(left, None) is None:
                raise StoppedError

        try:
            evaluation(folder, tmp_path / "stopped").run(stop)
            break
        except StoppedError:
            stops += 1
    assert stops > 3
    assert contents(tmp_path / "stopped") == contents(tmp_path / "whole")


def test_what_is_kept_is_of_these_boxes_masks_and_names_and_no_others(folder, tmp_path) -> None:
    metrics = (seewhy.EnergyPointingGame(),)

    def left(**changes: object) -> int:
        manifest, net = datasets.read(folder), network()
        for name, value in changes.items():
            setattr(net, name, value)
        made = Evaluation(
            net, {"grad-cam": seewhy.GradCAM()}, metrics, Pictures(net, manifest, manifest.faultless), store
        )
        found = made.left
        made.run()
        return found

    store = tmp_path / "store"
    assert (left(), left()) == (12, 0)
    boxes = folder / "boxes.csv"
    written = boxes.read_text()
    lines = written.splitlines()
    name, *edges = lines[1].split(",")
    boxes.write_text("\n".join([lines[0], ",".join([name, "0", *edges[1:]]), *lines[2:]]))
    assert left() == 12
    boxes.write_text(written)
    assert left() == 0
    assert left(classes=(CLASSES[1], CLASSES[0], *CLASSES[2:])) == 12
    assert left(head="sigmoid") == 12


def test_a_mask_is_known_by_its_pixels_not_by_where_it_lies(tmp_path) -> None:
    def marks(name: str, value: int) -> str:
        path = tmp_path / name
        Image.new("L", (4, 4), value).save(path)
        return datasets.Item(
            "one", path, objects=(Annotation("ant", mask=MaskFile(path)),), size=(4, 4)
        ).marks

    assert marks("a.png", 200) == marks("b.png", 200) != marks("a.png", 100)
    gone = Annotation("ant", mask=MaskFile(tmp_path / "gone.png"))
    assert datasets.Item("one", tmp_path / "a.png", objects=(gone,), size=(4, 4)).marks != marks("a.png", 200)


def test_a_package_that_is_missing_is_no_fault_of_the_pictures(folder, tmp_path, monkeypatch) -> None:
    def missing(*arguments: object, **settings: object) -> None:
        raise MissingExtraError("pycocotools", "coco")

    made = evaluation(folder, tmp_path, seewhy.GradCAM())
    with monkeypatch.context() as patch:
        patch.setattr("seewhy.evaluation.subjects.named", missing)
        with pytest.raises(MissingExtraError):
            made.run()
        patch.undo()
        patch.setattr("seewhy.evaluation.evaluate.explain_all", missing)
        with pytest.raises(MissingExtraError):
            evaluation(folder, tmp_path, seewhy.GradCAM()).run()
    again = evaluation(folder, tmp_path, seewhy.GradCAM())
    assert again.left == 12
    again.run()
    assert not again.failed


@pytest.mark.parametrize(
    ("classes", "labels", "found"),
    [
        (None, ("dog", "cat"), [1, 0]),  # of networks without names a label's place among the dataset's
        (["cat", "dog", "person on a sofa"], ("dog", "cat"), [1, 0]),
        (["dog, hound", "cat"], ("dog", "cat"), [0, 1]),
        (["Audi S4", "BMW 6 Series", "car"], ("6", "1"), None),  # 6 is no number of it, nor a part of a name
        (["Audi S4", "BMW 6 Series", "car"], ("2", "1"), [2, 1]),
        (["bird", "fish", "hound"], ("dog", "cat"), None),  # two classes there, three here
        (["chien", "chat"], ("dog", "cat"), [1, 0]),  # as many: taken to be in the same order
    ],
)
def test_labels_are_the_network_s_classes_by_whole_names_or_by_an_order_that_is_the_same(
    tmp_path, classes, labels, found
) -> None:
    items = tuple(datasets.Item(each, tmp_path / each, (each,)) for each in labels)
    names = {} if labels[0].isdecimal() else {"cat": "cat", "dog": "dog"}
    manifest = datasets.Manifest("csv", tmp_path, items, classes=names)
    net = seewhy.Network(Quarters(), classes=classes)
    if found is None:
        with pytest.raises(TargetError, match="has no class"):
            [class_of(each, manifest, net) for each in items]
    else:
        assert [class_of(each, manifest, net) for each in items] == found


def test_what_metrics_ask_of_the_pictures_alone_is_asked_once_for_all_methods(folder, tmp_path) -> None:
    metrics = (seewhy.OcclusionCorrelation(cell=8), seewhy.Infidelity(samples=20))
    shown = []
    forward = Quarters.forward

    def counting(self, x):
        shown.append(len(x))
        return forward(self, x)

    def pictures_shown(store: Path, *methods: seewhy.Explainer) -> int:
        shown.clear()
        evaluation(folder, store, *methods, metrics=metrics).run()
        return sum(shown)

    methods = (seewhy.GradCAM(), seewhy.LayerCAM(), seewhy.EigenCAM())
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Quarters, "forward", counting)
        alone = pictures_shown(tmp_path / "alone", methods[0])
        together = pictures_shown(tmp_path / "together", *methods)
    assert alone > 12 * (16 + 20)
    assert together - alone < 12 * 3
    cost = evaluation(folder, tmp_path / "alone", *methods, metrics=metrics).cost((32, 32))
    assert cost["grad-cam"].forwards - cost["layer-cam"].forwards == 17 + 21


def test_what_a_killed_run_left_half_written_is_removed_by_the_next(folder, tmp_path) -> None:
    made = evaluation(folder, tmp_path, seewhy.GradCAM(), metrics=METRICS[1:2])
    left = made.works["grad-cam"].folder / ".000000.parquet.1234.part"
    left.write_bytes(b"half")
    made.run()
    assert not left.exists()


def test_a_processor_that_computes_auto_otherwise_keeps_its_results_apart(folder, tmp_path) -> None:
    def digest() -> str:
        return evaluation(folder, tmp_path, seewhy.ScoreCAM()).works["score-cam"].plan.digest

    found = []
    for fast in (True, False):
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr("seewhy.evaluation.evaluate.fast_in_bfloat16", lambda kind, fast=fast: fast)
            found.append(digest())
    assert found[0] != found[1]


def test_a_method_more_leaves_the_others_untouched(folder, tmp_path) -> None:
    evaluation(folder, tmp_path, seewhy.GradCAM()).run()
    before = contents(tmp_path)
    more = evaluation(folder, tmp_path, seewhy.GradCAM(), seewhy.LayerCAM())
    assert more.left == 12
    more.run()
    assert more.left == 0
    assert before.items() < contents(tmp_path).items()


def test_a_picture_that_cannot_be_read_is_a_row_with_the_reason(folder, tmp_path) -> None:
    made = evaluation(folder, tmp_path / "store", metrics=METRICS[:1])
    assert made.left == 12 * len(made.explainers)
    (folder / "images" / "p03.png").write_bytes(b"no picture")  # after the manifest was read
    made.run()
    assert made.failed == {"p03.png": "not a picture in a format that can be read"}
    assert len(made.results["grad-cam"]["insertion-deletion"].keys) == 11


def test_a_picture_that_the_manifest_finds_broken_is_left_out(folder, tmp_path) -> None:
    (folder / "images" / "p03.png").write_bytes(b"no picture")
    assert [row.id for row in datasets.read(folder).errors] == ["p03.png"]
    assert evaluation(folder, tmp_path / "store", seewhy.GradCAM(), metrics=METRICS[:1]).left == 11


class Fragile(seewhy.GradCAM):
    """Grad-CAM that fails for pictures whose square is large."""

    def compute(self, study):
        if bool((study.arguments[0].mean((1, 2, 3)) > 0.445).any()):
            raise NotFiniteError("too bright to be true")
        return super().compute(study)


def test_a_method_that_fails_for_a_picture_keeps_the_others(folder, tmp_path) -> None:
    made = evaluation(folder, tmp_path, Fragile(), seewhy.LayerCAM(), metrics=METRICS[:1])
    made.run()
    bright = network().read(sorted((folder / "images").iterdir())).pixels.mean((1, 2, 3)) > 0.445
    assert 0 < int(bright.sum()) < 12
    assert len(made.results["grad-cam"]["insertion-deletion"].keys) == 12 - int(bright.sum())
    assert len(made.results["layer-cam"]["insertion-deletion"].keys) == 12
    assert set(made.failed.values()) == {"grad-cam: too bright to be true"}


class Refuses(seewhy.GradCAM):
    """A method that no network is good enough for."""

    def compute(self, study):
        raise seewhy.errors.NotApplicableError("not for this network")


def test_a_method_that_does_not_fit_is_left_out_with_the_reason(folder, tmp_path) -> None:
    made = evaluation(folder, tmp_path, seewhy.LayerCAM(), Refuses(), metrics=METRICS[:1])
    made.run()
    assert made.refused == {"grad-cam": "not for this network"}
    assert list(made.results) == ["layer-cam"]
    alone = evaluation(folder, tmp_path, Refuses(), metrics=METRICS[:1])
    with pytest.raises(SeewhyError, match="not for this network"):
        alone.run()


def test_a_metric_that_cannot_be_measured_says_which_and_why(folder, tmp_path) -> None:
    masks = seewhy.EnergyPointingGame(region="mask")
    with pytest.raises(
        InputError, match=r"energy-pointing-game cannot be measured .*, leave it out: .* has no mask"
    ):
        evaluation(folder, tmp_path, metrics=(masks,)).run()


def test_metrics_asked_for_twice_are_refused(folder, tmp_path) -> None:
    with pytest.raises(InputError, match="once"):
        evaluation(folder, tmp_path, metrics=(METRICS[0], METRICS[0])).run()


def test_a_larger_sample_holds_the_smaller_one_and_what_is_asked_for(folder) -> None:
    manifest = datasets.read(folder)
    few, many = (sampled(manifest, count, seed=3) for count in (4, 9))
    assert {each.id for each in few} < {each.id for each in many}
    assert len(few) == 4
    with_more = sampled(manifest, 4, 3, always=["p00.png", "p11.png"])
    assert {"p00.png", "p11.png", *(each.id for each in few)} == {each.id for each in with_more}
    assert sampled(manifest, 4, seed=4) != few


def test_boxes_that_overlap_count_once(folder) -> None:
    item = datasets.read(folder)["p00.png"]
    assert share_of_picture(item) == 100 / 1600


def test_the_share_of_thresholds_is_taken_from_pictures_that_are_not_reported_on(folder, tmp_path) -> None:
    manifest = datasets.read(folder)
    campaign = Campaign(network(), manifest, [seewhy.GradCAM()], [seewhy.MaxBoxAcc()], tmp_path)
    campaign.run()
    (part,) = campaign.parts
    whole = part.evaluation.results["grad-cam"]["max-box-acc"]
    found = campaign.results(part, "random sample")["grad-cam"]["max-box-acc"]
    others = [key for key in whole.keys if tuning(key[0])]
    assert 0 < len(others) < 12
    assert set(found.keys) == set(whole.keys) - set(others)
    tuned = Result(whole.metric, whole.table.only(others)).details["thresholds"].tolist()
    assert found.metric.thresholds == tuple(tuned)


def test_a_campaign_ranks_compares_and_names_subsets(folder, tmp_path) -> None:
    manifest = datasets.read(folder)
    methods = [seewhy.GradCAM(), seewhy.EigenCAM(), RandomMap(seed=5)]
    metrics = [seewhy.EnergyPointingGame(), seewhy.Sparseness(), seewhy.GridPointing()]
    campaign = Campaign(network(), manifest, methods, metrics, tmp_path, Options(samples=8, strict=True))
    campaign.run()
    found = campaign.to_json()

    assert list(found["methods"])[:3] == ["grad-cam", "eigen-cam", "random-map"]
    assert found["controls"] == ["random-map#2", "centred-gaussian", "centre-pixel", "mean-activation"]
    assert found["target"] == "label"
    pictures, mosaics = found["parts"]
    # Sides of 10 to 21 of 40 pixels: all below a third, 10 to 17 below a fifth, 10 to 12 below a tenth (too few).
    assert {name: len(ids) for name, ids in campaign.parts[0].subsets.items()} == {
        "random sample": 8,
        "random sample and every picture whose boxes cover less than 33%": 12,
        "boxes below 33% of the picture": 12,
    }  # fmt: skip
    energy = {name: own["energy-pointing-game"] for name, own in pictures["tables"]["random sample"].items()}
    assert sorted(cell["rank"] for name, cell in energy.items() if name in campaign.methods) == [1, 2, 3]
    assert energy["grad-cam"]["rank"] < energy["random-map"]["rank"]
    assert energy["random-map#2"]["rank"] is None
    assert energy["random-map"]["against"]["clear"]
    assert energy["random-map"]["against"]["difference"] < 0
    assert all(own["sparseness"]["rank"] is None for own in pictures["tables"]["random sample"].values())
    grid = {name: own["grid-pointing"]["value"] for name, own in mosaics["tables"]["random sample"].items()}
    assert mosaics["asked"] == 2
    assert grid["grad-cam"] > 0.6
    for name in ("random-map", "centred-gaussian", "mean-activation", "eigen-cam"):
        assert grid[name] == pytest.approx(0.25, abs=1e-6)


@pytest.mark.parametrize(
    ("cell", "clearly"),
    [
        ({}, False),
        ({"against": {"clear": True, "p": 0.04}}, True),
        ({"against": {"clear": True, "p": 0.05}}, False),
        ({"against": {"clear": False, "p": 0.04}}, False),
    ],
)
def test_a_clear_difference_has_an_interval_without_zero_and_a_small_adjusted_p(cell, clearly) -> None:
    assert clearly_differs(cell) is clearly


def test_mosaics_are_four_classes_in_their_quarters(folder) -> None:
    manifest, net = datasets.read(folder), network()
    made = draw_mosaics(net, manifest, manifest.faultless, 5, seed=1)
    assert len(made.mosaics) == 5
    assert not made.resize
    loaded = made.read([each.id for each in made.mosaics])
    assert loaded.images.shape == (5, 3, 64, 64)
    for mosaic, pixels, truth in zip(made.mosaics, loaded.images, loaded.truths, strict=True):
        assert len(set(mosaic.classes)) == 4
        for part, index, thing in zip(mosaic.parts, mosaic.classes, truth.objects, strict=True):
            box = thing.box
            alone = net.read([part.path]).pixels[0]
            assert torch.equal(pixels[:, box.y0 : box.y1, box.x0 : box.x1], alone)
            assert thing.label == CLASSES[index] == part.labels[0]
    again = draw_mosaics(net, manifest, manifest.faultless, 5, seed=1)
    assert [each.id for each in again.mosaics] == [each.id for each in made.mosaics]
    with pytest.raises(InputError, match="four"):
        draw_mosaics(net, manifest, manifest.faultless[:2], 5)


def test_a_network_of_fixed_size_gets_its_mosaics_in_that_size(folder) -> None:
    class Fixed(Quarters):
        def forward(self, x):
            if x.shape[-1] != 32:
                raise ValueError("32 pixels, please")
            return super().forward(x)

    net = network()
    net = seewhy.Network(Fixed().eval(), preprocess=net.preprocess, classes=CLASSES)
    manifest = datasets.read(folder)
    made = draw_mosaics(net, manifest, manifest.faultless, 2)
    assert made.resize
    assert made.read([made.mosaics[0].id]).images.shape == (1, 3, 32, 32)


def test_tiles_lie_left_to_right_and_top_to_bottom() -> None:
    tiles = torch.arange(4.0)[:, None, None, None].expand(4, 1, 2, 2)
    assert tiled(tiles, resize=False)[0, ::2, ::2].tolist() == [[0, 1], [2, 3]]
    assert tiled(tiles, resize=True).shape == (1, 2, 2)


def test_mosaics_with_a_broken_picture_fail_alone(folder) -> None:
    manifest, net = datasets.read(folder), network()
    made = draw_mosaics(net, manifest, manifest.faultless, 4)
    victim = made.mosaics[0].parts[0]
    victim.path.write_bytes(b"gone")
    loaded = Mosaics(net, made.mosaics).read([each.id for each in made.mosaics])
    broken = {each.id for each in made.mosaics if victim in each.parts}
    assert set(loaded.failed) == broken
    assert set(loaded.ids) == {each.id for each in made.mosaics} - broken


def test_without_labels_predictions_are_explained_and_what_needs_truth_is_left_out(folder, tmp_path) -> None:
    manifest = datasets.read(folder / "images")
    campaign = Campaign(
        network(), manifest, [seewhy.GradCAM()], [seewhy.AverageDrop(), seewhy.BboxShare()], tmp_path
    )
    assert campaign.question == "predicted"
    assert [each.name for part in campaign.parts for each in part.evaluation.metrics] == ["average-drop"]
    assert list(campaign.left_out) == ["bbox-share"]
    only = Campaign(network(), manifest, [seewhy.GradCAM()], [seewhy.BboxShare()], tmp_path)
    with pytest.raises(InputError, match="nothing can be measured: bbox-share"):
        _ = only.parts


def test_a_picture_without_a_marked_object_is_an_undefined_row_not_the_end_of_a_metric(
    folder, tmp_path
) -> None:
    boxes = folder / "boxes.csv"
    boxes.write_text("".join(f"{each}\n" for each in boxes.read_text().split() if "p05" not in each))
    metrics = [
        seewhy.PointingGame(),
        seewhy.BboxShare(),
        seewhy.MaxBoxAcc(),
        seewhy.PxAP(),
        seewhy.LocalisationError(boxes="first"),
    ]
    campaign = Campaign(network(), datasets.read(folder), [seewhy.GradCAM()], metrics, tmp_path)
    assert not campaign.left_out
    campaign.run()
    for result in campaign.parts[0].evaluation.results["grad-cam"].values():
        assert [
            image for (image, _), value in zip(result.keys, result.values, strict=True) if value.isnan()
        ] == ["p05.png"]
        assert (
            "the picture shows no" in result.remarks[next(key for key in result.keys if key[0] == "p05.png")]
        )


def test_mosaics_are_drawn_without_looking_at_all_of_a_large_dataset(folder, tmp_path) -> None:
    looked_at = []
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("seewhy.evaluation.campaign._LOOKED_AT", 4)
        patch.setattr("seewhy.evaluation.campaign._PER_MOSAIC", 3)

        def draw(network, manifest, pictures, count, seed):
            looked_at.append((len(pictures), count))
            return draw_mosaics(network, manifest, manifest.faultless, count, seed=seed)

        patch.setattr("seewhy.evaluation.campaign.draw_mosaics", draw)
        manifest = datasets.read(folder)
        campaign = Campaign(
            network(), manifest, [seewhy.GradCAM()], [seewhy.GridPointing()], tmp_path, Options(samples=2)
        )
        assert len(campaign.parts[0].evaluation.subjects.items) == 2
    assert looked_at == [(6, 2)]


@pytest.mark.parametrize("samples", [None, 3, 8])
def test_random_weights_are_looked_at_with_a_random_sample_of_the_pictures(folder, tmp_path, samples) -> None:
    manifest, options = datasets.read(folder), Options(samples=samples, sanity=True)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("seewhy.evaluation.campaign._FEW", 5)
        plan = Campaign(network(), manifest, [seewhy.GradCAM()], [], tmp_path, options).sanity_plan
    assert plan.pictures == sampled(manifest, min(samples or 5, 5), 0)


def test_what_is_kept_of_random_weights_is_of_these_pictures_and_no_others(folder, tmp_path) -> None:
    def kept(**changes: object) -> Path:
        manifest, options, net = datasets.read(folder), Options(sanity=True), network()
        for name, value in changes.items():
            setattr(net, name, value)
        return Campaign(net, manifest, [seewhy.GradCAM()], [], tmp_path, options).sanity_plan.kept

    first = kept()
    assert kept() == first
    assert kept(classes=("wasp", *CLASSES[1:])) != first
    other = seewhy.Preprocess(resize=(32, 32), mean=(0.5,) * 3, std=(1.0,) * 3)
    assert kept(preprocess=other) != first
    changed = next(iter(datasets.read(folder))).path
    changed.write_bytes(changed.read_bytes() + b"more")
    assert kept() != first
