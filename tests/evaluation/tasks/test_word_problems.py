"""GSM8K and its kin: prompts and scores are those of lm-eval and of MetaMath."""

import re
from dataclasses import replace
from fractions import Fraction

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st
from lm_eval.api.metrics import exact_match_fn
from lm_eval.filters.extraction import RegexFilter

from lorafuse_jax.evaluation.benchmark import Response
from lorafuse_jax.evaluation.final_number import FORMS, flexible, rounded
from lorafuse_jax.evaluation.tasks import BENCHMARKS
from lorafuse_jax.types import UserError
from tests.evaluation.harness_tasks import ask, rows_of

GSM8K, SYMBOLIC, ASDIV = (BENCHMARKS[name] for name in ("gsm8k", "gsm-symbolic", "asdiv"))
ANSWERS = ["18", "1,050", "-3", "7", "70", "1000000", "4", "0", "64", "2,125", "5", "366"]
TEXTS = [
    "She has 16 - 3 - 4 = 9 eggs.\n#### 18",
    "#### 1050 dollars, or $1,051",
    "It is \N{MINUS SIGN}3.\n#### -3.",
    "#### 6\n#### 7",
    "The answer is 70",
    "The answer is $1,000,000.",
    "no number at all",
    "So 0.0. The answer is 0.\n#### 0",
    "The answer is 64.00.",
    "####2125 and The answer is: 2,125.\nQ",
    "",
    "#### 366. The answer is 366!",
]


def gsm8k_rows():
    rows = [
        {
            "question": f"How many “clips” {n}?",
            "answer": f"Half is 48/2=<<48/2=24>>24.\n#### {gold}",
        }
        for n, gold in enumerate(ANSWERS)
    ]
    return rows[:6] + rows, rows


def respond(benchmark, questions, texts):
    return benchmark.score(questions, [Response(texts=(text,)) for text in texts])


def posed(benchmark, convention, rows, shots=()):
    if not shots:
        shots = [{"question": "?", "answer": "#### 18"}] * benchmark.conventions.get(
            convention, next(iter(benchmark.conventions.values()))
        ).shots
    return benchmark.questions(rows_of(rows), convention, rows_of(shots))


@pytest.mark.parametrize(
    ("convention", "task", "more"),
    [
        ("5-shot", "gsm8k/gsm8k.yaml", "fewshot_config: {sampler: first_n}\n"),
        ("8-shot-cot", "gsm8k/gsm8k-cot.yaml", ""),
    ],
)
def test_prompts_stops_and_scores_are_those_of_the_harness(tmp_path, convention, task, more):
    train, test = gsm8k_rows()
    theirs = ask(tmp_path, task, {"train": train, "test": test}, TEXTS, more)
    chosen = GSM8K.convention(convention)
    questions = posed(GSM8K, convention, test, train[: chosen.shots])
    assert [question.prompt for question in questions] == theirs.prompts
    assert chosen.decoding.stop_strings == theirs.stops
    scores = respond(GSM8K, questions, TEXTS)
    for name, filter in (("strict", "strict-match"), ("flexible", "flexible-extract")):
        ours = [score.values[name] for score in scores]
        assert ours == [score[f"exact_match,{filter}"] for score in theirs.scores], name
        assert 0 < sum(ours) < len(ours)


IGNORED = [",", r"\$", r"(?s).*#### ", r"\.$"]
STRICT = {
    "#### n": r"#### (\-?[0-9\.\,]+)",
    "The answer is n.": r"The answer is (\-?[0-9\.\,]+).",
}
FLEXIBLE = "(-?[$0-9.,]{2,})|(-?[0-9]+)"
PIECES = ["#### ", "####", "The answer is ", "The answer is: ", "$", "-", ".", ",", "/", "\n", " "]
SAID = st.lists(
    st.sampled_from([*PIECES, "18", "0", "1,050", "2.5", "3/4", "x", "٣", "+", "The final answer"])
    | st.text(max_size=4),
    max_size=12,
).map("".join)
GOLDS = st.sampled_from(["18", "0", "-18", "1,050", "2.5", "3", "1818", "3.0"])


def harness_score(pattern, text, gold, group=0):
    ((found,),) = RegexFilter(pattern, group).apply([[text]], [{}])
    references = [f"worked\n#### {gold}"]
    settings = {"regexes_to_ignore": IGNORED, "ignore_case": True}
    return float(
        exact_match_fn(predictions=[found], references=references, **settings)["exact_match"]
    )


