"""CodeIO's tasks (2502.07316), as reasoning-gym packages them: a question and a Python solution.

Each comes with a generator of inputs. Here it becomes a function to complete: the question and one
example are its docstring, five other inputs and what the solution gives for them its tests.
"""

import ast
import gzip
import json
import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, NamedTuple

from lorafuse_jax.assets.functions import Pair, parted, shown
from lorafuse_jax.assets.self_contained import computes, imports_in, needed_imports
from lorafuse_jax.evaluation.code.doctests import INDENTATION
from lorafuse_jax.types import UserError

DATA = "reasoning_gym/data/codeio.jsonl.gz"
SOLUTION, GENERATOR = "main_solution", "generate_inputs"
DRAWS, TESTS = 20, 5
LONGEST_EXAMPLE = 160
"""In characters, of a call and what it gives."""

MOST_LINES = 100_000
"""Of Python, which a solution may go through for all draws: every machine counts them alike."""

SECONDS = 900
"""For all tasks together, which take far less."""

# Inputs are rounded, so that examples are short. Only code that computes is sent here.
RUN = """
import ast, contextlib, io, json, sys
from random import Random

class TooLong(BaseException):
    pass

def rounded(value):
    if isinstance(value, float):
        return round(value, 2)
    if isinstance(value, (list, tuple)):
        return type(value)(map(rounded, value))
    return {k: rounded(v) for k, v in value.items()} if isinstance(value, dict) else value

def counter(left):
    def count(frame, event, argument):
        nonlocal left
        left -= 1
        if left < 0:
            raise TooLong
        return count
    return count

def draws_of(solution, generator, draws):
    names, made = {"Random": Random}, []
    exec(solution, names)
    exec(generator, names)
    for seed in range(draws):
        inputs = rounded(names["generate_inputs"](Random(seed)))
        before = {name: repr(value) for name, value in inputs.items()}
        try:
            output = names["main_solution"](**inputs)
        except Exception:
            continue
        made.append([before, repr(output)])
        # What is no literal cannot be compared later.
        for text in (*before.values(), repr(output)):
            ast.literal_eval(text)
    return made

draws, most = map(int, sys.argv[1:])
for line in sys.stdin:
    made = None
    try:
        with contextlib.redirect_stdout(io.StringIO()):
            sys.settrace(counter(most))
            made = draws_of(*json.loads(line), draws)
    except (Exception, TooLong):
        pass
    finally:
        sys.settrace(None)
    print(json.dumps(made))
"""


class _Task(NamedTuple):
    """Before its solution is run.

    Attributes:
        question: what the function is to do.
        function: the solution, with all that it needs in its body.
        imports: of the solution's module.
        generator: source of the function that draws inputs.
    """

    question: str
    function: ast.FunctionDef
    imports: dict[str, str]
    generator: str

    def pair(self, docstring: str, tests: str) -> Pair | None:
        """The function to complete; None if it does not stand on its own."""
        return parted(self.function, self.function.body, docstring, self.imports, tests)


def code_io_pairs(source: Path, fits: Callable[[Pair], bool]) -> Iterator[tuple[int, Pair]]:
    """The tasks that make a function to complete, each with its number in the file.

    Args:
        source: folder of the unpacked package.
        fits: whether a pair, still without example and tests, is worth being run.

    Raises:
        UserError: the solutions cannot be run at all.
    """
    lines = gzip.decompress((source / DATA).read_bytes()).decode().splitlines()
    tasks: dict[int, _Task] = {}
    programs = []
    for number, line in enumerate(lines, start=1):
        task = _task(json.loads(line))
        pair = task and task.pair(task.question, "")
        if task and pair and fits(pair):
            tasks[number] = task
            programs.append([f"{pair.prompt}\n{INDENTATION}{pair.body}\n", task.generator])
    # Sets are in another order under another seed: what depends on it is not kept.
    runs = [_run(programs, hash_seed) for hash_seed in ("0", "1")]
    for (number, task), first, second in zip(tasks.items(), *runs, strict=True):
        pair = _with_tests(task, first) if first and first == second else None
        if pair is not None:
            yield number, pair


