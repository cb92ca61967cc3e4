"""Charts as SVG: what is drawn where, and what is not."""

from __future__ import annotations

import itertools
import re
import xml.etree.ElementTree as ET

import pytest

from seewhy.render.curves import curves


def parsed(html: str) -> ET.Element:
    return ET.fromstring(html)


def test_every_line_is_drawn_and_named_and_the_page_stays_well_formed() -> None:
    figure = parsed(
        curves("a < b", "of the pixels", {"one": [0.0, 0.5, 1.0], "two & three": [1.0, 0.2, 0.1]})
    )
    lines = figure.findall(".//polyline")
    assert len(lines) == 2
    assert {"one", "two & three", "of the pixels"} <= {each.text for each in figure.iter("text")}
    assert figure.find("figcaption").text == "a < b"
    points = [tuple(map(float, point.split(","))) for point in lines[0].get("points").split()]
    assert [x for x, _ in points] == sorted(x for x, _ in points)
    assert [y for _, y in points] == sorted((y for _, y in points), reverse=True)  # svg counts downwards


def test_values_lie_at_the_shares_where_they_were_measured() -> None:
    figure = parsed(curves("t", "x", {"one": [0.9, 0.5, 0.1]}, at=[0, 0.25, 0.75]))
    labels = {
        each.text: float(each.get("x")) for each in figure.iter("text") if each.get("text-anchor") == "middle"
    }
    points = figure.find(".//polyline").get("points").split()
    assert [float(point.partition(",")[0]) for point in points] == [
        labels["0%"],
        labels["25%"],
        labels["75%"],
    ]


def test_the_scale_holds_zero_and_the_highest_value() -> None:
    figure = parsed(curves("t", "x", {"one": [0.2, 0.4]}))
    ticks = [each.text for each in figure.iter("text") if re.fullmatch(r"0(\.\d+)?", each.text or "")]
    assert ticks[0] == "0"
    assert float(ticks[-1]) == pytest.approx(0.4)


def test_what_is_undefined_is_left_out() -> None:
    assert curves("t", "x", {}) == ""
    assert curves("t", "x", {"one": [None, None]}) == ""
    figure = parsed(curves("t", "x", {"one": [0.1, None, 0.3], "constant": [0.0, 0.0, 0.0]}))
    assert [len(each.get("points").split()) for each in figure.findall(".//polyline")] == [2, 3]


def test_names_of_lines_that_end_alike_do_not_lie_on_each_other() -> None:
    names = [f"method {number}" for number in range(30)]
    figure = parsed(curves("t", "x", {name: [0.0, 1.0] for name in names}))
    heights = [float(each.get("y")) for each in figure.iter("text") if each.text in names]
    assert len(heights) == 30
    assert all(after - before >= 14 - 1e-6 for before, after in itertools.pairwise(heights))
    height = float(figure.find("svg").get("viewBox").split()[3])
    assert max(heights) < height
    styles = {(each.get("stroke"), each.get("stroke-dasharray")) for each in figure.findall(".//polyline")}
    assert len(styles) == 28  # seven colours, four dashes
