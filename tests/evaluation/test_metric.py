"""What holds for every metric: order, batches and merging leave no trace, bad input is answered."""

from __future__ import annotations

import math
from itertools import pairwise

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from metric_cases import explained, linear, maps_of_all_kinds, pictures, showing
from pydantic import ValidationError

import seewhy
from seewhy.errors import InputError
from seewhy.evaluation.average_drop import AverageDrop
from seewhy.evaluation.bbox_share import BboxShare
from seewhy.evaluation.energy_pointing_game import EnergyPointingGame
from seewhy.evaluation.entropy import Entropy
from seewhy.evaluation.increase_in_confidence import IncreaseInConfidence
from seewhy.evaluation.infidelity import Infidelity
from seewhy.evaluation.insertion_deletion import Deletion, Insertion, InsertionDeletion
from seewhy.evaluation.localisation_error import LocalisationError
from seewhy.evaluation.max_box_acc import MaxBoxAcc, MaxBoxAccV2
from seewhy.evaluation.metric import NOT_FINITE
from seewhy.evaluation.occlusion_correlation import OcclusionCorrelation
from seewhy.evaluation.pointing_game import PointingGame
from seewhy.evaluation.px_ap import PxAP
from seewhy.evaluation.result import Result, compare, holm
from seewhy.evaluation.road import ROAD
from seewhy.evaluation.sparseness import Sparseness
from seewhy.evaluation.table import Table

FEW = {"resamples": 100}
READING = [
    *(PointingGame(tolerance=2, **FEW), EnergyPointingGame(**FEW), BboxShare(**FEW), MaxBoxAcc(**FEW)),
    *(MaxBoxAccV2(**FEW), PxAP(**FEW), LocalisationError(**FEW), Sparseness(**FEW), Entropy(**FEW)),
    *(LocalisationError(extractor="cam", **FEW), LocalisationError(extractor="adl", **FEW)),
    Sparseness(reads="magnitude", **FEW),
]
RUNNING = [
    *(Insertion(rows=2, substrate="blur", **FEW), Deletion(rows=3, **FEW), AverageDrop(**FEW)),
    *(InsertionDeletion(rows=4, **FEW), IncreaseInConfidence(mask="top-15", **FEW)),
    *(ROAD(percentiles=(20, 70), **FEW), OcclusionCorrelation(cell=3, **FEW)),
    Infidelity(samples=4, scaled=True, **FEW),
]
ALL = [*READING, *RUNNING]
NETWORK = linear()
COUNT = 6
PICTURES = pictures(COUNT)
TRUTHS = [showing(("0", (row % 4, 1, row % 4 + 3, 5)), ("1", (5, 5, 8, 8))) for row in range(COUNT)]
IDS = [f"picture {row}" for row in range(COUNT)]


def explanation(seed=3):
    return explained(maps_of_all_kinds(COUNT, targets=2, seed=seed), [["0", "1"]] * COUNT)


def measured(metric, rows, found=None):
    measurement = metric.start()
    index = list(rows)
    measurement.update(
        NETWORK,
        PICTURES[index],
        (found or explanation()).select(index),
        [TRUTHS[row] for row in index],
        ids=[IDS[row] for row in index],
    )
    return measurement


def assert_same(one: Result, other: Result, tolerance: float) -> None:
    assert one.keys == other.keys
    assert one.remarks == other.remarks
    for mine, theirs in (
        (one.values, other.values),
        (one.value, other.value),
        (one.interval, other.interval),
    ):
        torch.testing.assert_close(mine, theirs, rtol=tolerance, atol=tolerance, equal_nan=True)


@pytest.mark.parametrize("metric", ALL, ids=lambda metric: f"{metric.name} {metric.preset}")
@given(
    order=st.permutations(range(COUNT)),
    cuts=st.lists(st.integers(1, COUNT - 1), max_size=3),
    swap=st.booleans(),
)
@settings(max_examples=12, deadline=None)
def test_batches_order_and_merging_leave_no_trace(metric, order, cuts, swap) -> None:
    edges = [0, *sorted(set(cuts)), COUNT]
    parts = [order[start:stop] for start, stop in pairwise(edges)]
    runs = [measured(metric, part) for part in parts]
    merged = runs.pop(0 if swap else -1)
    for each in runs:
        merged.merge(each)
    # Forwards of other batch sizes round differently; all else is exact.
    tolerance = 1e-5 if metric in RUNNING else 0
    assert_same(merged.compute(), measured(metric, range(COUNT)).compute(), tolerance)


@pytest.mark.parametrize("metric", ALL, ids=lambda metric: metric.name)
def test_the_functional_form_is_one_update(metric) -> None:
    result = metric(NETWORK, PICTURES, explanation(), TRUTHS, ids=IDS)
    assert_same(result, measured(metric, range(COUNT)).compute(), 0)


