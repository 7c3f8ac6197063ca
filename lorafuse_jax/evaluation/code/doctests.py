"""Doctests as the test of an answer that goes on from the beginning of a function.

Three metrics, none smaller than the one before it:

- ``passes``: every example gives what it says. Where a float is expected, a millionth of it may be
  missing; all else must be equal.
- ``runs``: every example can be evaluated, whatever it gives.
- ``parses``: prompt and answer together are Python, and the answer is not empty.

An example whose output is a literal is compared; one without output is a statement, and is run as
it stands. Anything else that Python's own ``doctest`` would compare as text (an exception, an
object's ``repr``) is no test here, since examples and answer run in two processes of the sandbox,
between which only values of built-in types are compared.
"""

import ast
import doctest
import re
from collections.abc import Callable, Sequence
from pathlib import Path

from lorafuse_jax.evaluation.benchmark import Question, Response, Score
from lorafuse_jax.evaluation.code.sanitize import parse
from lorafuse_jax.evaluation.code.scoring import UNDECIDED
from lorafuse_jax.evaluation.sandbox import Limits, Program, Verdict, run_programs

METRICS = ("passes", "runs", "parses")
LIMITS = Limits(seconds=30.0, cpu_seconds=3)
INDENTATION = "    "
STOPS = (
    *("\ndef ", "\nclass ", "\n@", "\n#", '\n"""', "\n>>>", "\n```"),
    *("\nif ", "\nfor ", "\nprint(", "\nimport ", "\nfrom ", "\nassert "),
)
"""Lines without indentation with which models go on after a function."""

SAME = """\
import math
def _same(got, wanted):
    if isinstance(wanted, float) and type(got) in (int, float):
        return math.isclose(got, wanted, rel_tol=1e-6, abs_tol=1e-9)
    if isinstance(wanted, (list, tuple)):
        alike = type(got) is type(wanted) and len(got) == len(wanted)
        return alike and all(map(_same, got, wanted))
    if isinstance(wanted, dict):
        alike = isinstance(got, dict) and got.keys() == wanted.keys()
        return alike and all(_same(got[key], wanted[key]) for key in wanted)
    return type(got) is type(wanted) and got == wanted
"""


def score(
    questions: Sequence[Question],
    responses: Sequence[Response],
    *,
    unsafe: bool = False,
    cache: Path | None = None,
) -> list[Score]:
    """Scores with ``METRICS``, of the first text of each response.

    Args:
        questions: the prompt begins a function, the gold answer is its doctests.
        responses: each beside its question.
        unsafe: run programs even where they cannot be isolated.
        cache: a folder for verdicts.

    Raises:
        UserError: programs cannot be isolated here.
    """
    sources = [
        program_of(question.prompt, response.texts[0])
        for question, response in zip(questions, responses, strict=True)
    ]

    def run(numbers: list[int], test_of: Callable[[str], str]) -> dict[int, Verdict]:
        programs = [
            Program(
                source=sources[number] or "",
                test=test_of(questions[number].gold),
                entry_point=name_of(questions[number].prompt),
            )
            for number in numbers
        ]
        verdicts = run_programs(programs, LIMITS, unsafe=unsafe, cache=cache)
        return dict(zip(numbers, verdicts, strict=True))

    parsed = [number for number, source in enumerate(sources) if source is not None]
    tested = run(parsed, passing_test)
    # What was stopped for its time or memory would be stopped again.
    failed = [number for number in parsed if tested[number].outcome == "failed"]
    ran = run(failed, running_test)
    return [_worth(tested.get(number), ran.get(number)) for number in range(len(sources))]


def _worth(tested: Verdict | None, ran: Verdict | None) -> Score:
    """What an answer is worth: tested if it is Python, and if that failed, run without tests."""
    passes = tested is not None and tested.passed
    runs = passes or (ran is not None and ran.passed)
    stopped = [v for v in (tested, ran) if v is not None and v.outcome in UNDECIDED]
    return Score(
        values={"passes": float(passes), "runs": float(runs), "parses": float(tested is not None)},
        fault=f"{stopped[0].outcome}: {stopped[0].detail}" if stopped else None,
    )


def program_of(prompt: str, answer: str) -> str | None:
    """The function that an answer makes of its beginning; None if it is no Python, or no answer.

    The answer begins within its first line, so that line's indentation is the function's; from the
    first line on that has none, it is no longer the function's body.
    """
    first, *rest = answer.strip().split("\n")
    body = [INDENTATION + first]
    for line in rest:
        if line.strip() and not line[0].isspace():
            break
        body.append(line)
    source = "\n".join([prompt, *body]) + "\n"
    return source if first and parse(source) is not None else None


def name_of(prompt: str) -> str:
    """The last function that begins in a prompt; "" if there is none."""
    found = re.findall(r"^def (\w+)\(", prompt, re.MULTILINE)
    return found[-1] if found else ""


def problem(gold: str) -> str | None:
    """What keeps a gold answer from being a test; None if nothing does."""
    try:
        examples = doctest.DocTestParser().get_examples(gold)
    except ValueError as error:
        return f"the answer is no doctest ({error})"
    for example in examples:
        if why := fault_of(example):
            return f"the doctest {example.source.strip()!r} {why}"
    if not any(example.want for example in examples):
        return "the answer holds no doctest with an output (>>> f(1), and below it what that gives)"
    return None


def fault_of(example: doctest.Example) -> str | None:
    """Why an example cannot be run, or compared; None if it can be."""
    tree = parse(example.source)
    if tree is None:
        return "is not Python"
    if not example.want:
        return None
    if len(tree.body) != 1 or not isinstance(tree.body[0], ast.Expr):
        return "is a statement, which gives nothing to compare"
    try:
        ast.literal_eval(example.want.strip())
    except (SyntaxError, ValueError, TypeError, MemoryError, RecursionError):
        return f"expects {example.want.strip()!r}, which is no literal"
    return None


def passing_test(gold: str) -> str:
    """Python that ends if every example gives what it says."""
    parts = [SAME]
    for example in doctest.DocTestParser().get_examples(gold):
        if example.want:
            parts.append(f"_got = (\n{example.source})\n")
            parts.append(f"assert _same(_got, (\n{example.want})), repr(_got)[:200]\n")
        else:
            parts.append(example.source)
    return "".join(parts)


def running_test(gold: str) -> str:
    """Python that ends if every example can be evaluated."""
    examples = doctest.DocTestParser().get_examples(gold)
    return "".join(f"(\n{one.source})\n" if one.want else one.source for one in examples)
