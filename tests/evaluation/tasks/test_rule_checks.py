"""IFEval's and IFBench's verdicts are those of the libraries whose rules they are."""

import json
import random
import sys
from dataclasses import replace

import nltk
import numpy as np
import punkt
import pytest

from lorafuse_jax.assets.cache import _download, _unpack, fetch
from lorafuse_jax.assets.catalogue import ASSETS
from lorafuse_jax.evaluation.benchmark import Response
from lorafuse_jax.evaluation.checkers.instructions import METRICS
from lorafuse_jax.evaluation.checkers.sentences import provide_sentences
from lorafuse_jax.evaluation.tasks import ifbench, ifeval
from lorafuse_jax.types import UserError
from tests.evaluation.tasks.peer import rows_of, write

KINDS = {
    "change_case:capital_word_frequency": {
        "capital_relation": "at least",
        "capital_frequency": 2,
    },
    "change_case:english_capital": {},
    "change_case:english_lowercase": {},
    "combination:repeat_prompt": {"prompt_to_repeat": "Say a word."},
    "combination:two_responses": {},
    "detectable_content:number_placeholders": {"num_placeholders": 2},
    "detectable_content:postscript": {"postscript_marker": "P.S."},
    "detectable_format:constrained_response": {},
    "detectable_format:json_format": {},
    "detectable_format:multiple_sections": {"section_spliter": "Section", "num_sections": 2},
    "detectable_format:number_bullet_lists": {"num_bullets": 2},
    "detectable_format:number_highlighted_sections": {"num_highlights": 2},
    "detectable_format:title": {},
    "keywords:existence": {"keywords": ["word", "two"]},
    "keywords:forbidden_words": {"forbidden_words": ["never", "two"]},
    "keywords:frequency": {"relation": "less than", "keyword": "word", "frequency": 3},
    "keywords:letter_frequency": {"let_relation": "at least", "letter": "o", "let_frequency": 4},
    "language:response_language": {"language": "de"},
    "length_constraints:nth_paragraph_first_word": {
        "first_word": "word",
        "num_paragraphs": 2,
        "nth_paragraph": 1,
    },
    "length_constraints:number_paragraphs": {"num_paragraphs": 2},
    "length_constraints:number_sentences": {"relation": "at least", "num_sentences": 4},
    "length_constraints:number_words": {"relation": "less than", "num_words": 25},
    "punctuation:no_comma": {},
    "startend:end_checker": {"end_phrase": "The end."},
    "startend:quotation": {},
}
PIECES = (
    "Say a word.",
    "A word, and two. ",
    "Dr. Smith said so. ",
    "P.S. never mind",
    "My answer is yes.",
    "***",
    "******",
    "\n\n",
    "\n* one\n* two\n",
    "*high* and *low* ",
    "<<A title>>",
    '{"a": 1}',
    "Section 1\n",
    "Section 2\n",
    "[name] [place] ",
    '"',
    "SOME WORDS ARE LOUD. ",
    "Das ist ein deutscher Satz. ",
    "The end.",
    "word ",
    "```json\n",
    "```",
    "lower case only. ",
    "no no no never ",
    "3 apples. ",
)


QUOTED = [
    f'{head}{star}"so"{star}{tail}'
    for head in ("", "Sure,\n")
    for star in ("", "**")
    for tail in ("", "\nBye.")
]
"""What each of the loose variants alone makes right."""


def draw_text(rng):
    ends = rng.choice(["", '"', "**"], 2)
    return ends[0] + "".join(rng.choice(PIECES, rng.integers(0, 9))) + ends[1]


def draw_row(rng, number):
    names = [str(name) for name in rng.choice(list(KINDS), rng.integers(1, 4), replace=False)]
    filler = {"unused": None} if number % 2 else {}
    settings = [KINDS[name] | filler for name in names]
    prompt = f"Say a word. {number}"
    return {"key": number, "prompt": prompt, "instruction_id_list": names, "kwargs": settings}


def verdicts(benchmark, rows, texts):
    questions = benchmark.questions(rows, "plain")
    return benchmark.score(questions, [Response(texts=(text,)) for text in texts])


def test_ifeval_gives_lm_evals_verdicts_on_every_kind(tmp_path):
    rng = np.random.default_rng()
    drawn = [draw_row(rng, number) for number in range(150)]
    quoted = {"prompt": "q", "instruction_id_list": ["startend:quotation"], "kwargs": [{}]}
    drawn += [quoted | {"key": 1000 + number} for number in range(len(QUOTED))]
    rows = rows_of(write(tmp_path / "rows.jsonl", drawn))
    texts = [draw_text(rng) for _ in range(150)] + QUOTED
    found = verdicts(ifeval.BENCHMARK, rows, texts)
    from lm_eval.tasks.ifeval import utils  # noqa: PLC0415 - needs NLTK's data, now provided

    for row, text, score in zip(drawn, texts, found, strict=True):
        theirs = utils.process_results(row, [text])
        expected = [float(np.mean(theirs[f"{m}_acc"])) for m in PEER_METRICS]
        assert [score.values[m] for m in METRICS] == pytest.approx(expected), (row, text)
        assert score.fault is None and score.answer is None
    strict = np.mean([score.values["inst_strict"] for score in found])
    assert 0.1 < strict < np.mean([score.values["inst_loose"] for score in found]) < 0.9


PEER_METRICS = (
    "prompt_level_strict",
    "inst_level_strict",
    "prompt_level_loose",
    "inst_level_loose",
)


