"""How functions to complete are made of packages, on small copies of their layout."""

import ast
import gzip
import json

import pytest

from lorafuse_jax.assets import code_io, code_pairs
from lorafuse_jax.assets.code_io import code_io_pairs
from lorafuse_jax.assets.code_pairs import prepare_code_pairs
from lorafuse_jax.assets.functions import documented_functions
from lorafuse_jax.assets.human_eval import DATA as HUMAN_EVAL
from lorafuse_jax.assets.self_contained import computes, imports_in, needed_imports
from lorafuse_jax.data.contamination import contamination
from lorafuse_jax.data.examples import load_task
from lorafuse_jax.data.files import Row
from lorafuse_jax.data.rows import Example
from lorafuse_jax.evaluation.benchmark import Question, Response
from lorafuse_jax.evaluation.checkers import CHECKERS
from lorafuse_jax.evaluation.tasks.own import own_benchmark
from lorafuse_jax.types import UserError


@pytest.mark.parametrize(
    ("code", "expected"),
    [
        ("import math\nx = math.pi", True),
        ("from collections.abc import Iterable", True),
        ("import os", False),
        ("from random import choice", False),
        ("from . import other", False),
        ("from .math import other", False),
        ("import math, sys", False),
        ("def f():\n    import subprocess", False),
        ("open('x')", False),
        ("f = eval", False),
        ("print(1)", False),
        ("__builtins__", False),
        ("().__class__", False),
        ("self._x = 1", False),
        ("def f():\n    global x", False),
        ("async def f(): pass", False),
        ("'a'.upper()", True),
    ],
)
def test_code_that_does_more_than_compute_is_told_apart(code, expected):
    assert computes(ast.parse(code)) is expected


@pytest.mark.parametrize(
    ("source", "needed"),
    [
        ("def f(x):\n    return f(x - 1) + len(x)", []),
        ("def f(x: List[int]):\n    return m.pi", ["from typing import List", "import math as m"]),
        ("def f(x):\n    def g():\n        return [chain(y) for y in x]\n    return g", CHAIN := [
            "from itertools import chain"
        ]),
        ("def f(x):\n    from itertools import chain\n    return chain(x)", []),
        ("def f(x, y=chain):\n    return y", CHAIN),
        ("def f(x):\n    return helper(x)", None),
        ("def f(x: Other):\n    return x", None),
        ("def f(x):\n    return os.listdir()", None),
        ("def f(x):\n    return open(x)", None),
    ],
)  # fmt: skip
def test_a_function_needs_its_imports_and_nothing_else(source, needed):
    module = (
        "import os\nimport math as m\nfrom typing import List, Any\nfrom itertools import chain"
    )
    assert needed_imports(source, imports_in(ast.parse(module).body)) == needed


MODULE = '''
from __future__ import annotations
import os
from itertools import chain
from typing import TYPE_CHECKING
from .other import helper
if TYPE_CHECKING:
    from x import Other

CONSTANT = 3

def joined(xs: Other, ys: list[int] = ()) -> Other:
    """Both, one after the other.

        >>> from package import joined
        >>> sorted(joined([2], [1]))  # in order
        [1, 2]
        >>> joined([1])
        <generator>
        >>> len(list(joined('ab',
        ...     'c')))
        3
    """
    # A comment.
    return chain( xs , ys )

def escaped(x):
    r"""A \\\\d.

    >>> escaped(1)
    1
    """
    return x

def elsewhere(x):
    """
    >>> elsewhere(1)
    1
    """
    return helper(x) + CONSTANT

def files(x):
    """
    >>> files('.')
    []
    """
    return os.listdir(x)

def untested(x):
    """Returns x; see `joined`.

    >>> joined(1)
    1
    """
    return x

@decorated
def wrapped(x):
    """
    >>> wrapped(1)
    1
    """
    return x

def empty(x):
    """
    >>> empty(1)
    1
    """

class A:
    def method(self):
        """
        >>> method(1)
        1
        """
        return 1
'''


def test_functions_of_a_module_are_parted_after_their_docstrings(tmp_path):
    file = tmp_path / "module.py"
    file.write_text(MODULE)
    joined, escaped = documented_functions(file)
    assert joined.prompt == (
        "from itertools import chain\n\n\n"
        "def joined(xs, ys=()):\n"
        '    """Both, one after the other.\n\n'
        "    >>> sorted(joined([2], [1]))  # in order\n"
        "    [1, 2]\n"
        "    >>> joined([1])\n"
        "    <generator>\n"
        "    >>> len(list(joined('ab',\n"
        "    ...     'c')))\n"
        '    3\n    """'
    )
    assert joined.body == "return chain(xs, ys)"
    assert joined.tests == (
        ">>> sorted(joined([2], [1]))  # in order\n[1, 2]\n"
        ">>> len(list(joined('ab',\n...     'c')))\n3"
    )
    assert (escaped.name, escaped.body) == ("escaped", "return x")
    assert ast.get_docstring(ast.parse(escaped.prompt).body[0]).startswith(r"A \\d.")
    file.write_text("def f(: of another Python")
    assert list(documented_functions(file)) == []


