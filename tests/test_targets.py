from __future__ import annotations

import gc
import weakref

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from seewhy.errors import TargetError
from seewhy.network.network import Network
from seewhy.targets import (
    Classes,
    Contrast,
    Direction,
    Function,
    Logit,
    LogProbability,
    Pixels,
    Predicted,
    Probability,
    Regression,
    Similarity,
    Top,
    as_target,
    parse_target,
)

NAMES = ("cat", "dog", "black-footed ferret", "ice bear, polar bear")
OUTPUT = torch.tensor([[2.0, -1.0, 0.5, 0.0], [0.0, 3.0, 1.0, -2.0], [-1.0, -2.0, -3.0, -4.0]])
NETWORK = Network(nn.Identity(), classes=NAMES)
UNNAMED = Network(nn.Identity())
LOGIT = torch.tensor([[1.5], [-0.5], [0.0]])
YES_NO = Network(nn.Identity(), classes=("healthy", "ill"))
ONE_NAME = Network(nn.Identity(), classes=("pneumonia",))


def scores(target, output=OUTPUT, network=NETWORK) -> Tensor:
    return target.bind(output, network)(output)


def labels(target, output=OUTPUT, network=NETWORK):
    return target.bind(output, network).labels


ANSWERS = [
    ("one for all", Logit(1), OUTPUT[:, 1:2]),
    ("by name", Logit("dog"), OUTPUT[:, 1:2]),
    ("one each", Logit([0, 1, 2]), OUTPUT.diagonal()[:, None]),
    ("one name each", Logit(["cat", "dog", "cat"]), torch.tensor([[2.0], [3.0], [-1.0]])),
    ("a tensor", Logit(torch.tensor([0, 1, 2])), OUTPUT.diagonal()[:, None]),
    ("a number in a tensor", Logit(torch.tensor(3)), OUTPUT[:, 3:]),
    ("several each", Logit([[0, 1], [1, 0], [2, 2]]), torch.tensor([[2.0, -1.0], [3.0, 0.0], [-3.0, -3.0]])),
    ("a table", Logit(torch.tensor([[0], [1], [2]])), OUTPUT.diagonal()[:, None]),
    ("several for all", Classes([3, "cat"]), OUTPUT[:, [3, 0]]),
    ("the best two", Top(2), torch.tensor([[2.0, 0.5], [3.0, 1.0], [-1.0, -2.0]])),
    ("the prediction", Predicted(), OUTPUT.amax(1, keepdim=True)),
    ("a contrast", Contrast("cat", 1), (OUTPUT[:, 0] - OUTPUT[:, 1])[:, None]),
    ("a probability", Probability(0), OUTPUT.softmax(1)[:, :1]),
    ("its logarithm", LogProbability(0), OUTPUT.log_softmax(1)[:, :1]),
    ("a number", Regression(2), OUTPUT[:, 2:3]),
    (
        "a direction",
        Direction(torch.tensor([1.0, 0.0, 2.0, 0.0])),
        (OUTPUT[:, 0] + 2 * OUTPUT[:, 2])[:, None],
    ),
    ("a direction each", Direction(OUTPUT), OUTPUT.square().sum(1, keepdim=True)),
    ("a similarity", Similarity(OUTPUT * 5), torch.ones(3, 1)),
    ("an inner product", Similarity(OUTPUT, normalize=False), OUTPUT.square().sum(1, keepdim=True)),
    ("a function", Function(lambda out: out[:, 0]), OUTPUT[:, :1]),
    ("a function of two", Function(lambda out: out[:, :2] ** 2), OUTPUT[:, :2] ** 2),
]
each_answer = pytest.mark.parametrize(
    ("target", "expected"), [answer[1:] for answer in ANSWERS], ids=[name for name, _, _ in ANSWERS]
)


@each_answer
def test_scores_are_what_the_target_s_equation_gives(target, expected):
    assert torch.allclose(scores(target), expected, atol=1e-6)


@each_answer
def test_the_same_is_asked_of_other_outputs_in_another_order(target, expected):
    """Bound on the clean outputs, asked of noisy ones: the classes of the clean ones, picture by picture."""
    bound = target.bind(OUTPUT, NETWORK)
    noisy = OUTPUT + torch.randn(OUTPUT.shape, generator=torch.Generator().manual_seed(0))
    rows = torch.tensor([2, 0, 0, 1])
    assert torch.allclose(bound.select(rows)(noisy[rows]), bound(noisy)[rows], atol=1e-6)
    again = bound.select(rows).select(torch.tensor([3, 0]))
    assert torch.allclose(again(noisy[[1, 2]]), bound(noisy)[[1, 2]], atol=1e-6)


