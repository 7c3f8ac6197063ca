"""A user's own data, or a prepared data set: the answer is checked as a checker says."""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from functools import partial
from typing import Any

from lorafuse_jax.evaluation.benchmark import (
    Benchmark,
    Convention,
    Decoding,
    Question,
    Row,
    Source,
)
from lorafuse_jax.evaluation.checkers import Checker
from lorafuse_jax.types import UserError

TRAINED = Convention(
    about="the template that the run was trained with",
    prompt=lambda row, shots: row["prompt"],
    decoding=Decoding(max_new_tokens=None),
    framing="trained",
)


def own_benchmark(name: str, checker: Checker) -> Benchmark:
    """The benchmark that any data makes; its rows have prompt, completion and answer."""
    return Benchmark(
        name=name,
        version=1,
        about=checker.about,
        licence="the data's",
        source=Source(),
        columns=("prompt", "completion", "answer"),
        conventions={"trained": replace(TRAINED, decoding=Decoding(None, checker.stop_strings))},
        pose=partial(_pose, checker),
        score=checker.score,
        metrics=checker.metrics,
        runs_programs=checker.runs_programs,
    )


def _pose(
    checker: Checker, row: Row, convention: Convention, shots: Sequence[Mapping[str, Any]]
) -> Question:
    value = row.value
    problem = checker.problem(value["answer"])
    if problem:
        raise UserError(
            f"{row.where}: {problem}, so nothing could equal it (checker {checker.name!r}); mend "
            "the line, or name another checker with --checker"
        )
    return Question(
        id=str(value.get("id", row.number)),
        where=row.where,
        prompt=convention.prompt(value, shots),
        gold=value["answer"],
        references=(value["completion"],),
        group=str(value.get("group", "")),
        turns=tuple(map(tuple, value.get("turns", ()))),
    )
