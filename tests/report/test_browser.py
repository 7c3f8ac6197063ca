"""The page as a browser lays it out, on a phone, a tablet and a desk, light and dark."""

import sys

import pytest

from lorafuse_jax.report.page import report_page
from tests.report import browser
from tests.report.browser import NoBrowser
from tests.report.made import made_run

WIDTHS = (360, 768, 1280)
LEGIBLE = 4.5
"""Contrast that WCAG 2 asks of text, level AA."""


@pytest.fixture(scope="module", params=[False, True], ids=["light", "dark"])
def found(request, tmp_path_factory):
    try:
        measured = browser.measure(
            report_page(made_run()), tmp_path_factory.mktemp("browser"), WIDTHS, dark=request.param
        )
    except NoBrowser as reason:
        pytest.skip(str(reason))
    assert [one["dark"] for one in measured] == [request.param] * len(WIDTHS)
    return dict(zip(WIDTHS, measured, strict=True))


@pytest.mark.parametrize("width", WIDTHS)
def test_page_never_scrolls_sideways_and_nothing_sticks_out(found, width):
    assert found[width]["width"] == width
    assert found[width]["scrollWidth"] == width
    assert found[width]["sticking"] == []


@pytest.mark.parametrize("width", WIDTHS)
def test_all_text_is_legible(found, width):
    least = found[width]["contrast"]
    assert least["ratio"] > 1 and least["ratio"] >= LEGIBLE, least
    assert found[width]["letters"] >= 11.5


def test_wide_tables_scroll_in_their_boxes_and_keep_their_first_column(found):
    assert found[360]["scrolling"] > found[1280]["scrolling"]
    assert all(one["stays"] for one in found.values())


def test_answers_stand_side_by_side_where_there_is_room_and_below_each_other_on_a_phone(found):
    assert [found[width]["columns"] for width in WIDTHS] == [1, 2, 4]


def test_filter_shows_examples_of_one_kind_and_links_open_theirs(found):
    for one in found.values():
        assert 0 < one["filter"]["shown"] < one["filter"]["all"]
        assert one["filter"]["right"] and one["follows"]


def test_browser_finds_faults_that_are_there(tmp_path):
    broken = report_page(made_run()).replace("--soft: #565e6b", "--soft: #b5b9c0")
    broken = broken.replace(".wide { overflow-x: auto", ".wide { overflow-x: visible")
    try:
        (one,) = browser.measure(broken, tmp_path, (360,), dark=False)
    except NoBrowser as reason:
        pytest.skip(str(reason))
    assert one["scrollWidth"] > 360 and one["contrast"]["ratio"] < LEGIBLE


def test_program_that_is_no_browser_is_said(tmp_path, monkeypatch):
    nothing = tmp_path / "chromium"
    nothing.write_text(f"#!{sys.executable}\n")
    nothing.chmod(0o755)
    monkeypatch.setattr(browser, "NAMES", (str(nothing),))
    with pytest.raises(NoBrowser, match="gave no answer"):
        browser.measure("<p>", tmp_path, (360,), dark=False)