@pytest.mark.parametrize("metric", ALL, ids=lambda metric: metric.name)
def test_a_map_that_is_not_finite_is_undefined_and_says_so_and_no_other_row_notices(metric) -> None:
    maps = maps_of_all_kinds(COUNT, targets=2)
    maps[1, 0, 2, 2] = math.nan
    maps[5, 1, 0, 0] = math.inf
    broken = metric(NETWORK, PICTURES, explained(maps, [["0", "1"]] * COUNT), TRUTHS, ids=IDS)
    whole = metric(NETWORK, PICTURES, explanation(), TRUTHS, ids=IDS)
    bad = [("picture 1", "0"), ("picture 5", "1")]
    assert [key for key, text in broken.remarks.items() if text == NOT_FINITE] == bad
    rows = torch.tensor([key in bad for key in broken.keys])
    assert not broken.defined[rows].any()
    if not isinstance(metric, MaxBoxAcc):  # whose best threshold is shared by all pictures
        torch.testing.assert_close(broken.values[~rows], whole.values[~rows], equal_nan=True)


@pytest.mark.parametrize("metric", [m for m in ALL if m not in (Sparseness(reads="magnitude", **FEW),)])
def test_seven_times_the_map_scores_the_same(metric) -> None:
    more = explained(maps_of_all_kinds(COUNT, targets=2) * 7, [["0", "1"]] * COUNT)
    assert_same(
        measured(metric, range(COUNT), more).compute(), measured(metric, range(COUNT)).compute(), 1e-6
    )


@pytest.mark.parametrize(
    "metric", [PointingGame(**FEW), BboxShare(**FEW), Insertion(rows=2, **FEW), Deletion(**FEW)]
)
def test_what_reads_ranks_does_not_see_a_cube(metric) -> None:
    cubed = explained(maps_of_all_kinds(COUNT, targets=2).clamp_min(0) ** 3, [["0", "1"]] * COUNT)
    assert_same(measured(metric, range(COUNT), cubed).compute(), measured(metric, range(COUNT)).compute(), 0)


def test_paths_name_the_rows_and_pixels_do_where_there_are_none() -> None:
    named = Sparseness()(NETWORK, PICTURES, explanation(), ids=IDS)
    assert [image for image, _ in named.keys[::2]] == IDS
    plain = Sparseness()(NETWORK, PICTURES, explanation())
    assert all(len(image) == 64 for image, _ in plain.keys)


@pytest.mark.parametrize("metric", ALL, ids=lambda metric: metric.name)
def test_a_picture_cannot_count_twice(metric) -> None:
    measurement = measured(metric, [0, 1])
    with pytest.raises(InputError, match="'picture 1' was measured already for '0'"):
        measurement.merge(measured(metric, [1, 2]))
    with pytest.raises(InputError, match="measured already"):
        measurement.update(NETWORK, PICTURES[:1], explanation().select([0]), TRUTHS[:1], ids=IDS[:1])
    assert len(measurement) == 4  # nothing was added


def test_arguments_that_do_not_fit_are_refused() -> None:
    metric = EnergyPointingGame()
    with pytest.raises(InputError, match="2 pictures, but maps of 6"):
        metric(NETWORK, PICTURES[:2], explanation(), TRUTHS)
    with pytest.raises(InputError, match="1 truths for 6 pictures"):
        metric(NETWORK, PICTURES, explanation(), TRUTHS[:1])
    with pytest.raises(InputError, match="pass truth="):
        metric(NETWORK, PICTURES, explanation())
    with pytest.raises(InputError, match="2 ids for 6"):
        metric(NETWORK, PICTURES, explanation(), TRUTHS, ids=["a", "b"])
    with pytest.raises(InputError, match=r"maps for inputs of \(9, 9\)"):
        metric(NETWORK, PICTURES, explained(torch.ones(6, 3, 3), size=(9, 9)), TRUTHS)
    with pytest.raises(InputError, match=r"picture 0 is read as \(8, 8\) pixels, but its truth is \(4, 4\)"):
        metric(NETWORK, PICTURES, explanation(), [showing(("0", (0, 0, 1, 1)), size=(4, 4))] * 6)
    with pytest.raises(InputError, match="call `update` first"):
        metric.start().compute()
    with pytest.raises(InputError, match="cannot merge"):
        measured(Sparseness(), [0]).merge(measured(Sparseness(reads="magnitude"), [1]))
    with pytest.raises(InputError, match="no preset 'rize'; it has rise, group-cam"):
        Insertion.from_preset("rize")
    with pytest.raises(InputError, match="greater than or equal to 1"):
        Insertion.from_preset("rise", rows=0)
    with pytest.raises(ValidationError, match="frozen"):
        metric.seed = 3


def test_pictures_of_several_sizes_are_refused_where_rows_would_differ() -> None:
    measurement = Deletion(rows=1).start()
    measurement.update(linear(side=8), pictures(1), explained(torch.rand(1, 8, 8)))
    with pytest.raises(InputError, match="must all have one size"):
        measurement.update(linear(side=6), pictures(1, 6), explained(torch.rand(1, 6, 6)))