@settings(max_examples=400, deadline=None)
@given(text=SAID, gold=GOLDS)
@example(text="The answer is 18", gold="1")
@example(text="#### .", gold="0")
@example(text="#### 18..", gold="18.")
def test_forms_agree_with_the_harness_filters_on_any_text(text, gold):
    (question,) = posed(GSM8K, "5-shot", [{"question": "?", "answer": f"#### {gold}"}])
    for form, pattern in STRICT.items():
        (score,) = respond(GSM8K, [replace(question, form=form)], [text])
        assert score.values == {
            "strict": harness_score(pattern, text, gold),
            "flexible": harness_score(FLEXIBLE, text, gold, -1),
        }
        assert (score.answer == FORMS[form].gold(question.gold)) == score.values["strict"]


def metamath_says(text):
    """The published rule, read from eval_gsm8k.py and written anew; None also where it crashes."""
    parts = text.split("The answer is: ")
    number = re.search(r"[\-+]?\d*[\.,/]?\d+", parts[-1].strip()) if len(parts) > 1 else None
    if number is None:
        return None
    written = number.group().replace(",", "")
    try:
        if "/" not in written:
            return round(float(written))
        top, bottom = written.split("/")
        if bottom == "0":
            return round(float(top))
        ratio = Fraction(int(top), int(bottom))
        return round(ratio.numerator / ratio.denominator)
    except (ValueError, OverflowError, ZeroDivisionError):
        return None


@settings(max_examples=400, deadline=None)
@given(text=SAID | SAID.map("The answer is: ".__add__))
@example(text="The answer is: $1,234,567")
@example(text="The answer is: 2.5")
@example(text="The answer is: 2.7")
@example(text="The answer is: -11/3")
@example(text="The answer is: 3/0")
@example(text="The answer is: 3/00")
@example(text="The answer is: /5")
@example(text="The answer is: -0.4")
@example(text="The answer is: " + "9" * 400)
@example(text="The answer is: 5. The answer is: none")
def test_metamath_form_is_metamaths_rule(text):
    expected, found = metamath_says(text), rounded(text)
    assert (found is None) == (expected is None)
    if expected is not None:
        assert float(found) == float(expected)


def test_metamath_scores_and_prompt():
    _, rows = gsm8k_rows()
    questions = posed(GSM8K, "", rows[:3])
    assert questions[0].prompt == (
        "Below is an instruction that describes a task. Write a response that appropriately "
        "completes the request.\n\n### Instruction:\nHow many “clips” 0?\n\n"
        "### Response: Let's think step by step."
    )
    decoding = GSM8K.convention("metamath").decoding
    assert decoding.max_new_tokens == 512 and len(decoding.stop_strings) == 10
    said = ["#### 18\nThe answer is: 18", "The answer is: $1,050.4.", "The answer is: 3, no, -3"]
    scores = respond(GSM8K, questions, said)
    assert [score.values["strict"] for score in scores] == [1, 1, 0]
    assert [score.values["flexible"] for score in scores] == [1, 0, 1]
    assert [score.answer for score in scores] == ["18", "1050", "3"]
    assert questions[1].references == ("Half is 48/2=24.\n#### 1,050\nThe answer is: 1050",)


def test_the_trained_form_takes_either_mark_and_reads_numbers_as_numbers():
    rows = [{"question": "?", "answer": "#### 2.50"}]
    (question,) = posed(GSM8K, "trained", rows)
    texts = [
        "#### 2.5 m",
        "#### 1\nThe answer is: $2.50",
        "it is 2.5",
        "The answer is 1\n#### 2.50",
    ]
    scores = [respond(GSM8K, [question], [text])[0] for text in texts]
    assert [score.values["strict"] for score in scores] == [1, 1, 0, 1]
    assert question.prompt == "?" and question.references == ("#### 2.50",)


