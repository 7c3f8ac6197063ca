"""MBPP and MBPP+: prompts of lm-eval and EvalPlus, verdicts of EvalPlus.

``evalplus_verdicts.json`` has small problems, solutions, and the verdict of ``untrusted_check`` of
evalplus 0.3.1 on each; they are asked here as rows in the columns of ``evalplus/mbppplus``.
"""

import ast
import json
from pathlib import Path

import pytest

from lorafuse_jax.data.files import Row, read_rows
from lorafuse_jax.evaluation.benchmark import Response
from lorafuse_jax.evaluation.tasks import BENCHMARKS
from lorafuse_jax.evaluation.tasks.mbpp import entry_point_of
from lorafuse_jax.types import UserError
from tests.evaluation.tasks.harness import FOLDER, rendered, settings_of

MBPP, PLUS = BENCHMARKS["mbpp"], BENCHMARKS["mbpp+"]
SUM = {
    "task_id": 126,
    "text": "Write a python function to find the sum of common divisors of two given numbers.",
    "code": "def sum(a,b): \r\n    s = 0\r\n    for i in range(1, min(a, b) + 1): \r\n"
    "        if a % i == 0 and b % i == 0: \r\n            s += i\r\n    return s",
    "test_list": ["assert sum(10,15) == 6", "assert sum(100,150) == 93", "assert sum(4,6) == 3"],
    "test_setup_code": "",
    "challenge_test_list": [],
}
TREE = {
    "task_id": 927,
    "text": "Write a function to calculate the height of the given binary tree.",
    "code": "class Node:\r\n  def __init__(self, v):\r\n    self.v = v\r\n"
    "    self.left = self.right = None\r\n"
    "def max_height(node):\r\n"
    "  if node is None:\r\n    return 0\r\n"
    "  return 1 + max(max_height(node.left), max_height(node.right))",
    "test_list": ["assert (max_height(root)) == 3", "assert (max_height(root.left)) == 2"],
    "test_setup_code": "root = Node(1)\r\nroot.left = Node(2)\r\nroot.left.left = Node(4)",
}
HELPERS = """
import numpy as np

def is_floats(x) -> bool:
    if isinstance(x, float):
        return True
    if isinstance(x, (list, tuple)) and x:
        return all(isinstance(i, float) for i in x)
    if isinstance(x, np.ndarray):
        return x.dtype == np.float64 or x.dtype == np.float32
    return False


def assertion(out, exp, atol):
    exact_match = out == exp
    if atol == 0 and is_floats(exp):
        atol = 1e-6
    if not exact_match and atol != 0:
        assert type(out) == type(exp)
        if isinstance(exp, (list, tuple)):
            assert len(out) == len(exp)
        assert np.allclose(out, exp, rtol=1e-07, atol=atol)
    else:
        assert exact_match
"""


def worth(benchmark, convention, row, texts):
    asked = benchmark.questions([Row(row, "file:1", 1)], convention)
    responses = [Response(texts=(text,)) for text in texts]
    return [s.values["pass@1"] == 1 for s in benchmark.score(asked * len(texts), responses)]


def test_prompts_are_those_of_lm_eval():
    source = ast.parse((FOLDER / "mbpp" / "utils.py").read_text())
    (examples,) = (
        ast.literal_eval(node.body[0].value)
        for node in source.body
        if isinstance(node, ast.FunctionDef) and node.name == "list_fewshot_samples"
    )
    plus = SUM | {"prompt": SUM["text"], "test": "pass"}
    del plus["text"]
    for benchmark, name, row in [(MBPP, "mbpp", SUM), (PLUS, "mbpp_plus", plus)]:
        settings = settings_of(f"mbpp/{name}.yaml")
        worked = [
            rendered(settings["doc_to_text"], one)
            + settings["target_delimiter"]
            + rendered(settings["doc_to_target"], one)
            + "\n\n"
            for one in examples[: settings["num_fewshot"]]
        ]
        expected = "".join(worked) + rendered(settings["doc_to_text"], row)
        (asked,) = benchmark.questions([Row(row, "file:1", 1)], "3-shot")
        assert asked.prompt == expected
        stops = benchmark.convention("3-shot").decoding.stop_strings
        assert list(stops) == settings["generation_kwargs"]["until"]


def test_prompts_of_evalplus_have_the_sentence_and_the_first_test():
    docstring = f'"""\n{SUM["text"]}\nassert sum(10,15) == 6\n"""'
    for benchmark in (MBPP, PLUS):
        row = Row(SUM | {"test": "pass"}, "file:1", 1)
        assert benchmark.questions([row], "evalplus")[0].prompt == docstring + "\n"
        assert f"```\n{docstring}\n```" in benchmark.questions([row], "chat")[0].prompt


@pytest.mark.parametrize("row", [SUM, TREE], ids=["named like a built-in", "with setup code"])
def test_reference_passes_and_another_does_not(row):
    wrong = row["code"].replace("return", "return 7 #")
    assert worth(MBPP, "3-shot", row, [row["code"], wrong]) == [True, False]
    chat = f"Here:\n```python\n{row['code']}\n```\n"
    assert worth(MBPP, "chat", row, [chat, "nothing"]) == [True, False]


def test_verdicts_are_those_of_evalplus():
    recorded = json.loads((Path(__file__).parent / "evalplus_verdicts.json").read_text())
    for problem in recorded:
        results = [tuple(r) if problem["tuples"] else r for r in problem["results"]]
        call = f"{problem['entry_point']}(*inp)"
        wrap = "set({})" if problem["entry_point"] == "similar_elements" else "{}"
        loop = f"assertion({wrap.format(call)}, {wrap.format('exp')}, 0)"
        row = {
            "task_id": problem["task_id"],
            "prompt": problem["prompt"],
            "code": problem["code"],
            "test_imports": ["import math"],
            "test_list": [
                f"assert {problem['entry_point']}(*{problem['inputs'][0]!r}) is not None"
            ],
            "test": f"{HELPERS}\ninputs = {problem['inputs']!r}\nresults = {results!r}\n"
            f"for i, (inp, exp) in enumerate(zip(inputs, results)):\n    {loop}\n",
        }
        solutions = [one["solution"] for one in problem["judged"]]
        found = worth(PLUS, "3-shot", row, solutions)
        assert found == [one["passed"] for one in problem["judged"]], problem["entry_point"]


def test_local_copy_is_read_in_the_original_columns(tmp_path):
    file = tmp_path / "test.jsonl"
    file.write_text("".join(json.dumps(row) + "\n" for row in (SUM, TREE)))
    questions = MBPP.questions(list(read_rows(file)), "")
    assert [one.id for one in questions] == ["126", "927"]
    assert [one.gold["entry_point"] for one in questions] == ["sum", "max_height"]


@pytest.mark.parametrize(
    ("test", "code", "expected"),
    [
        ("assert set(f((1, 2))) == set((1,))", "def g(x): return x\ndef f(x): return g(x)", "f"),
        ("assert f(1)", "f = lambda x: x", "f"),
        ("assert max(f([1]), 2) == 2", "print 'Python 2'", "f"),
    ],
)
def test_tested_function_is_found(test, code, expected):
    assert entry_point_of(test, code, "") == expected


def test_problem_without_sentence_or_call_is_refused():
    with pytest.raises(UserError, match="file:1: a problem needs a sentence"):
        MBPP.questions([Row(SUM | {"text": ""}, "file:1", 1)], "")
    with pytest.raises(UserError, match="file:1: its first test calls no function"):
        MBPP.questions([Row(SUM | {"test_list": ["assert True"]}, "file:1", 1)], "")
