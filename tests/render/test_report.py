from __future__ import annotations

import base64
import io
import re
from html.parser import HTMLParser

import numpy as np
import pytest
from PIL import Image
from render_panels import bump, noise_picture, panel

from seewhy.errors import InputError
from seewhy.render import MethodInfo, Prediction, Report, Row, fragment

METHODS = [
    MethodInfo("cam", "CAM", "Zhou et al., 2016"),
    MethodInfo("grad-cam", "Grad-CAM", "Selvaraju et al., 2017"),
]
VOID = {"meta", "img", "input", "br", "link"}


class Page(HTMLParser):
    """Reads a page strictly: every tag closed in order; keeps elements and text."""

    def __init__(self, html: str) -> None:
        super().__init__()
        self.elements: list[tuple[str, dict[str, str | None]]] = []
        self.text = ""
        self.stack: list[str] = []
        self.feed(html)
        assert self.stack == []

    def handle_starttag(self, tag, attrs):
        self.elements.append((tag, dict(attrs)))
        if tag not in VOID:
            self.stack.append(tag)

    def handle_endtag(self, tag):
        assert self.stack.pop() == tag

    def handle_data(self, data):
        if self.stack[-1:] != ["style"]:
            self.text += data

    def all(self, tag):
        return [attributes for name, attributes in self.elements if name == tag]


def row(name="dog.jpg", *, panels=None, **changes):
    if panels is None:
        panels = (panel(bump(), method="cam"), panel(bump() - 0.5, method="grad-cam", signed=True))
    predictions = (Prediction("tabby", 0.731), Prediction("lynx", 0.2))
    return Row(name, noise_picture(), predictions, panels, **changes)


def filled(*rows, **facts):
    report = Report("A report", facts, METHODS)
    for each in rows:
        report.add(each)
    return report


def decoded(attributes):
    kind, data = attributes["src"].split(",", 1)
    assert kind == "data:image/webp;base64"
    return Image.open(io.BytesIO(base64.b64decode(data)))


def test_a_row_has_one_cell_per_method_and_one_image_per_map():
    page = Page(filled(row(), row("cat.jpg")).html())
    assert len(page.all("tr")) == 3
    assert len(page.all("td")) == 4
    assert len(page.all("img")) == 2 * 3


def test_several_targets_stand_in_one_cell_each_with_its_label():
    both = tuple(panel(bump(), method="cam", target=target) for target in ("tabby", "lynx of the north"))
    page = Page(filled(row(panels=both)).html())
    assert len(page.all("td")) == 2
    assert len(page.all("figure")) == 2
    assert "lynx of the north" in page.text
    assert "no map" in page.text


def test_under_each_map_stand_target_score_layer_cost_and_notes():
    page = Page(filled(row(panels=(panel(bump(), method="cam", notes=("weak head",)),))).html())
    for said in ("tabby (281)", "score 12.5", "layer4", "1 forward, 1 backward", "weak head"):
        assert said in page.text


def test_the_header_says_facts_methods_notes_and_counts():
    report = filled(
        row(correct=True), row(correct=True), row(correct=False), Network="resnet50", Command="seewhy x"
    )
    report.fail("broken.jpg", "truncated")
    report.note("layer chosen by itself")
    page = Page(report.html())
    assert "4 asked = 3 explained + 1 failed" in page.text
    assert "accuracy 66.7% (2 of 3 labelled)" in page.text
    for said in ("resnet50", "Zhou et al., 2016", "layer chosen by itself", "broken.jpg", "truncated"):
        assert said in page.text
    assert "<code>seewhy x</code>" in report.html()


def test_without_labels_nothing_is_said_about_accuracy():
    assert "accuracy" not in Page(filled(row()).html()).text


def test_predictions_have_bars_as_long_as_their_probability():
    page = Page(filled(row()).html())
    bars = [attributes["style"] for attributes in page.all("i") if "width" in (attributes.get("style") or "")]
    assert bars == ["width:73.1%", "width:20.0%"]
    assert "73.1%" in page.text


@pytest.mark.parametrize(("correct", "verdict"), [(True, "✓ right"), (False, "✗ wrong")])
def test_the_true_label_is_marked_right_or_wrong(correct, verdict):
    text = Page(filled(row(truth="lynx", correct=correct)).html()).text
    assert f"true label: lynx {verdict}" in text