@each_answer
def test_some_of_the_pictures_are_asked_what_all_of_them_would_be(target, expected):
    rows = [2, 0]
    part = target.pick(rows, 3)
    assert torch.allclose(scores(part, OUTPUT[rows]), expected[rows], atol=1e-6)


def test_the_clean_prediction_is_kept_when_the_outputs_change():
    bound = Predicted().bind(OUTPUT, NETWORK)
    assert bound(-OUTPUT)[:, 0].tolist() == [-2, -3, 1]
    assert bound.labels == (("cat",), ("dog",), ("cat",))


def test_scores_are_float32_and_differentiable():
    output = OUTPUT.double().requires_grad_()
    found = scores(Logit(1), output)
    assert found.dtype == torch.float32
    (gradient,) = torch.autograd.grad(found.sum(), output)
    assert gradient.sum(0).tolist() == [0, 3, 0, 0]


def test_half_precision_outputs_are_softened_in_float32():
    half = OUTPUT.half()
    assert torch.allclose(scores(Probability(0), half), half.float().softmax(1)[:, :1], atol=1e-6)


@pytest.mark.parametrize(
    ("target", "expected"),
    [
        (Logit(0), "cat"),
        (Logit(3), "ice bear"),
        (Contrast(0, 1), "cat rather than dog"),
        (Regression(1), "dog"),
        (Direction(OUTPUT[0]), "direction"),
        (Similarity(OUTPUT[0]), "similarity"),
    ],
)
def test_labels_say_what_was_asked(target, expected):
    assert labels(target) == ((expected,),) * 3


def test_labels_of_several_are_in_order():
    assert labels(Top(2)) == (("cat", "black-footed ferret"), ("dog", "black-footed ferret"), ("cat", "dog"))
    assert labels(Function(lambda out: out[:, :2])) == (("<lambda> 0", "<lambda> 1"),) * 3
    assert labels(Logit(1), network=UNNAMED) == (("1",),) * 3


WRONG = [
    (Logit(4), r"no class \[4\]; Identity has 4 outputs, 0 to 3"),
    (Logit(-1), r"no class \[-1\]"),
    (Logit([0, 1]), r"2 targets for 3 pictures.*Classes"),
    (Logit([]), "0 targets for 3 pictures"),
    (Logit([[0, 1], [1], [2]]), "every picture needs the same number"),
    (Logit("zebra"), "no class is called 'zebra'"),
    (Classes([]), "at least one class"),
    (Classes([0, 9]), r"no class \[9\]"),
    (Top(5), r"Top\(5\) of 4 classes"),
    (Top(0), r"Top\(0\) of 4 classes"),
    (Regression(4), r"Regression\(4\): the network returns 4 numbers"),
    (Direction(torch.ones(3)), r"a direction of shape \(3,\) for embeddings \(3, 4\)"),
    (Similarity(torch.ones(2, 4)), r"a reference of shape \(2, 4\) for embeddings \(3, 4\)"),
    (Pixels(0), r"Pixels needs a dense output \(B, C, H, W\), not \(3, 4\)"),
    (Function(lambda out: out.sum()), r"must return a tensor of shape \(B,\) or \(B, T\)"),
    (Function(lambda out: 3.0), "must return a tensor"),
    (Logit(0, output="aux"), "no tensor 'aux'"),
]


@pytest.mark.parametrize(("target", "message"), WRONG)
def test_a_question_that_cannot_be_answered_says_why(target, message):
    with pytest.raises(TargetError, match=message):
        scores(target)


def test_class_scores_of_another_shape_are_refused_with_what_explains_them():
    with pytest.raises(TargetError, match=r"Predicted needs class scores \(B, C\).*Pixels\(class, mask\)"):
        scores(Predicted(), torch.rand(2, 3, 4, 4))


def test_a_bound_function_that_changes_its_shape_is_refused():
    bound = Function(lambda out: out[:, 0]).bind(OUTPUT, NETWORK)
    with pytest.raises(TargetError, match=r"shape \(2, 1\) for 3 pictures"):
        bound(OUTPUT[:2])


SINGLE = [
    ("the prediction", Predicted(), [1.5, 0.5, 0.0], ["positive", "negative", "negative"]),
    ("yes", Logit(1), [1.5, -0.5, 0.0], ["positive"] * 3),
    ("the only column", Logit(0), [1.5, -0.5, 0.0], ["positive"] * 3),
    ("each its own", Logit([1, 0, 1]), [1.5, -0.5, 0.0], ["positive"] * 3),
]