GENERATOR = "def generate_inputs(rng: Random) -> dict:\n    return {'a': rng.randint(1, 99)}"


def task(solution, question="What is it?", generator=GENERATOR):
    return {"task_description": question, "code_sample": solution, "input_generator": generator}


def write_tasks(source, tasks):
    file = source / code_io.DATA
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_bytes(gzip.compress("\n".join(map(json.dumps, tasks)).encode()))


def test_a_task_becomes_a_function_with_its_helpers_inside(tmp_path):
    solution = (
        "import random\nimport math\nSCALE = 2\n\ndef half(x):\n    '''Half.'''\n"
        "    return x / SCALE\n\ndef unused(x):\n    return random.random()\n\n"
        "# main\ndef main_solution(a):\n    '''Doc.'''\n    # compute\n"
        "    return math.floor(half(a))\n\nprint(1)"
    )
    write_tasks(tmp_path, [task(solution, "How   much?")])
    ((number, pair),) = code_io_pairs(tmp_path, lambda pair: True)
    header, example = pair.prompt.split("\n\n    >>> ")
    assert number == 1 and pair.name == "main_solution"
    assert header == 'import math\n\n\ndef main_solution(a):\n    """How much?'
    assert pair.body == (
        "SCALE = 2\n\n    def half(x):\n        return x / SCALE\n    return math.floor(half(a))"
    )
    lines = pair.tests.splitlines()
    assert len(lines) == 10 and not any(example.splitlines()[0] in line for line in lines)
    for call, output in zip(lines[::2], lines[1::2], strict=True):
        assert int(output) == int(call.removeprefix(">>> main_solution(")[:-1]) // 2
    question = Question(id="1", where="", prompt=pair.prompt, gold=pair.tests)
    (score,) = CHECKERS["doctest"].score([question], [Response(texts=(pair.body,))])
    assert score.values["passes"] == 1


@pytest.mark.parametrize(
    "row",
    [
        task("def main_solution(a):\n    return 1"),
        task("def main_solution(a):\n    return list({str(a), 'x', 'y', 'z', 'w', 'v'})"),
        task("def main_solution(a):\n    return object()"),
        task("def main_solution(a):\n    return float('nan')"),
        task("def main_solution(a):\n    return a / 0"),
        task("def main_solution(a):\n    while True:\n        a += 1"),
        task("def main_solution(a):\n    return open(a)"),
        task("import numpy as np\ndef main_solution(a):\n    return np.sum(a)"),
        task("def other(a):\n    return a"),
        task("def main_solution(a)\n    return a"),
        task("def main_solution(b):\n    return b"),
        task("def main_solution(a):\n    return 'x' * 200 + str(a)"),
        task("def main_solution(a):\n    return a", generator=GENERATOR.replace("99", "1")),
        task("def main_solution(a):\n    return a", generator="import os\n" + GENERATOR),
        task("def main_solution(a):\n    return a", generator=GENERATOR + "\nos.getcwd()"),
        task("def main_solution(a):\n    return a", generator="def generate_inputs(rng)"),
    ],
)  # fmt: skip
def test_tasks_that_test_nothing_or_do_more_than_compute_are_left_out(tmp_path, row):
    good = task("def main_solution(a):\n    return a")
    write_tasks(tmp_path, [row, good])
    ((number, pair),) = code_io_pairs(tmp_path, lambda pair: True)
    assert (number, pair.body) == (2, "return a")
    assert list(code_io_pairs(tmp_path, lambda pair: False)) == []


def function(name, body, docstring, result):
    text = f'def {name}(x):\n    """{docstring}\n\n    >>> {name}(2)\n    {result}\n    """\n'
    return text + f"    {body}\n\n"


def write_module(source, name, *functions):
    file = source / f"{name}.py"
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_text("".join(functions))


PARTS = 16
LONG = "the given number raised to the power that is one above the largest digit in it"