def test_text_from_outside_is_escaped_everywhere():
    evil = "<script>alert('x')</script>\"><img src=x>"
    report = Report(evil, {evil: evil, "command": evil}, [MethodInfo("cam", evil, evil)])
    shown = panel(bump(), method="cam", target=evil, layer=evil, cost=evil, notes=(evil,))
    report.add(Row(evil, noise_picture(), (Prediction(evil, 0.5),), (shown,), truth=evil))
    report.fail(evil, evil)
    report.note(evil)
    page = Page(report.html())
    assert page.all("script") == []
    assert [image["src"][:10] for image in page.all("img")] == ["data:image"] * 2
    assert page.text.count(evil) >= 14


def test_the_page_asks_for_nothing_outside_itself_and_runs_no_script():
    html = filled(row(truth="a", correct=True), row(truth="b", correct=False)).html()
    page = Page(html)
    assert "http:" not in html
    assert "https:" not in html
    assert not re.search(r"url\(|@import|<link|<script|\son\w+=", html)
    policy = [
        meta["content"] for meta in page.all("meta") if meta.get("http-equiv") == "Content-Security-Policy"
    ]
    assert policy == ["default-src 'none'; img-src data:; style-src 'unsafe-inline'"]


def test_the_page_speaks_for_both_colour_schemes():
    html = filled(row()).html()
    assert '<meta name="color-scheme" content="light dark">' in html
    assert "@media (prefers-color-scheme: dark)" in html


def test_the_table_can_be_read_aloud():
    page = Page(filled(row(panels=(panel(bump(), method="cam"),))).html())
    assert [header["scope"] for header in page.all("th")] == ["col", "col", "col", "row"]
    assert page.all("html") == [{"lang": "en"}]
    regions = [part for part in page.all("div") if part.get("role") == "region"]
    assert [(region["aria-label"], region["tabindex"]) for region in regions] == [
        ("Pictures and their maps", "0")
    ]
    said = [image["alt"] for image in page.all("img")]
    assert said[0] == "picture dog.jpg"
    assert re.fullmatch(
        r"cam map of dog.jpg for tabby \(281\): strongest \d\d% from the left, \d\d% from the top", said[1]
    )


def test_the_description_says_where_the_evidence_is_and_on_which_side():
    values = np.zeros((30, 40))
    values[27, 4] = -1
    page = Page(filled(row(panels=(panel(values, method="cam", signed=True),))).html())
    assert page.all("img")[1]["alt"].endswith(
        "strongest against the target 11% from the left, 92% from the top"
    )


def test_a_map_without_evidence_says_so_in_words():
    html = filled(row(panels=(panel(np.zeros((30, 40)), method="cam"),))).html()
    assert Page(html).all("img")[1]["alt"] == "cam map of dog.jpg for tabby (281): no evidence"
    assert '<ul class="notes"><li>no evidence</li></ul>' in html


def test_the_share_that_was_not_seen_is_said():
    visible = np.ones((30, 40), dtype=bool)
    visible[:, :10] = False
    page = Page(filled(row(panels=(panel(bump(), method="cam", visible=visible),))).html())
    assert "hatched: 25% of the picture was not seen" in page.text


@pytest.mark.parametrize("size", [(75, 56), (900, 300), (300, 1200), (3, 2000)])
def test_images_are_thumbnails_of_the_right_shape(size):
    picture, shown = noise_picture(*size), panel(bump(*size), method="cam")
    page = Page(filled(Row("a", picture, (), (shown,))).html())
    for attributes in page.all("img"):
        image = decoded(attributes)
        assert max(image.size) == 320
        assert (attributes["width"], attributes["height"]) == (str(image.width), str(image.height))
        assert min(image.size) == max(round(min(size) * 320 / max(size)), 1)


def test_a_cell_of_a_photograph_like_picture_stays_small():
    generator = np.random.default_rng(0)
    coarse = Image.fromarray(generator.integers(0, 256, (24, 32, 3), dtype=np.uint8))
    picture = coarse.resize((640, 480), Image.Resampling.BICUBIC)
    maps = tuple(panel(bump(640, 480), method=name) for name in ("cam", "grad-cam"))
    one, two = (len(filled(*[Row("a", picture, (), maps)] * count).html()) for count in (1, 2))
    # 200 pictures, 7 methods and the picture itself: 1,600 cells under 60 MB are 37 kB each.
    assert (two - one) / 3 < 37_000


