"""Which benchmark a name means, and its questions, checked before a model is loaded."""

from collections.abc import Mapping
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
        label: as in tables: ``gsm8k@metamath``, ``my-data/test``; ``gsm8k-packaged@metamath`` where
            no hub has answered, and a part is asked that ``lorafuse fetch`` gets.
        benchmark: which it is.
        convention: in which it is asked.
        questions: what is asked.
    """

    label: str
    benchmark: Benchmark
    convention: Convention
    questions: list[Question]


def pose(name: str, limit: int | None, checker: str | None = None) -> Posed:
    """The questions that a name means.

    Args:
        name: ``NAME``, ``NAME@CONVENTION`` or ``NAME/SPLIT@CONVENTION``, each with ``:PATH`` for a
            local copy, of a benchmark; or a data set's name, file or folder, or either with
            ``/SPLIT``.
        limit: the first so many; None is all.
        checker: how answers of a data set are compared; None is what its task.json says, or as
            numbers.

    Raises:
        UserError: there is no such thing, or a row of it cannot be asked.
    """
    head, _, place = name.partition(":")
    known, at, convention = head.partition("@")
    known, _, split = known.partition("/") if at else (known, "", "")
    if known in BENCHMARKS and not Path(name).exists():
        return _of_benchmark(BENCHMARKS[known], convention, split, place, limit)
    if "@" in head and not Path(name).exists():
        raise UserError(f"no benchmark {known!r}; there are {', '.join(BENCHMARKS)}")
    return pose_data(name, limit, checker)


def pose_data(name: str, limit: int | None, checker: str | None = None) -> Posed:
    """The questions of a data set, even where a benchmark has its name; see ``pose``."""
    head, slash, tail = name.rpartition("/")
    with_split = bool(slash) and tail in SPLITS
    task = load_any_task(head if with_split else name)
    split = tail if with_split else "test"
    if not task.splits.get(split):
        raise UserError(f"{name}: no {split} examples; there are {', '.join(task.splits)}")
    benchmark = _own(task, checker)
    rows = [_row(one, n) for n, one in enumerate(task.splits[split][:limit], start=1)]
    for row in rows:
        if row.value["answer"] is None:
            raise UserError(f"{row.where}: no 'answer' to check; add one to every line")
    convention = benchmark.convention("")
    return Posed(f"{task.name}/{split}", benchmark, convention, benchmark.questions(rows, ""))


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


def _of_benchmark(
    benchmark: Benchmark, convention: str, split: str, place: str, limit: int | None
) -> Posed:
    chosen = benchmark.convention(convention)
    rows, packaged = rows_of(benchmark, place, split)
    shots = shots_of(benchmark, place) if chosen.shots else []
    name = next(n for n, other in benchmark.conventions.items() if other is chosen)
    questions = benchmark.questions(rows[:limit], name, shots)
    marks = ("-packaged" if packaged else "") + (f"/{split}" if split else "")
    return Posed(f"{benchmark.name}{marks}@{name}", benchmark, chosen, questions)


def _own(task: Task, checker: str | None) -> Benchmark:
    chosen: str = checker or task.checker or "number"
    if chosen not in CHECKERS:
        listed = "\n".join(f"  {one.name}: {one.about}" for one in CHECKERS.values())
        raise UserError(f"no checker {chosen!r}; there are\n{listed}")
    found: Checker = CHECKERS[chosen]
    return own_benchmark(f"{OWN}{found.name}", found)


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
