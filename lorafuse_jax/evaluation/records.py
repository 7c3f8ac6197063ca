"""JSONL files that grow line by line, and are whole after any kill."""

import json
import os
from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from lorafuse_jax.evaluation.scores import KINDS, Kind
from lorafuse_jax.types import UserError

NUMBER = (float, int)


@dataclass(frozen=True, kw_only=True)
class Answer:
    """What one model answered to one question.

    Attributes:
        id: of the question.
        model: ``base``, ``seed-11``, ``mean(11+42)``, or another name.
        kind: what it is.
        weights: the beginning of a hash of what the model adds to the base.
        texts: generated, one a sample.
        generated: tokens of each text, a stop token not counted.
        log_probs: of each reference, nats, summed over its tokens.
        tokens: of each reference.
        greedy: whether each reference is what greedy decoding says.
    """

    id: str
    model: str
    kind: Kind
    weights: str
    texts: list[str]
    generated: list[int]
    log_probs: list[float]
    tokens: list[int]
    greedy: list[bool]


@dataclass(frozen=True, kw_only=True)
class Mark:
    """What an answer is worth, by one version of a scorer.

    Attributes:
        id: of the question.
        model: that answered.
        weights: of the answer that was scored.
        version: of the benchmark.
        values: by metric.
        answer: as understood; None is none.
        fault: what went wrong while scoring.
    """

    id: str
    model: str
    weights: str
    version: int
    values: dict[str, float]
    answer: str | None
    fault: str | None


FIELDS: dict[type, dict[str, tuple[type, ...]]] = {
    Answer: {
        "id": (str,),
        "model": (str,),
        "kind": (str,),
        "weights": (str,),
        "texts": (list, str),
        "generated": (list, int),
        "log_probs": (list, *NUMBER),
        "tokens": (list, int),
        "greedy": (list, bool),
    },
    Mark: {
        "id": (str,),
        "model": (str,),
        "weights": (str,),
        "version": (int,),
        "values": (dict, *NUMBER),
        "answer": (str, type(None)),
        "fault": (str, type(None)),
    },
}
"""Types of each field; after ``list`` or ``dict`` those of what is in it."""


def append(path: Path, rows: Iterable[Any]) -> None:
    """Add lines, one a dataclass; a last line torn by a killed process is cut off first."""
    _cut_torn_line(path)
    with path.open("a", encoding="utf-8") as file:
        file.write("".join(json.dumps(asdict(row)) + "\n" for row in rows))


def read_answers(path: Path) -> list[Answer]:
    """All whole lines; a torn last one does not count yet.

    Raises:
        UserError: a line that is not an answer.
    """
    answers = []
    for where, line in whole_lines(path):
        row = _parse(Answer, line, where)
        if min(row.tokens, default=1) < 1:
            raise UserError(f"{where}: a reference of {min(row.tokens)} tokens; remove the line")
        if any(not abs(value) < float("inf") for value in row.log_probs):
            raise UserError(
                f"{where}: log-probabilities {row.log_probs} cannot be averaged; look at "
                f"{row.model}'s adapter, then remove the line"
            )
        answers.append(row)
    return answers


def read_marks(path: Path) -> list[Mark]:
    """All whole lines; a torn last one does not count yet.

    Raises:
        UserError: a line that is not a mark.
    """
    return [_parse(Mark, line, where) for where, line in whole_lines(path)]


def whole_lines(path: Path) -> list[tuple[str, bytes]]:
    """(file and line, content) of every line that has its end; none where there is no file."""
    if not path.exists():
        return []
    lines = path.read_bytes().split(b"\n")[:-1]
    return [(f"{path}:{number}", line) for number, line in enumerate(lines, start=1)]


def _parse(kind: type, line: bytes, where: str) -> Any:
    fields = FIELDS[kind]
    try:
        row: Any = json.loads(line)
    except ValueError:
        raise UserError(f"{where}: not JSON; remove the line and evaluate again") from None
    if not isinstance(row, Mapping) or row.keys() != fields.keys():
        expected = f"which has the keys {', '.join(fields)}"
        raise UserError(f"{where}: not a line of this file, {expected}; remove it")
    for name, (outer, *inner) in fields.items():
        value = row[name]
        if outer in (list, dict):
            values = value.values() if isinstance(value, dict) else value
            good = type(value) is outer and all(type(one) in inner for one in values)
        else:
            # Of exactly these types: in Python true is an int as well.
            good = type(value) in (outer, *inner)
        if not good:
            raise UserError(f"{where}: {name} is {value!r}; expected {outer.__name__}")
        if name == "kind" and value not in KINDS:
            raise UserError(f"{where}: kind is {value!r}; expected one of {', '.join(KINDS)}")
    return kind(**row)


def _cut_torn_line(path: Path) -> None:
    if not path.exists() or path.stat().st_size == 0:
        return
    with path.open("r+b") as file:
        file.seek(-1, os.SEEK_END)
        if file.read() != b"\n":
            file.seek(0)
            file.truncate(file.read().rfind(b"\n") + 1)