def test_a_row_is_rendered_when_it_is_added():
    picture = noise_picture()
    report = filled(Row("a", picture, (), (panel(bump(), method="cam"),)))
    before = report.html()
    picture.paste((0, 0, 0), (0, 0, 40, 30))
    assert report.html() == before


def test_a_map_of_a_method_without_column_is_refused():
    with pytest.raises(InputError, match=r"dog.jpg: no column for 'rise'; the report has cam, grad-cam"):
        filled(row(panels=(panel(bump(), method="rise"),)))


def test_a_map_in_another_frame_is_refused_and_counts_for_nothing():
    report = filled()
    with pytest.raises(InputError, match="frame"):
        report.add(row(panels=(panel(bump(20, 20), method="cam"),), correct=True))
    assert "0 asked" in Page(report.html()).text


def test_the_filter_for_wrong_predictions_is_offered_where_it_says_something():
    assert Page(filled(row(correct=True), row(correct=False)).html()).all("input") == [{"type": "checkbox"}]
    assert Page(filled(row(correct=True), row(correct=True)).html()).all("input") == []


def test_a_saved_report_is_the_page_and_nothing_is_left_beside_it(tmp_path):
    report = filled(row())
    report.save(tmp_path / "new" / "report.html")
    assert (tmp_path / "new" / "report.html").read_text(encoding="utf-8") == report.html()
    assert len(list((tmp_path / "new").iterdir())) == 1


def test_a_failure_while_saving_keeps_the_earlier_report(tmp_path, monkeypatch):
    path = tmp_path / "report.html"
    path.write_text("earlier")
    report = filled(row())
    monkeypatch.setattr(report, "_failures", [(None, None)])
    with pytest.raises(AttributeError):
        report.save(path)
    assert path.read_text() == "earlier"
    assert list(tmp_path.iterdir()) == [path]


def test_a_file_name_that_is_no_utf8_does_not_lose_the_report(tmp_path):
    report = filled(row("caf\udce9.jpg"))
    report.save(tmp_path / "report.html")
    assert "caf?.jpg" in (tmp_path / "report.html").read_text(encoding="utf-8")


def test_a_fragment_is_one_element_for_one_row_or_several():
    single, several = fragment(row(), METHODS), fragment([row(), row()], METHODS)
    assert Page(single).elements[0] == ("div", {"class": "seewhy fragment"})
    assert len(Page(single).all("tr")) == 2
    assert len(Page(several).all("tr")) == 3
    assert not re.search("<html|<body|<script|https?:| id=", single)


def test_the_style_of_a_fragment_touches_nothing_around_it():
    style = re.search(r"<style>(.*)</style>", fragment(row(), METHODS), re.DOTALL).group(1)
    selectors = re.findall(r"([^{}]+)\{", style)
    assert len(selectors) > 40
    for selector in selectors:
        if not selector.strip().startswith("@"):
            # Commas inside :is(…) and :not(…) separate no selectors.
            for part in re.sub(r"\([^()]*\)", "", re.sub(r"\([^()]*\)", "", selector)).split(","):
                assert part.strip().startswith(".seewhy"), part


def test_a_map_may_lie_on_another_picture_than_its_row_s():
    """A row per pair of pictures: one heads it, the other is only under its own map."""
    other = Image.new("RGB", (24, 12), "red")
    wide = panel(np.zeros((12, 24), np.float32), method="grad-cam", picture=other)
    page = Page(filled(row(panels=(panel(bump(), method="cam"), wide))).html())
    head, own, apart = (decoded(attributes) for attributes in page.all("img"))
    assert own.size == head.size
    assert apart.width == 2 * apart.height
    assert np.abs(np.asarray(apart.convert("RGB")).mean((0, 1)) - (255, 0, 0)).max() < 8


def test_what_was_counted_can_be_said_where_rows_are_not_pictures():
    report = Report("A report", {}, METHODS, lead="3 queries & 1 failed")
    report.add(row())
    assert "3 queries & 1 failed" in Page(report.html()).text
    assert "asked =" not in Page(report.html()).text
