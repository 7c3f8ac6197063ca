"""OpenAI evals' registry as an instruction mixture: many small tasks with short answers."""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

from lorafuse_jax.assets.task_files import (
    describe,
    hash_percent,
    hash_split,
    mixed,
    normalized,
    write_rows,
)
from lorafuse_jax.data.contamination import MOSTLY, contamination
from lorafuse_jax.data.rows import Example

DATA = "evals/registry/data"


class Selection(NamedTuple):
    """What is taken of the registry.

    Attributes:
        longest_prompt: in characters.
        longest_answer: in characters.
        ascii_only: leave out what has other letters and signs than English needs.
        fewest: examples of a task; smaller tasks are left out.
        most: examples of a task; of larger ones the first are taken.
        held_out: percent of the tasks that only transfer asks.
    """

    longest_prompt: int
    longest_answer: int
    ascii_only: bool
    fewest: int
    most: int
    held_out: int


ALL = Selection(900, 60, ascii_only=False, fewest=20, most=300, held_out=10)
ENGLISH = Selection(500, 40, ascii_only=True, fewest=20, most=60, held_out=20)
"""What a model of English alone reads and writes in a second; no task is most of it."""


def prepare_evals_mixture(source: Path, folder: Path) -> None:
    """Every kind of task; see ``_prepare``."""
    _prepare(source, folder, "evals-mixture", ALL)


def prepare_evals_english(source: Path, folder: Path) -> None:
    """Tasks in English, of fewer examples each; see ``_prepare``."""
    _prepare(source, folder, "evals-english", ENGLISH)


def _prepare(source: Path, folder: Path, name: str, selection: Selection) -> None:
    """Train, validation and test from the same tasks, transfer from held-out ones.

    A task is a folder of the registry, so that variants of one stay together; a held-out task whose
    instruction is in training all the same (another language's, say) is left out. Prompts are those
    of system and user, joined; examples with worked ones before them are left out. No prompt is
    taken twice. Tasks are mixed: what takes the first examples, as ``--limit`` does, takes some of
    many.
    """
    splits: dict[str, list[dict]] = {
        split: [] for split in ("train", "validation", "test", "transfer")
    }
    taken: set[str] = set()
    for task in sorted((source / DATA).iterdir()):
        rows = _first_of(task, taken, selection)
        if len(rows) < selection.fewest:
            continue
        taken |= {normalized(row["prompt"]) for row in rows}
        held_out = hash_percent(task.name) < selection.held_out
        for row in rows:
            splits["transfer" if held_out else hash_split(normalized(row["prompt"]))].append(row)
    splits["transfer"] = _unknown(splits["transfer"], splits["train"])
    for split, rows in splits.items():
        write_rows(folder / f"{split}.jsonl", mixed(rows))
    tasks = len({row["group"] for rows in splits.values() for row in rows})
    describe(folder, name, f"{tasks} tasks with short answers", None, "exact")


def _unknown(held_out: list[dict], train: list[dict]) -> list[dict]:
    """The held-out tasks of which no prompt is, for the most part, in training."""
    while held_out:
        asked = [_example(row, row["group"]) for row in held_out]
        found = contamination([_example(row) for row in train], asked)
        known = {overlap.where for overlap in found.worst if overlap.share >= MOSTLY}
        if not known:
            break
        held_out = [row for row in held_out if row["group"] not in known]
    return held_out


def _example(row: dict, where: str = "") -> Example:
    return Example(row["id"], row["prompt"], row["completion"], None, where)


def _first_of(task: Path, taken: set[str], selection: Selection) -> list[dict]:
    rows, own = [], set()
    for prompt, answer in _pairs(task, selection):
        text = normalized(prompt)
        if not text or text in taken or text in own:
            continue
        own.add(text)
        number = len(rows) + 1
        rows.append(
            {
                "id": f"{task.name}-{number}",
                "prompt": prompt,
                "completion": answer,
                "answer": answer,
                "group": task.name,
            }
        )
        if number == selection.most:
            break
    return rows


def _pairs(task: Path, selection: Selection) -> Iterator[tuple[str, str]]:
    """Prompts and answers that are short enough, and in a language that is taken."""
    for file in sorted(task.rglob("*.jsonl")):
        for line in file.read_text(encoding="utf-8").splitlines():
            row = json.loads(line) if line.strip() else {}
            prompt, answer = _prompt(row.get("input")), _answer(row.get("ideal"))
            short = len(prompt) <= selection.longest_prompt and (
                len(answer) <= selection.longest_answer
            )
            taken = (prompt + answer).isascii() or not selection.ascii_only
            if prompt and answer and short and taken:
                yield prompt, answer


def _prompt(asked: object) -> str:
    """The text of a prompt; none if it is no plain question."""
    if isinstance(asked, str):
        return asked.strip()
    if not isinstance(asked, list):
        return ""
    parts = []
    for turn in asked:
        plain = isinstance(turn, dict) and turn.keys() == {"role", "content"}
        if not plain or turn["role"] not in ("system", "user"):
            return ""
        parts.append(str(turn["content"]).strip())
    return "\n\n".join(part for part in parts if part)


def _answer(ideal: object) -> str:
    """The first of the answers that count as right."""
    first = ideal[0] if isinstance(ideal, list) and ideal else ideal
    return first.strip() if isinstance(first, str) else ""