def test_verdicts_do_not_depend_on_chance_and_leave_it_alone(tmp_path):
    odd = KINDS["keywords:letter_frequency"] | {"letter": "#"}
    names = ["keywords:letter_frequency", "language:response_language"]
    row = {
        "key": 1,
        "prompt": "a",
        "instruction_id_list": names,
        "kwargs": [odd, {"language": "de"}],
    }
    rows = rows_of(write(tmp_path / "rows.jsonl", [row]))
    seen, after = [], []
    for seed in range(4):
        random.seed(seed)
        seen.append(verdicts(ifeval.BENCHMARK, rows, ["Das war so, was? No no no."]))
        after.append(random.random())
    assert all(one == seen[0] for one in seen)
    assert len(set(after)) == len(after)


def test_a_rule_that_raises_is_not_followed_and_shown(tmp_path, monkeypatch):
    row = draw_row(np.random.default_rng(0), 0)
    row |= {"instruction_id_list": ["punctuation:no_comma", "detectable_format:title"]}
    row |= {"kwargs": [{}, {}]}
    rows = rows_of(write(tmp_path / "rows.jsonl", [row]))
    kinds = ifeval.rules().kinds

    def broken(self, value):
        raise RuntimeError("boom")

    monkeypatch.setattr(kinds["detectable_format:title"], "check_following", broken)
    (score,) = verdicts(ifeval.BENCHMARK, rows, ["No comma."])
    assert score.fault == "RuntimeError: boom"
    assert (score.values["inst_strict"], score.values["prompt_loose"]) == (0.5, 0.0)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"instruction_id_list": ["no:such"]}, "cannot be checked .KeyError: 'no:such'"),
        ({"instruction_id_list": [], "kwargs": []}, "there are no instructions"),
        ({"kwargs": [KINDS["length_constraints:number_words"], {}]}, "ValueError: zip"),
        ({"kwargs": [{"num_bullets": 3}]}, "TypeError: .*num_bullets"),
        ({"kwargs": [{"relation": "about", "num_words": 3}]}, "ValueError: The supported relation"),
        ({"kwargs": [{"relation": "at least"}]}, "a setting of length_constraints:number_words is"),
        ({"prompt": None}, "no 'prompt', which ifeval needs"),
    ],
)
def test_a_row_that_cannot_be_checked_is_named(changes, message, tmp_path):
    name = "length_constraints:number_words"
    good = {"key": 1, "prompt": "a", "instruction_id_list": [name], "kwargs": [KINDS[name]]}
    rows = rows_of(write(tmp_path / "rows.jsonl", [good, good | {"key": 2} | changes]))
    with pytest.raises(UserError, match=rf"rows\.jsonl:2: .*{message}"):
        ifeval.BENCHMARK.questions(rows, "")


@pytest.mark.parametrize(
    ("benchmark", "missing"), [(ifeval, "langdetect"), (ifeval, "nltk"), (ifbench, "ifbench")]
)
def test_a_missing_library_is_one_clear_error(benchmark, missing, monkeypatch):
    monkeypatch.setitem(sys.modules, missing, None)
    benchmark.rules.cache_clear()
    with pytest.raises(UserError, match=r"pip install 'lorafuse-jax\[eval\]'"):
        benchmark.BENCHMARK.score([], [])
    benchmark.rules.cache_clear()


def test_nltk_parts_sentences_as_the_package_that_has_its_numbers():
    provide_sentences()
    rng = np.random.default_rng()
    ends = (
        "Mr. Smith",
        "e.g. this",
        "at 3 p.m. The",
        "U.S. law",
        "No! Yes?",
        "wait... what",
        "x.",
        "J. B.",
    )
    for _ in range(30):
        text = " ".join(rng.choice(ends, 12))
        assert nltk.sent_tokenize(text) == punkt.sent_tokenize(text)


@pytest.mark.real
def test_ifbench_gives_its_own_verdicts_on_real_answers(tmp_path, monkeypatch):
    package = replace(ASSETS["ifbench-276"].packages[0], members=("ifbench/*",))
    _unpack(_download(package, tmp_path), package, tmp_path)
    monkeypatch.syspath_prepend(str(tmp_path))
    ifbench.rules.cache_clear()
    rows = rows_of(fetch("ifbench-276") / "train.jsonl")
    rows = [r for r in rows if not ifbench.MAY_DRAW & set(r.value["instruction_id_list"])]
    lines = (tmp_path / "ifbench/data/sample_output.jsonl").read_text().splitlines()
    said = {one["prompt"]: one["response"] for one in map(json.loads, lines)}
    texts = [said[row.value["prompt"]] for row in rows]
    found = verdicts(ifbench.BENCHMARK, rows, texts)
    from ifbench import evaluation_lib  # noqa: PLC0415 - the package is there only now

    for row, score in zip(rows, found, strict=True):
        value = row.value
        given = evaluation_lib.InputExample(
            key=value["key"],
            instruction_id_list=value["instruction_id_list"],
            prompt=value["prompt"],
            kwargs=list(value["kwargs"]),
        )
        checks = (
            evaluation_lib.test_instruction_following_strict,
            evaluation_lib.test_instruction_following_loose,
        )
        theirs = [check(given, said) for check in checks]
        strict, loose = (one.follow_instruction_list for one in theirs)
        assert score.fault is None
        assert list(score.values.values()) == [
            all(strict),
            np.mean(strict),
            all(loose),
            np.mean(loose),
        ]
    assert 0.1 < np.mean([score.values["prompt_loose"] for score in found]) < 0.6
    ifbench.rules.cache_clear()
    for name in [name for name in sys.modules if name.partition(".")[0] == "ifbench"]:
        del sys.modules[name]


@pytest.mark.real
def test_all_of_ifeval_can_be_checked():
    rows = rows_of(fetch("ifeval") / "train.jsonl")
    assert len(ifeval.BENCHMARK.questions(rows, "")) == 541
