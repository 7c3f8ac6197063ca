"""Examples and tasks, read from JSONL; every fault names its file and line.

A line is ``{"prompt": ..., "completion": ...}``, optionally with ``id`` and ``answer`` (the short
answer to check, for example the final number). Other keys are left alone.
"""

import json
import re
from dataclasses import dataclass
from hashlib import sha256
from pathlib import Path
from typing import Any

from lorafuse_jax.types import UserError

SPLITS = ("train", "validation", "test", "transfer")
VALIDATION_SHARE = TEST_SHARE = 10
"""Percent of a single file that its content hash sends to validation, and to test."""


@dataclass(frozen=True)
class Example:
    """One prompt and its reference completion.

    Attributes:
        id: unique in its split.
        prompt: what the model is given, without any template.
        completion: what it should say.
        answer: the short answer that is checked; None if there is none.
        where: file and line, for messages.
    """

    id: str
    prompt: str
    completion: str
    answer: str | None
    where: str


@dataclass(frozen=True)
class Task:
    """Examples by split.

    Attributes:
        name: for tables.
        template: name of the prompt template that the task asks for, or None.
        splits: ``train``, ``validation``, ``test`` and further ones; disjoint by normalised prompt.
        duplicates: examples left out because an earlier one has the same normalised prompt.
    """

    name: str
    template: str | None
    splits: dict[str, list[Example]]
    duplicates: int = 0


def normalize(text: str) -> str:
    """Text without case, punctuation and spacing: equal for what a reader would call the same."""
    return " ".join(re.findall(r"[^\W_]+", text.lower()))


def load_task(path: Path) -> Task:
    """A task from a folder with ``train.jsonl``, ``validation.jsonl``, ..., or from one JSONL file.

    One file is split by the hash of each normalised prompt, 80 / 10 / 10, after duplicates are
    removed: the same line falls into the same split whatever else the file holds.

    Raises:
        UserError: nothing is there, a line is malformed, or two splits of a folder share a prompt.
    """
    if path.is_file():
        return _split_file(path)
    if not path.is_dir():
        raise UserError(f"{path} is neither a JSONL file, nor a folder, nor a known asset")
    splits = {
        split: read_jsonl(path / f"{split}.jsonl")
        for split in SPLITS
        if (path / f"{split}.jsonl").exists()
    }
    if not splits:
        raise UserError(f"{path} holds none of {', '.join(f'{split}.jsonl' for split in SPLITS)}")
    _check_disjoint(splits)
    about = json.loads((path / "task.json").read_text()) if (path / "task.json").exists() else {}
    return Task(about.get("name", path.name), about.get("template"), splits)


def read_jsonl(path: Path) -> list[Example]:
    """All examples of one file.

    Raises:
        UserError: the file is missing or empty, or a line is not what it should be.
    """
    if not path.exists():
        raise UserError(f"{path} does not exist")
    examples = []
    with path.open(encoding="utf-8") as lines:
        try:
            for number, line in enumerate(lines, start=1):
                examples.append(_parse(line, f"{path}:{number}", str(number)))
        except UnicodeDecodeError as error:
            raise UserError(f"{path}:{len(examples) + 1}: not UTF-8 text ({error})") from None
    if not examples:
        raise UserError(f"{path} is empty; a line is " + '{"prompt": "...", "completion": "..."}')
    return examples


def _parse(line: str, where: str, number: str) -> Example:
    if not line.strip():
        raise UserError(f"{where}: the line is empty; remove it")
    try:
        row = json.loads(line)
    except json.JSONDecodeError as error:
        raise UserError(f"{where}: not JSON ({error.msg} at column {error.colno})") from None
    if not isinstance(row, dict):
        raise UserError(f"{where}: a line must be a JSON object, this is a {type(row).__name__}")
    for key in ("prompt", "completion"):
        if key not in row:
            raise UserError(f"{where}: no {key!r}; the line has {', '.join(row) or 'no keys'}")
        if not isinstance(row[key], str) or not row[key].strip():
            raise UserError(f"{where}: {key!r} must be text that is not empty, it is {row[key]!r}")
    answer: Any = row.get("answer")
    if answer is not None and not isinstance(answer, str | int | float):
        raise UserError(f"{where}: 'answer' must be text or a number, it is {answer!r}")
    return Example(
        id=str(row.get("id", number)),
        prompt=row["prompt"].strip(),
        completion=row["completion"].strip(),
        answer=None if answer is None else str(answer),
        where=where,
    )


def _split_file(path: Path) -> Task:
    splits: dict[str, list[Example]] = {"train": [], "validation": [], "test": []}
    seen: set[str] = set()
    examples = read_jsonl(path)
    for example in examples:
        text = normalize(example.prompt)
        if text not in seen:
            seen.add(text)
            splits[split_by_hash(text)].append(example)
    return Task(path.stem, None, splits, duplicates=len(examples) - len(seen))


def split_by_hash(text: str) -> str:
    """The split that a text belongs to, from nothing but the text."""
    percent = int.from_bytes(sha256(text.encode()).digest()[:8]) % 100
    if percent < TEST_SHARE:
        return "test"
    return "validation" if percent < TEST_SHARE + VALIDATION_SHARE else "train"


def _check_disjoint(splits: dict[str, list[Example]]) -> None:
    first: dict[str, tuple[str, Example]] = {}
    for split, examples in splits.items():
        for example in examples:
            text = normalize(example.prompt)
            other_split, other = first.setdefault(text, (split, example))
            if other_split != split:
                raise UserError(
                    f"{example.where} has the same prompt as {other.where}: {other_split} and "
                    f"{split} must be disjoint; remove one of them"
                )
