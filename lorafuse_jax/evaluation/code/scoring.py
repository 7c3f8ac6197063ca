"""Answers as programs, run in the sandbox: the scorer of all benchmarks of programming."""

from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import Any

from lorafuse_jax.evaluation.benchmark import Question, Response, Score, Scorer
from lorafuse_jax.evaluation.code.estimator import pass_at_k
from lorafuse_jax.evaluation.code.sanitize import sanitize
from lorafuse_jax.evaluation.sandbox import Limits, Program, Verdict, run_programs

METRICS = ("pass@1", "pass@10")
"""A convention with fewer than ten samples a question has the first only."""

UNDECIDED = ("timed out", "out of memory")


def gold(
    *,
    test: str,
    entry_point: str,
    above: str = "",
    before: str = "",
    sanitized: bool = False,
    needed: Sequence[str] = (),
) -> dict[str, Any]:
    """What makes a program of a text, and tests it.

    Args:
        test: Python that passes or raises.
        entry_point: the function that is tested.
        above: source that the program begins with.
        before: what the text goes on from.
        sanitized: whether the program is searched for in ``before`` and text, by EvalPlus' rules.
        needed: what is kept of it, besides what the entry point needs.
    """
    return {
        "test": test,
        "entry_point": entry_point,
        "above": above,
        "before": before,
        "sanitized": sanitized,
        "needed": list(needed),
    }


def program_of(question: Question, text: str) -> Program:
    """The program that a text is an answer with."""
    how = question.gold
    source = how["before"] + text
    if how["sanitized"]:
        source = sanitize(source, how["entry_point"], how["needed"])
    return Program(
        source=f"{how['above']}{source}\n", test=how["test"], entry_point=how["entry_point"]
    )


def scorer(limits: Limits) -> Scorer:
    """Runs every sample; what it takes besides, see ``_score``, ``workflow.programs`` gives."""
    return partial(_score, limits)


def _score(
    limits: Limits,
    questions: Sequence[Question],
    responses: Sequence[Response],
    *,
    unsafe: bool = False,
    cache: Path | None = None,
) -> list[Score]:
    programs = [
        program_of(question, text)
        for question, response in zip(questions, responses, strict=True)
        for text in response.texts
    ]
    verdicts = run_programs(programs, limits, unsafe=unsafe, cache=cache)
    return [_worth([next(verdicts) for _ in response.texts]) for response in responses]


def _worth(verdicts: Sequence[Verdict]) -> Score:
    count, passed = len(verdicts), sum(verdict.passed for verdict in verdicts)
    undecided = [verdict for verdict in verdicts if verdict.outcome in UNDECIDED]
    return Score(
        values={
            name: pass_at_k(count, passed, k)
            for name, k in zip(METRICS, (1, 10), strict=True)
            if k <= count
        },
        fault=f"{undecided[0].outcome}: {undecided[0].detail}" if undecided else None,
    )