def test_settings_are_printed_beside_every_number() -> None:
    result = measured(Insertion(rows=2, **FEW), range(COUNT)).compute()
    assert str(result).startswith(
        "Insertion [custom, rows=2, score=probability, precision=float32, substrate=blur-11]: "
    )
    assert str(result).endswith("higher is better, 12 of 12 rows")
    assert Insertion().preset == "rise"
    assert Insertion.from_preset("group-cam").preset == "group-cam"
    assert Deletion.from_preset("group-cam").preset == "rise and group-cam"
    assert Sparseness().preset == "default"
    found = measured(EnergyPointingGame(**FEW), range(COUNT)).compute().to_json()
    assert found["undefined"] == 2
    assert found["rows"][6] == {
        "image": "picture 3",
        "target": "0",
        "value": None,
        "remark": "the map has no positive evidence",
    }


def test_a_brief_protocol_names_the_preset_and_what_was_changed() -> None:
    assert Insertion().brief == "rise"
    assert Insertion.from_preset("group-cam").brief == "group-cam, substrate=blur-51"
    assert Insertion(rows=16, seed=3).brief == "custom, seed=3, rows=16"


def given_rows(values, images=None, **settings) -> Result:
    data = torch.as_tensor(values, dtype=torch.float64)[:, None]
    names = images or [f"{row:05}" for row in range(len(data))]
    keys = [(name, str(row)) for row, name in enumerate(names)]
    return Result(Sparseness(**settings), Table.sorted(keys, data, {}))


def test_the_interval_covers_the_mean_of_a_known_normal_sample_as_often_as_it_says() -> None:
    draws = np.random.default_rng(0)
    covered = 0
    for seed in range(1000):
        low, high = given_rows(draws.normal(size=50), resamples=2000, seed=seed).interval.tolist()
        covered += low <= 0 <= high
    assert 920 <= covered <= 970


def test_resamples_draw_pictures_and_their_targets_travel_with_them() -> None:
    # Two rows of one picture cancel: no resample can part them.
    low, high = given_rows([1.0, -1.0, 1.0, -1.0, 1.0, -1.0], images=list("aabbcc")).interval.tolist()
    assert low == high == 0


def test_the_interval_is_that_of_a_plain_loop() -> None:
    values = np.random.default_rng(1).normal(size=9)
    result = given_rows(values, resamples=300, seed=4)
    means = []
    for weights in result.table.resampled(300, 4):
        for row in weights.numpy():
            assert row.sum() == 9
            means.append(float(np.repeat(values, row.astype(int)).mean()))
    np.testing.assert_allclose(result.interval.numpy(), np.quantile(means, [0.025, 0.975]), rtol=1e-9)


def test_undefined_rows_are_left_out_of_the_mean_and_counted() -> None:
    result = given_rows([1.0, math.nan, 3.0])
    assert result.value == 2
    assert result.undefined == 1
    assert math.isnan(given_rows([1.0, math.nan]).interval[0])  # one picture has no spread
    assert math.isnan(given_rows([math.nan]).value)


def test_methods_are_compared_on_the_rows_that_both_have() -> None:
    first = given_rows([1.0, 2.0, math.nan, 4.0])
    second = given_rows([0.5, 1.5, 2.0, math.nan])
    found = compare(first, second)
    assert found.difference == 0.5
    assert found.interval.tolist() == [0.5, 0.5]
    assert (found.pictures, found.left_out, found.clear) == (2, 2, True)
    assert found.p == 1 / 10_000
    same = compare(first, first)
    assert (same.difference, same.p, same.clear) == (0, 1.0, False)
    with pytest.raises(InputError, match="only equal protocols compare"):
        compare(first, measured(EnergyPointingGame(), [0]).compute())
    with pytest.raises(InputError, match="no picture and target is defined for both"):
        compare(given_rows([math.nan, 1.0]), given_rows([1.0, math.nan]))


def test_holm_by_hand() -> None:
    assert holm([0.01, 0.04, 0.03]) == pytest.approx([0.03, 0.06, 0.06])
    assert holm([0.9, 0.8]) == [1.0, 1.0]


def test_maps_of_a_network_are_read_in_the_pictures_own_pixels_and_named_by_paths(tmp_path) -> None:
    network, scenes = seewhy.load("demo"), list(seewhy.Scenes(3, seed=5, size=200))
    for place, scene in enumerate(scenes):
        scene.image.save(tmp_path / f"{place}.png")
    paths = [str(tmp_path / f"{place}.png") for place in range(3)]
    images, truths = network.read(paths), [scene.truth for scene in scenes]
    found = seewhy.GradCAM()(network, images, target=[network.class_index(truth.label) for truth in truths])
    assert found.size != truths[0].size
    for metric in (PointingGame(), EnergyPointingGame(), MaxBoxAcc(), LocalisationError(), PxAP()):
        result = metric(network, images, found, truths)
        assert [image for image, _ in result.keys] == paths
        assert result.undefined == 0
    from seewhy.evaluation.planted_truth import measured as planted

    energies = EnergyPointingGame()(network, images, found, truths).values
    by_hand = [planted(found.original(row)[0][0], truth)[1] for row, truth in enumerate(truths)]
    np.testing.assert_allclose(energies, by_hand, rtol=1e-6)
