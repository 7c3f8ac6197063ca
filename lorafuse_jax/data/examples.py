"""Tasks: examples by split, read from JSONL and Parquet; every fault names its file and line."""

import json
import re
from collections.abc import Iterable
from dataclasses import dataclass, field
from hashlib import sha256
from pathlib import Path

from lorafuse_jax.data.files import SUFFIXES, Row, read_rows
from lorafuse_jax.data.rows import Example, example_from_row
from lorafuse_jax.types import UserError

SPLITS = ("train", "validation", "test", "transfer")
VALIDATION_SHARE = TEST_SHARE = 10
"""Percent of a single file that its content hash sends to validation, and to test."""


@dataclass(frozen=True)
class Task:
    """Examples by split.

    Attributes:
        name: for tables.
        template: name of the prompt template that the task asks for, or None.
        splits: ``train``, ``validation``, ``test`` and further ones; disjoint by normalised prompt.
        left_out: reason -> how many examples were left out for it.
        checker: how the task asks answers to be compared, or None.
    """

    name: str
    template: str | None
    splits: dict[str, list[Example]]
    left_out: dict[str, int] = field(default_factory=dict)
    checker: str | None = None


def words_of(text: str) -> list[str]:
    """The words of a text, without case and punctuation."""
    return re.findall(r"[^\W_]+", text.lower())


def normalize(text: str) -> str:
    """Text without case, punctuation and spacing: equal for what a reader would call the same."""
    return " ".join(words_of(text))


def load_task(path: Path) -> Task:
    """A task from a folder with ``train.jsonl``, ``validation.jsonl``, ..., or from one file.

    Files are JSONL, or Parquet with the same columns (``train.parquet``). One file is split by the
    hash of each normalised prompt (of a chat: of all before its first answer), 80 / 10 / 10, after
    duplicates are removed: the same line falls into the same split whatever else the file holds.

    Raises:
        UserError: nothing is there, a line is malformed, or two splits of a folder share a prompt.
    """
    if path.is_file():
        return _split_file(path)
    if not path.is_dir():
        raise UserError(f"{path} is neither a JSONL or Parquet file, nor a folder, nor known")
    splits = {split: read_examples(file) for split, file in _split_files(path)}
    if not splits:
        raise UserError(
            f"{path} holds none of {', '.join(f'{split}.jsonl' for split in SPLITS)} (or .parquet)"
        )
    _check_disjoint(splits)
    about = json.loads((path / "task.json").read_text()) if (path / "task.json").exists() else {}
    name, template, checker = (about.get(key) for key in ("name", "template", "checker"))
    return Task(name or path.name, template, splits, checker=checker)


def _split_files(folder: Path) -> Iterable[tuple[str, Path]]:
    for split in SPLITS:
        found = [folder / f"{split}{suffix}" for suffix in SUFFIXES]
        found = [file for file in found if file.exists()]
        if len(found) > 1:
            raise UserError(f"{found[0]} and {found[1].name} are the same split; remove one")
        if found:
            yield split, found[0]


def read_examples(path: Path) -> list[Example]:
    """All examples of one file.

    Raises:
        UserError: the file is missing or empty, or a line is not what it should be.
    """
    examples = examples_from(read_rows(path))
    if not examples:
        raise UserError(f"{path} is empty; a line is " + '{"prompt": "...", "completion": "..."}')
    return examples


def examples_from(rows: Iterable[Row]) -> list[Example]:
    """One example a row."""
    return [example_from_row(row.value, row.where, str(row.number)) for row in rows]


def _split_file(path: Path) -> Task:
    splits: dict[str, list[Example]] = {"train": [], "validation": [], "test": []}
    seen: set[str] = set()
    examples = read_examples(path)
    for example in examples:
        text = normalize(example.prompt)
        if text not in seen:
            seen.add(text)
            splits[split_by_hash(normalize(example.opening))].append(example)
    return Task(path.stem, None, splits, {"duplicates": len(examples) - len(seen)})


def split_by_hash(text: str, *, validation: int = VALIDATION_SHARE, test: int = TEST_SHARE) -> str:
    """The split that a text belongs to, from nothing but the text; shares are in percent."""
    percent = int.from_bytes(sha256(text.encode()).digest()[:8]) % 100
    if percent < test:
        return "test"
    return "validation" if percent < test + validation else "train"


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
