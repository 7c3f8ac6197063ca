"""Functions to complete: what parses, what runs, and what passes its doctests."""

import json

import pytest

from lorafuse_jax.data.files import Row
from lorafuse_jax.evaluation.benchmark import Question, Response
from lorafuse_jax.evaluation.checkers import CHECKERS
from lorafuse_jax.evaluation.code import doctests
from lorafuse_jax.evaluation.code.doctests import problem, program_of
from lorafuse_jax.evaluation.sandbox import Limits
from lorafuse_jax.evaluation.tasks.own import own_benchmark
from lorafuse_jax.types import UserError

CHECKER = CHECKERS["doctest"]
DOUBLED = 'def doubled(xs):\n    """Each of them twice."""'
TESTS = ">>> xs = [1, 2]\n>>> doubled(xs)\n[2, 4]\n>>> doubled([])\n[]"


def worth(answer, prompt=DOUBLED, tests=TESTS):
    question = Question(id="1", where="t:1", prompt=prompt, gold=tests)
    return CHECKER.score([question], [Response(texts=(answer,))])[0]


def numbers(answer, **more):
    return tuple(worth(answer, **more).values[name] for name in ("passes", "runs", "parses"))


@pytest.mark.parametrize(
    ("answer", "expected"),
    [
        (" return [2 * x for x in xs]", (1, 1, 1)),
        ("\n    ys = []\n    for x in xs:\n        ys.append(x + x)\n    return ys\n", (1, 1, 1)),
        ("return [2 * x for x in xs]\n\n\nprint(doubled(3))\nnot Python", (1, 1, 1)),
        ("return [2 * x for x in xs]\n    # and so on\n\n    return None", (1, 1, 1)),
        ("return xs", (0, 1, 1)),
        ("pass", (0, 1, 1)),
        ("return [4, 2] and [2, 4]", (0, 1, 1)),
        ("return ys", (0, 0, 1)),
        ("return 2 * xs[0]", (0, 0, 1)),
        ("raise AssertionError", (0, 0, 1)),
        ("import sys\n    sys.exit(0)", (0, 0, 1)),
        ("return [2 * x for x in xs", (0, 0, 0)),
        ("return xs\n  return xs", (0, 0, 0)),
        ("Here is the function.", (0, 0, 0)),
        ("", (0, 0, 0)),
        (" \n ", (0, 0, 0)),
        ("\0", (0, 0, 0)),
    ],
)
def test_answers_are_parsed_run_and_tested(answer, expected):
    assert numbers(answer) == expected


def test_many_answers_are_scored_in_their_order():
    answers = ["return (", "return xs", "return [2 * x for x in xs]", "return ys", ""]
    questions = [
        Question(id=str(n), where="t", prompt=DOUBLED, gold=TESTS) for n in range(len(answers))
    ]
    scores = CHECKER.score(questions, [Response(texts=(answer,)) for answer in answers])
    assert [one.values["passes"] for one in scores] == [0, 0, 1, 0, 0]
    assert [one.values["runs"] for one in scores] == [0, 1, 1, 0, 0]
    assert [one.values["parses"] for one in scores] == [0, 1, 1, 1, 0]


@pytest.mark.parametrize(
    ("gives", "expected", "passes"),
    [
        ("0.1 + 0.2", "0.3", 1),
        ("1000000.1", "1000000.0", 1),
        ("0.3001", "0.3", 0),
        ("3", "3.0", 1),
        ("3.0", "3", 0),
        ("'3.0'", "3.0", 0),
        ("[0.1 + 0.2, {'a': (0.3,)}]", "[0.3, {'a': (0.1 + 0,)}]", None),
        ("[0.1 + 0.2, {'a': (1.0,)}]", "[0.3, {'a': (1.0,)}]", 1),
        ("[0.1 + 0.2, {'a': (1.1,)}]", "[0.3, {'a': (1.0,)}]", 0),
        ("{'a': 1, 'b': 2}", "{'a': 1}", 0),
        ("(1, 2)", "[1, 2]", 0),
        ("[1, 2, 3]", "[1, 2]", 0),
        ("1", "True", 0),
        ("{3, 1}", "{1, 3}", 1),
        ("None", "None", 1),
        ("iter([1])", "[1]", 0),
        ("float('nan')", "1.0", 0),
    ],
)
def test_floats_may_be_near_and_all_else_must_be_equal(gives, expected, passes):
    tests = f">>> f()\n{expected}"
    if passes is None:
        assert "no literal" in problem(tests)
    else:
        assert problem(tests) is None
        assert numbers(f"return {gives}", prompt="def f():", tests=tests) == (passes, 1, 1)


