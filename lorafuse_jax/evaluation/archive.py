"""The folder of one benchmark in a run: what was asked, what was answered, what it is worth.

``evaluations/gsm8k@metamath/`` has

* ``task.json``: benchmark, version, template, decoding;
* ``questions.jsonl``: every question, with what its scorer needs;
* ``answers.jsonl``: every question, every model: texts and log-probabilities;
* ``scores.jsonl``: what these are worth; can be made anew from the others, without a model.
"""

import json
import re
from collections import Counter
from collections.abc import Collection, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from textwrap import shorten
from typing import Any

import numpy as np

from lorafuse_jax.evaluation.benchmark import Benchmark, Question, Response, Score
from lorafuse_jax.evaluation.records import (
    Answer,
    Mark,
    append,
    read_answers,
    read_marks,
    whole_lines,
)
from lorafuse_jax.evaluation.scores import KINDS, Scores
from lorafuse_jax.types import UserError

SCORED_AT_ONCE = 200
NOT_COMPARED = ("asked_as", "beside")
"""Of ``task.json``: what says nothing of how questions were asked."""

MOST_SHOWN = 200
"""Characters of a gold answer in reports: of tests, the beginning."""


@dataclass(frozen=True)
class Archive:
    """One benchmark's folder.

    Attributes:
        path: the folder.
    """

    path: Path

    @property
    def answers_path(self) -> Path:
        """Answers, one JSON line a question and model."""
        return self.path / "answers.jsonl"

    @property
    def scores_path(self) -> Path:
        """Scores, likewise."""
        return self.path / "scores.jsonl"

    @property
    def questions_path(self) -> Path:
        """Questions, one JSON line each."""
        return self.path / "questions.jsonl"

    def asked(self) -> dict[str, Any]:
        """What the folder is about.

        Raises:
            UserError: it is no such folder, or damaged.
        """
        file = self.path / "task.json"
        try:
            return json.loads(file.read_text())
        except (OSError, ValueError) as error:
            raise UserError(f"{file}: cannot be read ({error}); remove {self.path}") from None

    def open_for(self, asked: dict[str, Any], questions: Sequence[Question]) -> None:
        """Start asking, or go on; questions that are new are added.

        Raises:
            UserError: other things were asked here before.
        """
        file = self.path / "task.json"
        if file.exists():
            self._check_same(asked)
        known = {question.id: question for question in self.questions()}
        new = []
        for question in questions:
            before = known.get(question.id)
            if before is None:
                new.append(question)
            elif not alike(before, question):
                raise UserError(
                    f"{question.where}: the example {question.id} is not what was asked before "
                    f"({before.where}): the data changed between two evaluations; remove "
                    f"{self.path} and evaluate again"
                )
        if known and len(new) == len(questions):
            raise UserError(
                f"{self.path} holds answers to other questions, such as {next(iter(known))}; "
                f"{new[0].where} begins with {new[0].id}: give one of the data sets another "
                "name, or remove the folder"
            )
        self.path.mkdir(parents=True, exist_ok=True)
        append(self.questions_path, new)
        if not file.exists():
            self.describe(asked)

    def describe(self, asked: dict[str, Any]) -> None:
        """Write ``task.json``, which is whole or as it was."""
        file = self.path / "task.json"
        beside = file.with_name(".task.json")
        beside.write_text(json.dumps(asked, indent=1) + "\n")
        beside.replace(file)

    def questions(self) -> list[Question]:
        """All that was asked, in order.

        Raises:
            UserError: a line that is no question.
        """
        questions = []
        for where, line in whole_lines(self.questions_path):
            try:
                row = json.loads(line)
                row["turns"] = tuple(map(tuple, row["turns"]))
                questions.append(Question(**row | {"references": tuple(row["references"])}))
            except (ValueError, TypeError, KeyError):
                raise UserError(f"{where}: no question; remove {self.path}") from None
        return questions

    def answers(self) -> dict[tuple[str, str], Answer]:
        """By question and model; those of a model that has changed since are left out."""
        lines = read_answers(self.answers_path)
        newest = {one.model: one.weights for one in lines}
        return {(one.id, one.model): one for one in lines if one.weights == newest[one.model]}

    def by_weights(self) -> dict[tuple[str, str], Answer]:
        """By weights and question, under whatever name, and whether or not it has changed since."""
        return {(one.weights, one.id): one for one in read_answers(self.answers_path)}

    def due(self, benchmark: Benchmark) -> list[Answer]:
        """The answers that have no score by this version of the benchmark."""
        marks = self._marks()
        return [o for key, o in self.answers().items() if not _is_of(marks.get(key), o, benchmark)]

    def score(self, benchmark: Benchmark, *, anew: bool = False) -> int:
        """Score all answers that are due.

        Args:
            benchmark: that was asked.
            anew: all of them; the scores that are there stay until these are whole.

        Returns:
            How many were scored.

        Raises:
            UserError: an answer to a question that was not asked, the folder is damaged, or what
                the scorer needs is not there.
        """
        questions = {question.id: question for question in self.questions()}
        for number, one in enumerate(read_answers(self.answers_path), start=1):
            if one.id not in questions:
                where = f"{self.answers_path}:{number}"
                raise UserError(f"{where}: an answer to {one.id}, which was not asked; remove it")
        due = list(self.answers().values()) if anew else self.due(benchmark)
        path = self.scores_path.with_suffix(".anew") if anew else self.scores_path
        if anew:
            path.unlink(missing_ok=True)
        for start in range(0, len(due), SCORED_AT_ONCE):
            some = due[start : start + SCORED_AT_ONCE]
            scores = benchmark.score(
                [questions[one.id] for one in some], [response_of(one) for one in some]
            )
            marks = [_marked(o, s, benchmark) for o, s in zip(some, scores, strict=True)]
            append(path, marks)
        if anew and due:
            path.replace(self.scores_path)
        return len(due)

    def scores(self, without: Collection[str] = ()) -> Scores:
        """The matrix: models by kind and name, examples in the order in which they were asked.

        Args:
            without: models that are left out.

        Raises:
            UserError: a model lacks an example that another one has answered, or its score.
        """
        answers = {key: one for key, one in self.answers().items() if one.model not in without}
        marks, questions = self._marks(), self.questions()
        kinds = {one.model: one.kind for one in answers.values()}
        models = sorted(kinds, key=lambda model: (KINDS.index(kinds[model]), _natural(model)))
        answered = Counter(id for id, _ in answers)
        questions = [question for question in questions if answered[question.id]]
        for model in models:
            missing = [q.id for q in questions if (q.id, model) not in answers]
            if missing:
                option = " --subsets" if kinds[model] == "subset" else ""
                raise UserError(
                    f"{self.answers_path}: {model} lacks {len(missing)} of {len(questions)} "
                    f"examples, the first is {missing[0]}; lorafuse evaluate{option} completes them"
                )
        table = [[answers[q.id, model] for q in questions] for model in models]
        marked = [[self._mark(marks, one) for one in line] for line in table]
        metrics = list(marked[0][0].values) if marked else []
        return Scores(
            task=self.asked()["label"],
            models=models,
            kinds=[kinds[model] for model in models],
            ids=[question.id for question in questions],
            groups=[question.group for question in questions],
            values={
                name: np.array([[mark.values[name] for mark in line] for line in marked])
                for name in metrics
            },
            log_likelihood=_log_likelihood(table) if self.asked()["likelihood"] else None,
            answers=[[mark.answer for mark in line] for line in marked],
            references=[shorten(str(question.gold), MOST_SHOWN) for question in questions],
            faults=[[mark.fault for mark in line] for line in marked],
        )

    def _marks(self) -> dict[tuple[str, str], Mark]:
        return {(one.id, one.model): one for one in read_marks(self.scores_path)}

    def _mark(self, marks: dict[tuple[str, str], Mark], answer: Answer) -> Mark:
        mark = marks.get((answer.id, answer.model))
        if mark is None or mark.weights != answer.weights:
            raise UserError(
                f"{self.scores_path}: no score of {answer.model}'s answer to {answer.id}; "
                "lorafuse report completes them"
            )
        return mark

    def _check_same(self, asked: dict[str, Any]) -> None:
        before = self.asked()
        keys = asked.keys() - set(NOT_COMPARED)
        different = [key for key in sorted(keys) if before.get(key) != asked[key]]
        if different:
            listed = "; ".join(f"{k} {before.get(k)!r} then, {asked[k]!r} now" for k in different)
            raise UserError(
                f"{self.path} holds answers to something else ({listed}): remove it, and evaluate "
                "again"
            )


