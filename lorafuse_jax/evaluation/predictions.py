"""``predictions.jsonl``: every example, every model, one line each; and the matrices made of it."""

import json
from collections.abc import Iterable
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from typing import Literal

import numpy as np
from jaxtyping import Bool, Float

from lorafuse_jax.types import UserError

Kind = Literal["base", "seed", "fused"]


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
        tokens: tokens of that completion, its end included.
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


def append(path: Path, rows: Iterable[Prediction]) -> None:
    """Add lines; a last line torn by a killed process is cut off first."""
    _cut_torn_line(path)
    with path.open("a", encoding="utf-8") as file:
        file.write("".join(json.dumps(asdict(row)) + "\n" for row in rows))


def read(path: Path) -> list[Prediction]:
    """All whole lines.

    Raises:
        UserError: a line that is not a prediction.
    """
    if not path.exists():
        return []
    lines = path.read_text(encoding="utf-8").split("\n")[:-1]
    names = {field.name for field in fields(Prediction)}
    rows = []
    for number, line in enumerate(lines, start=1):
        try:
            row = json.loads(line)
        except json.JSONDecodeError as error:
            raise UserError(f"{path}:{number}: not JSON ({error.msg}); remove the line") from None
        if not isinstance(row, dict) or row.keys() != names:
            raise UserError(f"{path}:{number}: not a prediction; its keys are {', '.join(row)}")
        rows.append(Prediction(**row))
    return rows


def done(path: Path) -> set[tuple[str, str, str]]:
    """(task, id, model) of everything that was answered."""
    return {(row.task, row.id, row.model) for row in read(path)}


def scores_by_task(rows: Iterable[Prediction]) -> list[Scores]:
    """A matrix a task, of the examples in the order of the first model.

    Raises:
        UserError: a model lacks an example that another has answered.
    """
    by_task: dict[str, dict[str, dict[str, Prediction]]] = {}
    for row in rows:
        by_task.setdefault(row.task, {}).setdefault(row.model, {})[row.id] = row
    return [_scores(task, models) for task, models in by_task.items()]


def _scores(task: str, by_model: dict[str, dict[str, Prediction]]) -> Scores:
    kind_of = {model: next(iter(rows.values())).kind for model, rows in by_model.items()}
    rank = {"base": 0, "seed": 1, "fused": 2}
    models = sorted(by_model, key=lambda model: rank[kind_of[model]])
    ids = list(dict.fromkeys(example for model in models for example in by_model[model]))
    for model in models:
        missing = [example for example in ids if example not in by_model[model]]
        if missing:
            raise UserError(
                f"{task}: {model} lacks {len(missing)} of {len(ids)} examples, the first "
                f"is {missing[0]}; lorafuse evaluate completes them"
            )
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


def _cut_torn_line(path: Path) -> None:
    if not path.exists():
        return
    with path.open("r+b") as file:
        content = file.read()
        if content and not content.endswith(b"\n"):
            file.truncate(content.rfind(b"\n") + 1)