def test_generators_callbacks_and_long_examples_are_tested():
    prompt = 'import itertools\n\n\ndef mapped(f, xs):\n    """Lazily."""'
    tests = ">>> list(mapped(\n...     lambda x: x + 1,\n...     [1, 2],\n... ))\n[2,\n 3]"
    answer = "for x in itertools.chain(xs):\n        yield f(x)"
    assert problem(tests) is None and numbers(answer, prompt=prompt, tests=tests) == (1, 1, 1)
    assert numbers("yield from xs", prompt=prompt, tests=tests) == (0, 1, 1)


def test_what_equals_everything_passes_nothing():
    answer = "class A(list):\n        __eq__ = lambda *a: True\n        __ne__ = lambda *a: False\n"
    assert numbers(f"{answer}    return A()") == (0, 1, 1)


def test_an_answer_without_end_is_stopped_once_and_told(monkeypatch):
    monkeypatch.setattr(doctests, "LIMITS", Limits(seconds=20.0, cpu_seconds=1))
    asked = []
    run = doctests.run_programs

    def counted(programs, *args, **more):
        asked.extend(programs)
        return run(programs, *args, **more)

    monkeypatch.setattr(doctests, "run_programs", counted)
    score = worth("while True:\n        pass")
    assert score.values == {"passes": 0, "runs": 0, "parses": 1} and "timed out" in score.fault
    assert len(asked) == 1


@pytest.mark.parametrize(
    ("gold", "why"),
    [
        ("2", "holds no doctest with an output"),
        (">>> x = 1", "holds no doctest with an output"),
        (">>> f(1)\n<object at 0x1>", "no literal"),
        (">>> f(0)\nTraceback (most recent call last):\n    ...\nValueError: no", "no literal"),
        (">>> f(\n1", "is not Python"),
        (">>> x = f(1)\n1", "is a statement"),
        (">>> f(1)\n... \n>>>f(2)", "is no doctest"),
    ],
)
def test_a_gold_answer_that_tests_nothing_is_told(gold, why):
    assert why in problem(gold)
    row = Row({"prompt": "def f(x):", "completion": "return x", "answer": gold}, "f:1", 1)
    with pytest.raises(UserError, match="f:1: the "):
        own_benchmark("own:doctest", CHECKER).questions([row], "")


def test_an_answer_ends_where_its_function_does():
    source = program_of("def f():", " if 1:\n        return 1\n\n    return 2\ndef g():\n    pass")
    assert source == "def f():\n    if 1:\n        return 1\n\n    return 2\n"
    assert program_of("def f():", "return (1,\n2)") is None


def test_data_with_this_checker_is_a_benchmark_that_runs_programs():
    benchmark = own_benchmark("own:doctest", CHECKER)
    assert benchmark.metrics == ("passes", "runs", "parses") and benchmark.runs_programs
    decoding = benchmark.convention("").decoding
    assert decoding.max_new_tokens is None and "\ndef " in decoding.stop_strings
    other = own_benchmark("own:number", CHECKERS["number"])
    assert other.metrics == ("correct",) and not other.runs_programs
    assert json.loads(json.dumps(other.convention("").decoding)) == [None, [], 1, 0.0, 1.0]
