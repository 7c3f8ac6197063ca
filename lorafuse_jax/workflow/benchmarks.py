"""Which benchmark a name means, and its questions, checked before a model is loaded."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from lorafuse_jax.data.examples import SPLITS, Task
from lorafuse_jax.data.files import Row
from lorafuse_jax.data.rows import Example
from lorafuse_jax.evaluation.benchmark import Benchmark, Convention, Question
from lorafuse_jax.evaluation.checkers import CHECKERS, Checker
from lorafuse_jax.evaluation.tasks import BENCHMARKS
from lorafuse_jax.evaluation.tasks.own import own_benchmark
from lorafuse_jax.types import UserError
from lorafuse_jax.workflow.benchmark_rows import rows_of, shots_of
from lorafuse_jax.workflow.inputs import load_any_task

OWN = "own:"
"""Before a checker's name, the name of the benchmark that data makes with it."""


@dataclass(frozen=True)
class Posed:
    """A benchmark's questions, ready to be encoded.

    Attributes:
        label: as in tables: ``gsm8k@metamath``, ``my-data/test``; ``gsm8k:mine@metamath`` of a
            local copy; ``gsm8k-packaged@metamath`` where no hub has answered, and the part that
            ``lorafuse fetch`` gets is asked.
        benchmark: which it is.
        convention: in which it is asked.
        every: all questions that there are.
        limit: the first so many are asked; None is all.
        asked_as: what ``--tasks`` was given; "" where it was not.
    """

    label: str
    benchmark: Benchmark
    convention: Convention
    every: list[Question]
    limit: int | None
    asked_as: str

    @property
    def questions(self) -> list[Question]:
        """What is asked."""
        return self.every[: self.limit]


def pose(name: str, limit: int | None, checker: str | None = None) -> Posed:
    """The questions that a name means.

    Args:
        name: ``NAME``, ``NAME@CONVENTION`` or ``NAME/SPLIT@CONVENTION``, each with ``:PATH`` for a
            local copy, of a benchmark; or a data set's name, file or folder, or either with
            ``/SPLIT``. A benchmark's name means the benchmark; ``./NAME`` is a folder.
        limit: the first so many; None is all.
        checker: how answers of a data set are compared; None is what its task.json says, or as
            numbers.

    Raises:
        UserError: there is no such thing, or a row of it cannot be asked.
    """
    head, _, place = name.partition(":")
    known, at, convention = head.partition("@")
    known, _, split = known.partition("/") if at else (known, "", "")
    if known in BENCHMARKS:
        return _of_benchmark(BENCHMARKS[known], convention, split, place, limit, name)
    if at and not name.startswith((".", "/", "~")):
        raise UserError(f"no benchmark {known!r}; there are {', '.join(BENCHMARKS)}")
    return pose_data(name, limit, checker, asked_as=name)


def pose_data(
    name: str, limit: int | None, checker: str | None = None, asked_as: str = ""
) -> Posed:
    """The questions of a data set, even where a benchmark has its name; see ``pose``."""
    head, slash, tail = name.rpartition("/")
    with_split = bool(slash) and tail in SPLITS
    task = load_any_task(head if with_split else name)
    split = tail if with_split else "test"
    if not task.splits.get(split):
        there = ", ".join(split for split, examples in task.splits.items() if examples)
        raise UserError(f"{name}: no {split} examples; there are {there}")
    benchmark = _own(task, checker)
    rows = [_row(one, n) for n, one in enumerate(task.splits[split], start=1)]
    for row in rows:
        if row.value["answer"] is None:
            raise UserError(f"{row.where}: no 'answer' to check; add one to every line")
    convention = benchmark.convention("")
    every = benchmark.questions(rows, "")
    return Posed(f"{task.name}/{split}", benchmark, convention, every, limit, asked_as)


def benchmark_of(asked: Mapping[str, Any]) -> Benchmark:
    """The benchmark that a folder of answers is of.

    Raises:
        UserError: this version does not know it.
    """
    name = asked["benchmark"]
    if name in BENCHMARKS:
        return BENCHMARKS[name]
    checker = name.removeprefix(OWN)
    if checker in CHECKERS:
        return own_benchmark(name, CHECKERS[checker])
    raise UserError(f"{asked['label']}: this version knows no benchmark or checker {name!r}")


def is_own(asked: Mapping[str, Any]) -> bool:
    """Whether a folder of answers is of a data set, compared by a checker."""
    return asked["benchmark"].startswith(OWN)


def own_name(checker: str, questions: Sequence[Question]) -> str:
    """The name of the benchmark that these questions make with a checker.

    Raises:
        UserError: there is no such checker, or it could match none of a question's answers.
    """
    found = _checker(checker)
    for question in questions:
        if problem := found.problem(question.gold):
            raise UserError(f"{question.where}: {problem}; name another checker")
    return OWN + found.name


def _of_benchmark(
    benchmark: Benchmark,
    convention: str,
    split: str,
    place: str,
    limit: int | None,
    asked_as: str,
) -> Posed:
    chosen = benchmark.convention(convention)
    rows, packaged = rows_of(benchmark, place, split)
    shots = shots_of(benchmark, place) if chosen.shots else []
    name = next(n for n, other in benchmark.conventions.items() if other is chosen)
    every = benchmark.questions(rows, name, shots)
    marks = ("-packaged" if packaged else "") + (f"/{split}" if split else "")
    marks += f":{Path(place).stem}" if place else ""
    return Posed(f"{benchmark.name}{marks}@{name}", benchmark, chosen, every, limit, asked_as)


def _own(task: Task, checker: str | None) -> Benchmark:
    found = _checker(checker or task.checker or "number")
    return own_benchmark(OWN + found.name, found)


def _checker(name: str) -> Checker:
    if name not in CHECKERS:
        listed = "\n".join(f"  {one.name}: {one.about}" for one in CHECKERS.values())
        raise UserError(f"no checker {name!r}; there are\n{listed}")
    return CHECKERS[name]


def _row(example: Example, number: int) -> Row:
    value = {
        "id": example.id,
        "prompt": example.prompt,
        "completion": example.completion,
        "answer": example.answer,
        "group": example.group,
        "turns": example.turns[:-1],
    }
    return Row(value, example.where, number)
