"""MBPP (2108.07732): 500 Python functions from a sentence and three tests.

Departure from lm-eval: ``test_setup_code`` is run before the tests, without which the few problems
that have one cannot be solved.
"""

import ast
import builtins
from collections.abc import Mapping, Sequence
from typing import Any

from lorafuse_jax.evaluation.benchmark import (
    Benchmark,
    Convention,
    Decoding,
    Question,
    Row,
    Source,
)
from lorafuse_jax.evaluation.code import evalplus
from lorafuse_jax.evaluation.code.scoring import METRICS, gold, scorer
from lorafuse_jax.evaluation.sandbox import Limits
from lorafuse_jax.evaluation.tasks.mbpp_examples import EXAMPLES
from lorafuse_jax.evaluation.tasks.word_problems import HARNESS_TOKENS
from lorafuse_jax.types import UserError

DONE = "[DONE]"

TEXT, SCRIPT = "text", "script"
"""What an answer is, by a convention's form: the program; something to find it in."""


def _harness_prompt(row: Mapping[str, Any], shots: Sequence[Mapping[str, Any]]) -> str:
    del shots  # always the same three, which are of no split
    worked = "".join(f"{_asked(one)}{one['code']}\n{DONE}\n\n" for one in EXAMPLES)
    return worked + _asked(row)


def _asked(row: Mapping[str, Any]) -> str:
    tests = "\n".join(row["test_list"][:3])
    return (
        f"You are an expert Python programmer, and here is your task: {_sentence(row)} "
        f"Your code should pass these tests:\n\n{tests}\n[BEGIN]\n"
    )


def _docstring(row: Mapping[str, Any]) -> str:
    """EvalPlus' prompt: the sentence and the first test."""
    return f'"""\n{_sentence(row)}\n{row["test_list"][0]}\n"""'


def _sentence(row: Mapping[str, Any]) -> str:
    return row.get("text") or row.get("prompt") or ""


THREE_SHOT = Convention(
    about="three worked examples and the tests, up to [DONE]; lm-eval's (mbpp, mbpp_plus), as in "
    "the paper",
    prompt=_harness_prompt,
    decoding=Decoding(HARNESS_TOKENS, (DONE,)),
    form=TEXT,
)
BASE = Convention(
    about="EvalPlus' for models that do not chat: after a docstring with the first test, a "
    "program, which its rules find",
    prompt=lambda row, shots: evalplus.base_prompt(_docstring(row)),
    decoding=evalplus.decoding(evalplus.MBPP_STOPS),
    form=SCRIPT,
)
CHAT = Convention(
    about=evalplus.ABOUT_CHAT,
    prompt=lambda row, shots: evalplus.chat_prompt(_docstring(row)),
    decoding=evalplus.decoding(()),
    framing="chat",
    form=SCRIPT,
)


def pose(row: Row, convention: Convention, shots: Sequence[Mapping[str, Any]]) -> Question:
    """A problem of MBPP or MBPP+."""
    value = row.value
    if not _sentence(value) or not value["test_list"]:
        raise UserError(f"{row.where}: a problem needs a sentence ('text' or 'prompt') and tests")
    prompt = convention.prompt(value, shots)
    completes = convention.form == SCRIPT and convention.framing == "plain"
    return Question(
        id=str(value["task_id"]),
        where=row.where,
        prompt=prompt,
        gold=gold(
            test=_test_of(value),
            entry_point=entry_point_of(value["test_list"][0], value["code"], row.where),
            before=prompt if completes else "",
            sanitized=convention.form == SCRIPT,
            needed=[] if value.get("test") else _names(value.get("test_setup_code") or ""),
        ),
    )


def _test_of(value: Mapping[str, Any]) -> str:
    """The long test of MBPP+, or the setup and the short ones."""
    if value.get("test"):
        return "\n".join([*value.get("test_imports", ()), value["test"]])
    return "\n".join([value.get("test_setup_code") or "", *value["test_list"]])


def entry_point_of(test: str, code: str, where: str) -> str:
    """The function that a test is about: the last of the reference solution's that it calls.

    Where that defines none, the first name that is called and is no built-in.

    Raises:
        UserError: there is none.
    """
    called = [name for name in _called(test) if name is not None]
    defined = [node.name for node in _statements(code) if isinstance(node, ast.FunctionDef)]
    found = [name for name in defined if name in called]
    others = [name for name in called if not hasattr(builtins, name)]
    if not found and not others:
        raise UserError(f"{where}: its first test calls no function: {test!r}")
    return found[-1] if found else others[0]


def _names(code: str) -> list[str]:
    found = [n for part in _statements(code) for n in ast.walk(part) if isinstance(n, ast.Name)]
    return sorted({name.id for name in found})


def _called(test: str) -> list[str | None]:
    calls = [n for part in _statements(test) for n in ast.walk(part) if isinstance(n, ast.Call)]
    return [call.func.id if isinstance(call.func, ast.Name) else None for call in calls]


def _statements(code: str) -> list[ast.stmt]:
    try:
        return ast.parse(code).body
    except SyntaxError:
        return []


BENCHMARK = Benchmark(
    name="mbpp",
    version=1,
    about="500 Python functions from a sentence and three tests (2108.07732)",
    licence="CC-BY-4.0",
    source=Source(hub="google-research-datasets/mbpp", config="full", shots_split="prompt"),
    columns=("task_id", "code", "test_list"),
    conventions={"3-shot": THREE_SHOT, "evalplus": BASE, "chat": CHAT},
    pose=pose,
    score=scorer(Limits(seconds=15.0, cpu_seconds=3)),
    metrics=METRICS,
    runs_programs=True,
)