@pytest.mark.parametrize(
    ("target", "expected", "names"), [case[1:] for case in SINGLE], ids=[name for name, *_ in SINGLE]
)
@pytest.mark.parametrize("output", [LOGIT, LOGIT[:, 0]], ids=["(B, 1)", "(B,)"])
def test_a_single_logit_says_yes_or_no_by_its_sign(output, target, expected, names):
    bound = target.bind(output, UNNAMED)
    assert bound(output)[:, 0].tolist() == expected
    assert [row[0] for row in bound.labels] == names


@pytest.mark.parametrize(
    ("target", "expected", "names"),
    [
        (Predicted(), [1.5, 0.5, 0.0], ["ill", "healthy", "healthy"]),
        (Logit("ill"), [1.5, -0.5, 0.0], ["ill"] * 3),
        (Logit("healthy"), [-1.5, 0.5, 0.0], ["healthy"] * 3),
        (Logit(0), [-1.5, 0.5, 0.0], ["healthy"] * 3),
        (Contrast("ill", "healthy"), [3.0, -1.0, 0.0], ["ill rather than healthy"] * 3),
    ],
)
def test_two_names_for_a_single_logit_are_its_two_sides(target, expected, names):
    bound = target.bind(LOGIT, YES_NO)
    assert bound(LOGIT)[:, 0].tolist() == expected
    assert [row[0] for row in bound.labels] == names


def test_one_name_for_a_single_logit_is_its_positive_side():
    bound = Logit("pneumonia").bind(LOGIT, ONE_NAME)
    assert bound(LOGIT)[:, 0].tolist() == [1.5, -0.5, 0.0]
    assert labels(Predicted(), LOGIT, ONE_NAME) == (("pneumonia",), ("not pneumonia",), ("not pneumonia",))


def test_a_second_class_of_a_single_logit_does_not_exist():
    with pytest.raises(TargetError, match=r"no class \[2\]"):
        scores(Logit(2), LOGIT, UNNAMED)


def test_probabilities_of_a_single_logit_add_up():
    yes, no = (scores(Probability(each), LOGIT, YES_NO) for each in ("ill", "healthy"))
    assert torch.allclose(yes, LOGIT.sigmoid())
    assert torch.allclose(yes + no, torch.ones(3, 1))


def test_a_single_probability_is_explained_as_it_is():
    network = Network(nn.Sequential(nn.Linear(2, 1), nn.Sigmoid()), classes=("healthy", "ill"))
    output = LOGIT.sigmoid()
    assert torch.allclose(scores(Probability("ill"), output, network), output)
    assert torch.allclose(scores(Logit("healthy"), output, network), 1 - output)
    assert torch.allclose(scores(LogProbability("ill"), output, network), output.log())
    assert [row[0] for row in labels(Predicted(), output, network)] == ["ill", "healthy", "healthy"]


def test_the_logarithm_of_a_tiny_probability_still_has_a_gradient():
    for output, network in [(torch.tensor([[-60.0]]), UNNAMED), (torch.tensor([[-60.0, 60.0]]), NETWORK)]:
        output = output.requires_grad_()
        (gradient,) = torch.autograd.grad(scores(LogProbability(0), output, network).sum(), output)
        assert float(gradient[0, 0]) == pytest.approx(1.0)


def test_several_labels_are_probabilities_of_their_own():
    network = Network(nn.Identity(), classes=NAMES, head="sigmoid")
    assert torch.allclose(
        scores(Probability([0, 1, 2]), network=network), OUTPUT.sigmoid().diagonal()[:, None]
    )
    assert torch.allclose(scores(LogProbability(1), network=network), OUTPUT[:, 1:2].sigmoid().log())
    assert labels(Predicted(), network=network) == (("cat",), ("dog",), ("cat",))


def test_probabilities_that_the_network_returns_are_not_softened_again():
    output = OUTPUT.softmax(1)
    assert torch.allclose(scores(Probability(0), output), output[:, :1])
    assert torch.allclose(scores(LogProbability(0), output), output[:, :1].log())


def test_a_saturated_probability_is_noted():
    output = torch.tensor([[0.9999, 0.0001], [0.6, 0.4]])
    notes = Logit(0).bind(output, UNNAMED).notes
    assert "saturated" in notes[0]
    assert notes[1] == ""


def test_pixels_sum_a_class_over_a_region():
    dense = torch.randn(2, 4, 3, 5, generator=torch.Generator().manual_seed(0))
    region = torch.zeros(3, 5, dtype=torch.bool)
    region[1, 2:4] = True
    assert torch.allclose(scores(Pixels(2, region), dense)[:, 0], dense[:, 2, 1, 2:4].sum(1))
    assert torch.allclose(scores(Pixels("dog"), dense)[:, 0], dense[:, 1].sum((1, 2)))
    each = torch.stack([region, ~region])
    expected = torch.stack([dense[0, 2][region].sum(), dense[1, 2][~region].sum()])
    assert torch.allclose(scores(Pixels(2, each), dense)[:, 0], expected, atol=1e-6)
    assert torch.allclose(scores(Pixels(2, each).pick([1], 2), dense[1:])[:, 0], expected[1:], atol=1e-6)
    with pytest.raises(TargetError, match=r"the mask is \(2, 2\), the output \(3, 5\)"):
        scores(Pixels(2, torch.ones(2, 2)), dense)