@pytest.fixture
def source(tmp_path, monkeypatch):
    """Two libraries, one of them held out, two tasks, and one problem of HumanEval's."""
    monkeypatch.setattr(code_pairs, "LIBRARIES", ("lib",))
    monkeypatch.setattr(code_pairs, "TRANSFER_LIBRARIES", ("held",))
    source = tmp_path / "source"
    for number in range(PARTS):
        body = f"return x + {number}"
        one = function(f"add_{number}", body, f"More by {number} than {number}.", 2 + number)
        two = function(f"less_{number}", f"return x - {number}", "It is less.", 2 - number)
        write_module(source, f"lib/part{number}/module", one, two)
    write_module(
        source,
        "lib/more",
        function("wrong", "return x * 5", "Five times that.", 11),
        function("famous", "return x * 7", "Seven times it.", 14),
        function("copied", "return x ** 9", f"Say {LONG}, please.", 512),
        function("long", f"return x * 3 + {'1' * 300}", "Nothing at all.", 6),
    )
    write_module(source, "lib/tests/module", function("tested", "return x", "As it is.", 2))
    write_module(
        source,
        "held/module",
        function("cubed", "return x * x * x", "To the third.", 8),
        function("cubic", "return x * x * x", "The same once more.", 8),
    )
    solution = "def main_solution(a):\n    return a * 11"
    write_tasks(source, [task(solution, "Eleven?"), task(solution, "Eleven times it, or what?")])
    problem = {
        "task_id": "HumanEval/0",
        "prompt": f'def other(x):\n    """Return {LONG}."""\n',
        "entry_point": "famous",
    }
    other = problem | {"prompt": problem["prompt"].replace("Return", "Give back")}
    (source / HUMAN_EVAL).parent.mkdir(parents=True)
    lines = "\n".join(map(json.dumps, [problem, other]))
    (source / HUMAN_EVAL).write_bytes(gzip.compress(lines.encode()))
    return source


def test_pairs_are_short_distinct_right_and_unlike_human_eval(source, tmp_path):
    built = tmp_path / "built"
    built.mkdir()
    prepare_code_pairs(source, built)
    task = load_task(built)
    assert (task.template, task.checker) == ("function", "doctest")
    rows = {one.id: (split, one) for split, some in task.splits.items() for one in some}
    parts = {f"lib.part{n}.module.{kind}_{n}" for n in range(PARTS) for kind in ("add", "less")}
    assert rows.keys() == parts | {"held.module.cubed", "codeio-1"}
    assert [one.id for one in task.splits["transfer"]] == ["held.module.cubed"]
    assert {one.group for _, one in rows.values()} == {"lib", "held", "codeio"}
    for number in range(PARTS):
        splits = {rows[f"lib.part{number}.module.{kind}_{number}"][0] for kind in ("add", "less")}
        assert len(splits) == 1
    sizes = {split: len(some) for split, some in task.splits.items()}
    assert sizes["train"] > sizes["test"] > 0 and sizes["validation"] > 0
    prompt = f'def other(x):\n    """Return {LONG}."""\n'
    asked = [Example("1", prompt, "", None, "h:1")]
    assert contamination([one for _, one in rows.values()], asked).overlapping == 0


def test_what_is_prepared_passes_as_a_benchmark_and_other_answers_do_not(source, tmp_path):
    built = tmp_path / "built"
    built.mkdir()
    prepare_code_pairs(source, built)
    values = [json.loads(line) for line in (built / "test.jsonl").read_text().splitlines()]
    benchmark = own_benchmark("own:doctest", CHECKERS["doctest"])
    questions = benchmark.questions([Row(v, f"t:{n}", n) for n, v in enumerate(values, 1)], "")
    answers = [question.references[0] for question in questions]
    for shift, passes in ((0, 1.0), (1, 0.0)):
        said = [Response(texts=(one,)) for one in answers[shift:] + answers[:shift]]
        scores = benchmark.score(questions, said)
        assert [one.values["passes"] for one in scores] == [passes] * len(scores)


def test_nothing_is_lost_where_programs_cannot_be_isolated(source, tmp_path, monkeypatch):
    def refuse():
        raise UserError("not here")

    ways = []
    score = code_pairs.score

    def counted(*args, unsafe):
        ways.append(unsafe)
        return score(*args, unsafe=unsafe)

    monkeypatch.setattr(code_pairs, "score", counted)
    built = [tmp_path / "isolated", tmp_path / "not"]
    for folder in built:
        folder.mkdir()
        prepare_code_pairs(source, folder)
        monkeypatch.setattr(code_pairs, "find_isolation", refuse)
    assert ways == [False, True]
    assert [f.read_text() for f in sorted(built[0].iterdir())] == [
        f.read_text() for f in sorted(built[1].iterdir())
    ]
