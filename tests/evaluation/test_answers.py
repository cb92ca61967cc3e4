"""Who is right: choices over what several networks answer."""

import pytest

from seewhy.errors import InputError
from seewhy.evaluation.answers import CHOICES, Answer, Answers
from seewhy.explanation import Predicted


def said(*answers: tuple[str, bool | None]) -> tuple[Answer, ...]:
    return tuple(Answer(Predicted(0, label, 0.5), correct) for label, correct in answers)


THREE = Answers(
    {
        "a": said(("cat", True), ("dog", False), ("dog", False)),
        "b": said(("cat", False), ("dog", True), ("dog", True)),
        "c": said(("cat", False), ("dog", True), ("ant", False)),
        "d": said(("cat", True), ("cat", True), ("cat", True)),
        "e": said(("cat", False), ("cat", False), ("cat", False)),
        "f": said(("cat", None), ("dog", None), ("dog", None)),
    },
    (),
)


@pytest.mark.parametrize(
    ("which", "expected"),
    [
        ("all", "abcdef"),
        ("disagree", "abcf"),
        ("all-right", "d"),
        ("all-wrong", "e"),
        ("some-right", "abc"),
        ("first-right", "a"),
        ("first-wrong", "b"),
    ],
)
def test_a_choice_is_of_those_pictures_whose_true_class_is_known(which, expected) -> None:
    assert "".join(THREE.chosen(which)) == expected
    assert THREE.counts()[which] == len(expected)
    assert set(THREE.counts()) == set(CHOICES)


def test_a_network_is_right_as_often_as_that_is_known() -> None:
    assert [THREE.right(number) for number in range(3)] == [(2, 5), (3, 5), (2, 5)]


def test_without_any_true_class_nobody_is_right() -> None:
    unknown = Answers({"f": THREE.of["f"]}, ())
    assert unknown.counts() == {"all": 1, "disagree": 1}
    with pytest.raises(InputError, match="'all-wrong' asks who is right"):
        unknown.chosen("all-wrong")


def test_a_choice_that_does_not_exist_is_refused_with_those_that_do() -> None:
    with pytest.raises(InputError, match="no choice is called 'both'; there are all, disagree"):
        THREE.chosen("both")


def test_the_command_offers_every_choice() -> None:
    from typing import get_args

    from seewhy.cli.compare import Only

    assert get_args(Only) == tuple(CHOICES)