def test_a_target_says_which_output_it_reads():
    outputs = {"aux": OUTPUT + 1, "logits": OUTPUT, "maps": torch.rand(3, 2, 4, 4)}
    assert torch.equal(scores(Logit(1), outputs), OUTPUT[:, 1:2])
    assert torch.equal(scores(Logit(1, output="aux"), outputs), OUTPUT[:, 1:2] + 1)
    assert torch.equal(scores(Top(1, output=0), outputs), OUTPUT.amax(1, keepdim=True) + 1)
    assert scores(Pixels(1, output="maps"), outputs).shape == (3, 1)


def test_embeddings_may_have_positions():
    assert scores(Direction(torch.ones(8)), torch.rand(2, 2, 2, 2)).shape == (2, 1)


@pytest.mark.parametrize(
    ("given", "expected"),
    [
        (None, Predicted()),
        (3, Logit(3)),
        ("cat", Logit("cat")),
        (np.int64(3), Logit(3)),
        (torch.tensor(3), Logit(3)),
        (Top(2), Top(2)),
    ],
)
def test_everything_that_names_a_target_is_one(given, expected):
    assert as_target(given) == expected


@pytest.mark.parametrize("given", [[0, 1, 2], (0, 1, 2), torch.tensor([0, 1, 2]), np.array([0, 1, 2])])
def test_one_class_per_picture_may_be_given_in_any_container(given):
    assert torch.equal(scores(as_target(given)), OUTPUT.diagonal()[:, None])


def test_a_callable_is_a_target_that_cannot_be_kept():
    bound = as_target(lambda out: out[:, 0]).bind(OUTPUT, NETWORK)
    assert not bound.cacheable
    assert not bound.select(torch.tensor([0])).cacheable
    assert Logit(0).bind(OUTPUT, NETWORK).cacheable


@pytest.mark.parametrize(
    ("given", "message"),
    [
        (True, "cannot explain True"),
        (torch.tensor([0.5]), "Direction or Similarity"),
    ],
)
def test_what_is_no_target_is_refused(given, message):
    with pytest.raises(TargetError, match=message):
        as_target(given)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("predicted", Predicted()),
        ("top3", Top(3)),
        ("2", Logit(2)),
        ("dog", Logit(1)),
        ("polar bear", Logit(3)),
        ("black-footed ferret", Logit(2)),
        ("cat-dog", Contrast(0, 1)),
        ("0-1", Contrast(0, 1)),
        ("cat-1", Contrast(0, 1)),
        ("black-footed ferret-cat", Contrast(2, 0)),
        ("cat-black-footed ferret", Contrast(0, 2)),
    ],
)
def test_a_target_is_read_as_it_is_written_on_a_command_line(text, expected):
    assert parse_target(text, NETWORK) == expected


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("zebra", "no class is called 'zebra'"),
        ("cat-zebra", "no class is called 'cat-zebra'"),
        ("bear", None),
        ("²", "no class is called"),
    ],
)
def test_a_text_that_means_nothing_is_refused(text, message):
    if message is None:
        assert parse_target(text, NETWORK) == Logit(3)
        return
    with pytest.raises(TargetError, match=message):
        parse_target(text, NETWORK)


def test_an_ambiguous_name_is_not_read_as_a_contrast():
    with pytest.raises(TargetError, match="fits 2 classes"):
        parse_target("a-b", Network(nn.Identity(), classes=("x a-b", "y a-b")))


def test_regressions_of_other_columns_have_surveys_of_their_own():
    assert Regression(0).key != Regression(1).key
    assert Logit(0).key == Logit(1).key
    assert Logit(0).key != Logit(0, output="aux").key


def test_functions_are_told_apart_by_what_they_refer_to_and_keep_nothing_alive():
    def reads(column: int, module: nn.Module | None = None) -> Function:
        return Function(lambda out: out[:, column] if module is None else module(out)[:, column])

    assert reads(1).key == reads(1).key
    assert reads(1).key != reads(2).key
    one, other = nn.Identity(), nn.Identity()
    assert reads(1, one).key == reads(1, one).key
    assert reads(1, one).key != reads(1, other).key
    key, watched = reads(1, one).key, weakref.ref(one)
    del one
    gc.collect()
    assert watched() is None
    assert hash(key) == hash(key)
