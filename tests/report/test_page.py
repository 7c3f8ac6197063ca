import re
from dataclasses import replace
from html.parser import HTMLParser

import pytest

from lorafuse_jax.evaluation.seed_groups import summarize_groups
from lorafuse_jax.report.groups_page import GroupReport, groups_page
from lorafuse_jax.report.page import report_page
from lorafuse_jax.report.style import DARK, LIGHT, SHADE, TEXT
from tests.report.made import made_rerun, made_result, made_run

VOID = {"meta", "br", "link", "img", "input", "wbr"}
LEGIBLE = 4.5


@pytest.fixture(scope="module")
def text():
    return report_page(made_run())


@pytest.fixture(scope="module")
def groups_text():
    names = [tuple(f"seed-{3 * g + k}" for k in range(3)) for g in range(3)]
    results = [made_result(seed=g, names=own) for g, own in enumerate(names)]
    bests, runs = [r.summary.best_seed for r in results], ["run-a", "run-b", "run-c"]
    summary = summarize_groups([r.scores for r in results], bests, runs)
    reports = [
        GroupReport(name=name, results=[result], rerun=made_rerun())
        for name, result in zip(runs, results, strict=True)
    ]
    return groups_page([summary], reports)


class Checker(HTMLParser):
    """Elements as they are nested, with what a reader who cannot see is told."""

    def __init__(self, text):
        super().__init__()
        self.open, self.loaded, self.ids, self.links, self.headings = [], [], [], [], []
        self.tables, self.drawings, self.unnamed_cells = [], [], 0
        self.feed(text)
        self.close()

    def handle_starttag(self, tag, attrs):
        given = dict(attrs)
        if tag not in VOID:
            self.open.append(tag)
        self.loaded += [v for k, v in attrs if k in ("src", "xlink:href", "srcset", "data")]
        self.links += [given["href"]] if "href" in given else []
        self.ids += [given["id"]] if "id" in given else []
        if re.fullmatch("h[1-6]", tag):
            self.headings.append(int(tag[1]))
        if tag == "table":
            self.tables.append([])
        if self.tables and tag in ("caption", "th"):
            self.tables[-1].append((tag, given.get("scope")))
        if tag in ("div", "svg") and given.get("role") == "img":
            self.drawings.append(given.get("aria-label"))

    def handle_endtag(self, tag):
        if tag not in VOID:
            assert self.open.pop() == tag

    def handle_data(self, data):
        if self.open and self.open[-1] == "style":
            assert "@import" not in data and "url(" not in data and "http" not in data


@pytest.fixture(params=["run", "groups"])
def checked(request, text, groups_text):
    return Checker(text if request.param == "run" else groups_text)


def test_page_is_well_formed_and_loads_nothing(checked):
    assert checked.open == [] and checked.loaded == []
    assert all(address.startswith("#") for address in checked.links)


def test_page_forbids_itself_the_network(text):
    assert "Content-Security-Policy" in text and "default-src 'none'" in text


def test_links_have_their_targets_and_ids_are_unique(checked):
    assert len(set(checked.ids)) == len(checked.ids)
    assert {address[1:] for address in checked.links} <= set(checked.ids)


def test_headings_skip_no_level(checked):
    assert checked.headings[0] == 1 and checked.headings.count(1) == 1
    steps = zip(checked.headings, checked.headings[1:], strict=False)
    # The names of the models within an example are a heading each, below whatever stands above.
    assert all(after <= before + 1 or after == 5 for before, after in steps)


def test_every_table_says_what_it_is_and_what_its_headings_are_of(checked):
    assert len(checked.tables) > 5
    for found in checked.tables:
        assert found[0][0] == "caption"
        assert all(scope in ("col", "row", "colgroup") for tag, scope in found if tag == "th")
        assert {"col", "row"} <= {scope for _, scope in found}


def test_every_drawing_is_told_in_words(checked):
    assert len(checked.drawings) > 3
    assert all(label and re.search(r"\d", label) for label in checked.drawings)


def test_page_escapes_everything_that_comes_from_outside(text):
    assert "<run>" not in text and "&lt;run&gt;" in text
    assert "<b>half" not in text and "&lt;b&gt;half" in text


def test_page_is_the_same_twice(text):
    assert report_page(made_run()) == text


def test_contents_name_every_benchmark_and_part(text):
    contents = text[text.index("<nav") : text.index("</nav>")]
    for words in ("In short", "gsm8k@metamath", "mmlu/test", "What it took", "To run it again"):
        assert words in contents


def test_parts_come_in_the_order_in_which_they_are_read(text):
    titles = re.findall(r"<h2[^>]*>([^<]+)", text)
    assert titles == [
        "In short",
        "gsm8k@metamath",
        "mmlu/test",
        "Training",
        "What the adapters have in common",
        "What it took",
        "What they said",
        "How to read this",
        "To run it again",
    ]


def test_page_without_training_or_adapters_is_whole():
    bare = report_page(made_run(metrics=[], costs=[], diagnostics="There is one seed."))
    checker = Checker(bare)
    assert checker.open == [] and "<h2 id=training" not in bare
    assert "There is one seed." in bare and "were not recorded" in bare


def test_page_of_many_benchmarks_stays_small():
    one = made_result(examples=150, groups=5)
    many = [replace(one, summary=replace(one.summary, task=f"task-{n}@own")) for n in range(10)]
    text = report_page(made_run(results=many))
    assert len(text.encode()) < 3e6
    assert text.count("<details id=") >= 3 * len(many)


def luminance(colour):
    channels = [int(colour[at : at + 2], 16) / 255 for at in (1, 3, 5)]
    linear = [c / 12.92 if c <= 0.04045 else ((c + 0.055) / 1.055) ** 2.4 for c in channels]
    return 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2]


def contrast(first, second):
    low, high = sorted([luminance(first), luminance(second)])
    return (high + 0.05) / (low + 0.05)


def mixed(first, second, share):
    pairs = [(int(first[at : at + 2], 16), int(second[at : at + 2], 16)) for at in (1, 3, 5)]
    return "#" + "".join(f"{round(share * a + (1 - share) * b):02x}" for a, b in pairs)


@pytest.mark.parametrize("colours", [LIGHT, DARK], ids=["light", "dark"])
def test_letters_are_legible_on_every_ground(colours):
    assert LIGHT.keys() == DARK.keys()
    grounds = [colours["paper"], colours["mark"]]
    assert all(contrast(colours[name], ground) >= LEGIBLE for name in TEXT for ground in grounds)
    for heat in ("warm", "cold"):
        ground = mixed(colours[heat], colours["paper"], SHADE)
        assert contrast(colours["ink"], ground) >= LEGIBLE
        assert contrast(colours[heat], colours["paper"]) >= 3  # what is drawn, not written


def test_page_of_groups_tells_of_all_together_and_of_each(groups_text):
    assert "Over 3 groups of seeds, in accuracy," in groups_text
    for name in ("run-a", "run-b", "run-c", "all groups"):
        assert name in groups_text
    assert "cannot give a p below 0.250" in groups_text
