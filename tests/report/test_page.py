import re
from dataclasses import replace
from html.parser import HTMLParser

import pytest

from lorafuse_jax.evaluation.summary import summarize
from lorafuse_jax.report.page import Result, report_page
from tests.evaluation.given import answers, question, scores

METRICS = [{"step": s, "seed": 1, "train_loss": 1.0, "heldout_loss": 2.0} for s in (1, 2)]
VOID = {"meta", "br", "link", "img"}


def result(given, best):
    said = {(one.id, one.model): one for one in answers()}
    prompts = {f"e{n}": question(n).prompt for n in range(10)}
    return Result(summarize(given, best), given, said, prompts)


def page(**changes):
    given = {
        "title": "<run>",
        "facts": {"a": "<b>"},
        "results": [result(scores(), "seed-2")],
        "metrics": METRICS,
    }
    return report_page(**(given | changes))


@pytest.fixture(scope="module")
def text():
    return page()


class Checker(HTMLParser):
    """Tags that are open, and every address that something would be loaded from."""

    def __init__(self):
        super().__init__()
        self.open, self.loaded = [], []

    def handle_starttag(self, tag, attrs):
        if tag not in VOID:
            self.open.append(tag)
        self.loaded += [v for k, v in attrs if k in ("src", "href", "xlink:href", "srcset")]

    def handle_endtag(self, tag):
        assert self.open.pop() == tag


def test_page_is_well_formed_and_loads_nothing(text):
    checker = Checker()
    checker.feed(text)
    assert checker.open == []
    assert all(address.startswith("#") for address in checker.loaded)
    assert "@import" not in text
    assert all(address.startswith("#") for address in re.findall(r"url\((.)", text))


def test_page_escapes_everything_that_comes_from_outside(text):
    assert "<run>" not in text and "&lt;run&gt;" in text
    assert "<b>" not in text and "&lt;b&gt;#### 99&lt;/b&gt;" in text
    assert "<What>" not in text and "&lt;What&gt; is 0?" in text


def test_page_shows_what_disagreeing_models_said_up_to_six(text):
    # The seeds and the fused model disagree on all but 2 and 3.
    assert "disagree on 8 of 10 examples" in text
    assert re.findall(r"<summary>(e\d)", text) == ["e0", "e1", "e4", "e5", "e6", "e7"]
    shown = text[text.index("<summary>e0") : text.index("<summary>e1")]
    assert "reference 0, 2 of 3 right" in shown
    marks = re.findall(r'<p class="(right|wrong)">(\S+)', shown)
    assert marks == [
        ("wrong", "base"),
        ("right", "seed-1"),
        ("wrong", "seed-2"),
        ("right", "mean"),
    ]


def test_page_says_which_problems_are_newly_solved(text):
    cells = r"<td>mean</td><td>6</td><td>0</td><td>0.031</td><td>4</td>"
    assert re.search(cells, text)


def test_page_without_training_prompts_or_disagreement_is_whole():
    alike = replace(result(scores(("base", "seed-1")), "seed-1"), prompts={})
    checker = Checker()
    bare = page(results=[alike], metrics=[])
    checker.feed(bare)
    assert checker.open == [] and "<h2>Training" not in bare
    assert "disagree on 0 of 10 examples." in bare


def test_page_is_the_same_twice(text):
    assert page() == text