def response_of(answer: Answer) -> Response:
    """What a scorer sees of an answer."""
    return Response(
        texts=tuple(answer.texts),
        log_probs=tuple(answer.log_probs),
        tokens=tuple(answer.tokens),
        greedy=tuple(answer.greedy),
    )


def _marked(answer: Answer, score: Score, benchmark: Benchmark) -> Mark:
    values = {n: float(score.values[n]) for n in benchmark.metrics if n in score.values}
    return Mark(
        id=answer.id,
        model=answer.model,
        weights=answer.weights,
        version=benchmark.version,
        values=values,
        answer=score.answer,
        fault=score.fault,
    )


def _is_of(mark: Mark | None, answer: Answer, benchmark: Benchmark) -> bool:
    return mark is not None and (mark.weights, mark.version) == (answer.weights, benchmark.version)


def alike(before: Question, now: Question) -> bool:
    """Equal but for the place, which may be another path to the same file."""
    as_json = [json.loads(json.dumps(asdict(replace(one, where="")))) for one in (before, now)]
    return as_json[0] == as_json[1]


def _log_likelihood(table: list[list[Answer]]) -> np.ndarray:
    return np.array([[sum(one.log_probs) / sum(one.tokens) for one in line] for line in table])


def _natural(name: str) -> list[tuple[bool, int, str]]:
    """Sorts ``seed-9`` before ``seed-11``, whichever answered first."""
    return [(p.isdigit(), int(p) if p.isdigit() else 0, p) for p in re.split(r"(\d+)", name)]
