"""``predictions.jsonl``: every example, every model, one line each; and the matrices made of it."""

import json
import math
import os
from collections.abc import Iterable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np
from jaxtyping import Bool, Float

from lorafuse_jax.types import UserError

Kind = Literal["base", "seed", "fused"]
KINDS: tuple[Kind, ...] = ("base", "seed", "fused")
FIELDS: dict[str, tuple[type, ...]] = {
    "task": (str,),
    "id": (str,),
    "model": (str,),
    "kind": (str,),
    "text": (str,),
    "prediction": (str, type(None)),
    "reference": (str,),
    "correct": (bool,),
    "logprob": (float, int),
    "tokens": (int,),
}


@dataclass(frozen=True, kw_only=True)
class Prediction:
    """What one model made of one example.

    Attributes:
        task: ``name/split``.
        id: of the example, unique in its split.
        model: ``base``, ``seed-11``, or the name of a fused adapter.
        kind: which of these.
        text: what was generated.
        prediction: the number in it, if any.
        reference: the right one.
        correct: whether they are equal.
        logprob: sum of log p(reference completion | prompt), nats.
        tokens: tokens of that completion, its end included; at least 1.
    """

    task: str
    id: str
    model: str
    kind: Kind
    text: str
    prediction: str | None
    reference: str
    correct: bool
    logprob: float
    tokens: int


@dataclass(frozen=True)
class Scores:
    """One task: models x examples.

    Attributes:
        task: ``name/split``.
        models: in the order base, seeds, fused.
        kinds: of each.
        ids: of the examples.
        correct: [models, E].
        logprob: [models, E], nats per answer token.
        predictions: [models][E].
        references: [E].
    """

    task: str
    models: list[str]
    kinds: list[Kind]
    ids: list[str]
    correct: Bool[np.ndarray, "models E"]
    logprob: Float[np.ndarray, "models E"]
    predictions: list[list[str | None]]
    references: list[str]

    def rows_of(self, kind: Kind) -> list[int]:
        """The numbers of the models of one kind."""
        return [number for number, other in enumerate(self.kinds) if other == kind]


def append(path: Path, rows: Iterable[Prediction]) -> None:
    """Add lines; a last line torn by a killed process is cut off first."""
    _cut_torn_line(path)
    with path.open("a", encoding="utf-8") as file:
        file.write("".join(json.dumps(asdict(row)) + "\n" for row in rows))


def read(path: Path) -> list[Prediction]:
    """All whole lines; a torn last one does not count yet.

    Raises:
        UserError: a line that is not a prediction.
    """
    if not path.exists():
        return []
    lines = path.read_bytes().split(b"\n")[:-1]
    return [_parse(line, f"{path}:{number}") for number, line in enumerate(lines, start=1)]


def done(path: Path) -> set[tuple[str, str, str]]:
    """(task, id, model) of everything that was answered."""
    return {(row.task, row.id, row.model) for row in read(path)}


def scores_by_task(rows: Iterable[Prediction]) -> list[Scores]:
    """A matrix a task, of the examples in the order of the first model.

    Raises:
        UserError: a model lacks an example that another has answered, or two models were asked
            for different answers.
    """
    by_task: dict[str, dict[str, dict[str, Prediction]]] = {}
    for row in rows:
        by_task.setdefault(row.task, {}).setdefault(row.model, {})[row.id] = row
    return [_scores(task, models) for task, models in by_task.items()]


def _scores(task: str, by_model: dict[str, dict[str, Prediction]]) -> Scores:
    kind_of = {model: next(iter(rows.values())).kind for model, rows in by_model.items()}
    models = sorted(by_model, key=lambda model: KINDS.index(kind_of[model]))
    ids = list(dict.fromkeys(example for model in models for example in by_model[model]))
    for model in models:
        _check_asked_alike(task, model, by_model[model], by_model[models[0]], ids)
    table = [[by_model[model][example] for example in ids] for model in models]
    return Scores(
        task=task,
        models=models,
        kinds=[kind_of[model] for model in models],
        ids=ids,
        correct=np.array([[row.correct for row in line] for line in table]),
        logprob=np.array([[row.logprob / row.tokens for row in line] for line in table]),
        predictions=[[row.prediction for row in line] for line in table],
        references=[row.reference for row in table[0]],
    )


def _check_asked_alike(
    task: str,
    model: str,
    rows: dict[str, Prediction],
    first: dict[str, Prediction],
    ids: list[str],
) -> None:
    missing = [example for example in ids if example not in rows]
    if missing:
        raise UserError(
            f"{task}: {model} lacks {len(missing)} of {len(ids)} examples, the first "
            f"is {missing[0]}; lorafuse evaluate completes them"
        )
    for example, row in rows.items():
        other = first.get(example, row)
        if (row.reference, row.tokens) != (other.reference, other.tokens):
            raise UserError(
                f"{task}, example {example}: {model} was asked for {row.reference!r} "
                f"({row.tokens} tokens), {other.model} for {other.reference!r} ({other.tokens}); "
                "the data changed between two evaluations: remove predictions.jsonl and repeat "
                "lorafuse evaluate"
            )


def _parse(line: bytes, where: str) -> Prediction:
    try:
        row: Any = json.loads(line)
    except ValueError:
        raise UserError(f"{where}: not JSON; remove the line and evaluate again") from None
    if not isinstance(row, dict) or row.keys() != FIELDS.keys():
        raise UserError(f"{where}: not a prediction, which has the keys {', '.join(FIELDS)}")
    for name, allowed in FIELDS.items():
        # Of exactly these types: in Python true is an int as well.
        if type(row[name]) not in allowed:
            raise UserError(f"{where}: {name} is {row[name]!r}; expected {allowed[0].__name__}")
    if row["kind"] not in KINDS:
        raise UserError(f"{where}: kind is {row['kind']!r}; expected one of {', '.join(KINDS)}")
    if row["tokens"] < 1 or not math.isfinite(row["logprob"]):
        raise UserError(
            f"{where}: a log-probability of {row['logprob']} over {row['tokens']} tokens cannot be "
            f"averaged; look at {row['model']}'s adapter, then remove the line"
        )
    return Prediction(**row)


def _cut_torn_line(path: Path) -> None:
    if not path.exists() or path.stat().st_size == 0:
        return
    with path.open("r+b") as file:
        file.seek(-1, os.SEEK_END)
        if file.read() != b"\n":
            file.seek(0)
            file.truncate(file.read().rfind(b"\n") + 1)