@pytest.mark.parametrize(
    ("convention", "row", "message"),
    [
        ("", {"answer": "It is 18."}, "does not end in '#### n'"),
        ("", {"answer": "#### "}, "does not end in '#### n'"),
        ("", {"answer": "#### 2.5"}, "'2.5', which is no whole number"),
        ("5-shot", {"answer": "#### many"}, "'many', which is no number"),
        ("trained", {"answer": "#### 1/2"}, "'1/2', which is no number"),
        ("", {"worked": "#### 18"}, "no 'answer', which gsm8k needs; the line has question, wor"),
        ("", {"answer": None}, "no 'answer'"),
        ("", {"answer": "#### 1", "id": "a"}, "the id 'a' is that of t.jsonl:1 too"),
    ],
)
def test_bad_rows_are_named(convention, row, message):
    good = {"question": "?", "answer": "#### 18", "id": "a"}
    with pytest.raises(UserError, match=rf"^t\.jsonl:2: .*{message}"):
        posed(GSM8K, convention, [good, {"question": "?"} | row])


def test_a_line_that_is_no_object_and_an_unknown_convention_are_named():
    with pytest.raises(UserError, match=r"t.jsonl:1: a line must be a JSON object, .* a list"):
        posed(GSM8K, "", [[1]])
    with pytest.raises(UserError, match=r"(?s)no convention '3-shot'.*gsm8k@metamath: MetaMath's"):
        posed(GSM8K, "3-shot", [])


def test_symbolic_problems_are_grouped_by_template():
    rows = [
        {"id": t, "instance": n, "question": f"{t} and {n}?", "answer": f"#### {t + n}"}
        for t in (3, 12)
        for n in range(2)
    ]
    questions = posed(SYMBOLIC, "8-shot-cot", rows)
    assert [q.id for q in questions] == ["3-0", "3-1", "12-0", "12-1"]
    assert [q.group for q in questions] == ["3", "3", "12", "12"]
    asset = {"id": "t26-232", "prompt": "How?", "completion": "So\n#### 11", "answer": "11"}
    (question,) = posed(SYMBOLIC, "", [SYMBOLIC.source.from_asset(asset)])
    assert (question.id, question.group, question.prompt) == ("26-232", "26", "How?")
    assert question.gold == "11" and question.references == ("So\n#### 11",)


ASDIV_ROWS = [
    {"body": "Seven red apples.", "question": "How many?", "answer": "9 (apples)"},
    {"body": "He weighs.", "question": "How much?", "answer": "2.5 (kg)"},
    {"body": "", "question": "Who won?", "answer": "Mrs. Hilt"},
    {"body": "", "question": "When?", "answer": "11:45 p.m."},
    {"body": "", "question": "What part?", "answer": "1/6"},
]


@pytest.mark.parametrize("mark", ["The answer is {}.", "#### {}"])
def test_asdiv_compares_numbers_and_words(mark):
    convention = "trained" if "#" in mark else "8-shot-cot"
    questions = posed(ASDIV, convention, ASDIV_ROWS)
    golds = [question.gold for question in questions]
    assert golds == ["9", "2.5", "Mrs. Hilt", "11:45 p.m.", "1/6"]
    for said, right in ((golds, 1), (["8", "25", "Mr. Hilt", "11:45 a.m.", "1.6"], 0)):
        scores = respond(ASDIV, questions, [f"So.\n{mark.format(one)}\n" for one in said])
        assert {value for score in scores for value in score.values.values()} == {right}
    scores = respond(ASDIV, questions, ["", "#### ", "The answer is", "\n", "The answer is\n1/6"])
    assert {score.values["strict"] for score in scores} == {0}
    with pytest.raises(UserError, match=r"t\.jsonl:1: the answer ' ' is empty"):
        posed(ASDIV, "", [ASDIV_ROWS[0] | {"answer": " "}])


def test_asdiv_numbers_are_scored_as_the_harness_does(tmp_path):
    """Its task asks otherwise (asdiv_cot_llama), but compares with the same gold."""
    texts = ["The final answer is 9", "The final answer is $2.5", "The final answer is Mrs. Hilt"]
    theirs = ask(tmp_path, "asdiv/asdiv-cot-llama.yaml", {"validation": ASDIV_ROWS[:3]}, texts)
    questions = posed(ASDIV, "8-shot-cot", ASDIV_ROWS[:3])
    ours = respond(ASDIV, questions, [text.replace("final ", "") + "." for text in texts])
    expected = [score["exact_match,flexible-extract"] for score in theirs.scores]
    assert [score.values["flexible"] for score in ours[:2]] == expected[:2] == [1, 1]


def test_what_is_found_flexibly_is_the_last_number():
    assert flexible("1 then 2,000.") == "2000" and flexible("$-") is None
