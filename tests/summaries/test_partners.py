"""Summaries of two networks that are in the same places."""

from __future__ import annotations

import json

import numpy as np
import pytest

from seewhy import Scenes
from seewhy.cli import run
from seewhy.errors import InputError
from seewhy.scenes.files import write
from seewhy.summaries.partners import partners
from seewhy.truth import run_lengths

SIDE = 40


def square(y, x, side=10):
    mask = np.zeros((SIDE, SIDE), bool)
    mask[y : y + side, x : x + side] = True
    return mask


def summaries(*places, pictures=12, counts=True):
    """JSON of summaries, each at one place (moving a little from picture to picture)."""
    return {
        "pictures": {f"{n}.png": {} for n in range(pictures)},
        "summaries": [
            {
                "number": number,
                "significant": counts,
                "members": [
                    {"picture": f"{n}.png", "mask": run_lengths(square(y + n % 3, x + n % 2))}
                    for n in range(pictures)
                ],
            }
            for number, (y, x) in enumerate(places, 1)
        ],
    }


def test_summaries_of_the_same_places_find_one_another():
    first, second = summaries((2, 2), (25, 25), (2, 25)), summaries((26, 24), (3, 2))
    found = partners(first, second)
    assert [each.partner for each in found] == [2, 1, None]
    one, two = square(2, 2), square(3, 2)
    assert found[0].overlap == pytest.approx((one & two).sum() / (one | two).sum())
    assert found[0].chance < 1e-4
    assert found[0].elsewhere < 0.1
    assert found[2].overlap == 0


def test_pictures_that_only_one_has_lower_the_overlap():
    first, second = summaries((2, 2)), summaries((2, 2))
    del second["summaries"][0]["members"][6:]
    (found,) = partners(first, second)
    assert found.overlap == pytest.approx(0.5)
    del second["pictures"]["11.png"]  # which took no part there
    assert partners(first, second)[0].overlap == pytest.approx(6 / 11)


def test_random_places_are_nobodys_partners():
    draw = np.random.default_rng(0)
    wrong = 0
    for _ in range(20):
        first, second = summaries((2, 2)), summaries((2, 2))
        for member in second["summaries"][0]["members"]:
            y, x = draw.integers(0, SIDE - 10, 2)
            member["mask"] = run_lengths(square(y, x))
        wrong += partners(first, second)[0].partner is not None
    assert wrong <= 3  # of 20 at a chance of 0.05


def test_only_summaries_that_count_are_compared_unless_asked_otherwise():
    first, second = summaries((2, 2)), summaries((2, 2), counts=False)
    assert partners(first, second)[0].partner is None
    assert partners(second, first) == []
    assert partners(second, first, counting=False)[0].partner == 1


def test_what_cannot_be_compared_is_said():
    with pytest.raises(InputError, match="no picture in common"):
        partners(summaries((2, 2)), summaries((2, 2), pictures=0))
    with pytest.raises(InputError, match="not summaries as"):
        partners(summaries((2, 2)), {"pictures": {}})
    small = summaries((2, 2))
    for member in small["summaries"][0]["members"]:
        member["mask"] = run_lengths(np.ones((8, 8), bool))
    with pytest.raises(InputError, match="40 x 40 and 8 x 8"):
        partners(summaries((2, 2)), small)


def test_the_command_says_which_are_where_anothers_are(tmp_path, capsys, monkeypatch):
    pytest.importorskip("sklearn")
    pytest.importorskip("pyarrow")
    monkeypatch.chdir(tmp_path)
    write(Scenes(4, seed=3, size=64, classes=("fish",)), tmp_path / "fish")
    (tmp_path / "other.json").write_text(json.dumps(summaries((2, 2))))
    (tmp_path / "broken.json").write_text("{")
    command = [
        "summarize",
        "fish",
        "--data",
        "fish",
        "--model",
        "demo",
        "--out",
        "out",
        "--mask",
        "smooth=5,sharp=0",
    ]
    assert run([*command, "--beside", "broken.json"]) == 2
    assert "--beside broken.json" in capsys.readouterr().err
    assert run([*command, "--beside", "other.json"]) == 1
    assert "no picture in common" in capsys.readouterr().err
    assert run(command) == 0
    assert run([*command, "--beside", "out/summaries.json"]) == 0
    assert "could have a partner" in capsys.readouterr().out
    assert json.loads((tmp_path / "out/partners.json").read_text()) == []