def _task(row: dict[str, Any]) -> _Task | None:
    """The task as one function; None if its code does more than compute."""
    try:
        module, inputs = ast.parse(row["code_sample"]), ast.parse(row["input_generator"])
    except SyntaxError:
        return None
    found = [n for n in module.body if isinstance(n, ast.FunctionDef) and n.name == SOLUTION]
    if len(found) != 1 or found[0].decorator_list or not computes(inputs):
        return None
    (function,) = found
    aside = ast.Import | ast.ImportFrom | ast.Expr
    helpers = [n for n in module.body if n is not function and not isinstance(n, aside)]
    own = function.body[1:] if ast.get_docstring(function) is not None else function.body
    function.body = [*map(_without_docstring, _needed(helpers, own)), *own]
    imports = imports_in(module.body)
    generator = ast.unparse(inputs)
    if needed_imports(generator, {"Random": "", **imports}) is None:
        return None
    return _Task(" ".join(row["task_description"].split()), function, imports, generator)


def _needed(helpers: list[ast.stmt], body: list[ast.stmt]) -> list[ast.stmt]:
    """What the body names of the module's other statements, and what these name."""
    reached, queue = set[int](), list(body)
    while queue:
        names = {n.id for n in ast.walk(queue.pop()) if isinstance(n, ast.Name)}
        for number, helper in enumerate(helpers):
            if number not in reached and names & _defined_by(helper):
                reached.add(number)
                queue.append(helper)
    return [helper for number, helper in enumerate(helpers) if number in reached]


def _defined_by(node: ast.stmt) -> set[str]:
    if isinstance(node, ast.FunctionDef | ast.ClassDef):
        return {node.name}
    return {n.id for n in ast.walk(node) if isinstance(n, ast.Name)}


def _without_docstring(node: ast.stmt) -> ast.stmt:
    """A helper; what it is for stands in comments and docstrings, and those are left out."""
    if isinstance(node, ast.FunctionDef) and ast.get_docstring(node) and len(node.body) > 1:
        node.body = node.body[1:]
    return node


def _run(programs: list[list[str]], hash_seed: str) -> list[list | None]:
    """Of each program: inputs by name and what the solution gives, as texts; None if it fails."""
    try:
        result = subprocess.run(
            [sys.executable, "-P", "-s", "-S", "-c", RUN, str(DRAWS), str(MOST_LINES)],
            input="\n".join(map(json.dumps, programs)),
            env=os.environ | {"PYTHONHASHSEED": hash_seed},
            capture_output=True,
            text=True,
            timeout=SECONDS,
            check=False,
        )
    except subprocess.TimeoutExpired:
        raise UserError(f"CodeIO's solutions did not end within {SECONDS} s; try again") from None
    if result.returncode:
        raise UserError(f"CodeIO's solutions failed:\n{result.stderr.strip()[-500:]}")
    return [json.loads(line) for line in result.stdout.splitlines()]


def _with_tests(task: _Task, draws: list[list]) -> Pair | None:
    """The shortest draw becomes the docstring's example, others the tests."""
    names = [argument.arg for argument in task.function.args.args]
    calls = {}
    for inputs, output in draws:
        if inputs.keys() == set(names):
            calls[f"{SOLUTION}({', '.join(inputs[name] for name in names)})"] = output
    if len(calls) <= TESTS:
        return None
    example = min(calls, key=lambda call: len(call) + len(calls[call]))
    if len(example) + len(calls[example]) > LONGEST_EXAMPLE:
        return None
    tests = [call for call in calls if call != example][:TESTS]
    if len({calls[call] for call in tests}) == 1:  # a constant would pass
        return None
    docstring = f"{task.question}\n\n{shown(example, calls[example])}"
    return task.pair(docstring, "\n".join(shown(call, calls[call]) for call in tests))
