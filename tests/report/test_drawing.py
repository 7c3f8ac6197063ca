import re

import pytest

from lorafuse_jax.report.drawing import Bar, Curve, bars, lines, strips, ticks
from lorafuse_jax.report.markup import Cell, Html, Row, breakable, html_of, table, tag


@pytest.mark.parametrize(
    ("low", "high", "expected"),
    [
        (0.0, 100.0, [0, 20, 40, 60, 80, 100]),
        (-0.105, 0.164, [-0.1, 0.0, 0.1]),
        (0.31, 0.49, [0.35, 0.4, 0.45]),
        (2.0, 2.0, [2.0]),
    ],
)
def test_ticks_are_round_and_inside(low, high, expected):
    assert ticks(low, high) == pytest.approx(expected)


def places(html, name):
    return [float(x) for x in re.findall(rf'{name}="(-?[\d.]+)%"', html)]


def test_bars_stand_where_their_numbers_are():
    rows = [Bar("a", "seed", 20.0, 10.0, 30.0, "20"), Bar("b", "fused", 60.0, 50.0, 90.0, "60")]
    html = bars(rows, "words", line=10.0, form="{:g}".format)
    span = 80 * 1.08  # 4 % of room at either end
    expected = [100 * (value - 10 + 3.2) / span for value in (20, 60)]
    assert places(html, "cx") == pytest.approx(expected, abs=0.01)
    (dotted,) = set(re.findall(r'x1="([\d.]+)%" x2="[\d.]+%" y1="0" y2="100%" class="mark"', html))
    assert float(dotted) == pytest.approx(100 * 3.2 / span, abs=0.01)
    assert 'aria-label="words"' in html and "kind-fused" in html


def test_bars_of_one_number_are_drawn():
    assert "<circle" in bars([Bar("a", "seed", 0.0, 0.0, 0.0, "0")], "w", line=0.0, form=str)


def test_strips_shade_by_the_distance_from_the_middle():
    html = strips([("m", [0.5, 1.5, None, 1.0])], "w", limit=0.5, middle=1.0, form="{:.1f}".format)
    found = re.findall(r'class="cell-(warm|cold)" fill-opacity="([\d.]+)"', html)
    assert found == [("cold", "1.00"), ("warm", "1.00"), ("warm", "0.00")]
    assert places(html, "x")[:3] == [0, 25, 75]
    assert "m, layer 3: 1.0" in html and ">1.0</span>" in html


def test_lines_go_through_their_points():
    curve = Curve("a", "s0", [(0.0, 1.0), (10.0, 2.0), (20.0, 4.0)], dots=True)
    html = lines([curve], "words", x_name="x", y_name="y", log=True)
    (path,) = re.findall(r'points="([^"]+)"', html)
    across, down = zip(*(map(float, pair.split(",")) for pair in path.split()), strict=True)
    assert across == pytest.approx((0, 50, 100))
    assert down[0] - down[1] == pytest.approx(down[1] - down[2])  # a doubling each
    assert down[0] > down[2] and html.count("<circle") == 3


def test_a_loss_of_zero_is_drawn_on_a_plain_axis():
    curve = Curve("a", "s0", [(0.0, 4.0), (1.0, 2.0), (2.0, 0.0)])
    html = lines([curve], "words", x_name="x", y_name="y", log=True)
    (path,) = re.findall(r'points="([^"]+)"', html)
    down = [float(pair.split(",")[1]) for pair in path.split()]
    assert down[1] - down[0] == pytest.approx(down[2] - down[1])


def test_text_is_escaped_once_and_html_stays():
    assert tag("p", "<b>", tag("b", "a&b"), title='"') == (
        '<p title="&quot;">&lt;b&gt;<b>a&amp;b</b></p>'
    )
    assert html_of(Html("<i>")) == "<i>"


def test_long_names_break_between_parts_and_short_ones_do_not():
    assert breakable("seed-11") == "seed-11"
    assert breakable("distribution_matching") == "distribution_<wbr>matching"
    assert breakable("a_b_c_d_e_f_<x>") == "a_b_c_d_e_<wbr>f_&lt;x&gt;"


def test_table_names_itself_and_its_headings():
    html = table(
        "<t>", ["name", "n"], [Row(["a", Cell("1", "warm", 0.5)])], groups=[("", 1), ("g", 1)]
    )
    assert "<caption><span>&lt;t&gt;</span></caption>" in html
    assert html.count('scope="col"') == 2 and 'scope="row">a<' in html
    assert 'scope="colgroup" colspan="1">g<' in html
    assert '<td class="warm" style="--shade:0.50">1</td>' in html
    assert 'role="region" aria-label="&lt;t&gt;" tabindex="0"' in html
