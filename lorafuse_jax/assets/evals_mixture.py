"""OpenAI evals' registry as an instruction mixture: many small tasks with short answers."""

import json
from collections.abc import Iterator
from pathlib import Path

from lorafuse_jax.assets.task_files import (
    describe,
    hash_percent,
    hash_split,
    normalized,
    text_hash,
    write_rows,
)

DATA = "evals/registry/data"
LONGEST_PROMPT, LONGEST_ANSWER = 900, 60
"""In characters: what a small model reads and writes in a second."""

FEWEST, MOST = 20, 300
"""Examples of a task: smaller ones are left out, of larger ones the first are taken."""

HELD_OUT = 10
"""Percent of the tasks that only transfer asks."""


def prepare_evals_mixture(source: Path, folder: Path) -> None:
    """Train, validation and test from the same tasks, transfer from held-out ones.

    A task is a folder of the registry, so that variants of one stay together. Prompts are those of
    system and user, joined; examples with worked ones before them are left out. No prompt is taken
    twice. Rows stand in the order of their hash, so that the first so many are of all tasks.
    """
    splits: dict[str, list[dict]] = {
        split: [] for split in ("train", "validation", "test", "transfer")
    }
    taken: set[str] = set()
    tasks = 0
    for task in sorted((source / DATA).iterdir()):
        rows = _first_of(task, taken)
        if len(rows) < FEWEST:
            continue
        tasks += 1
        taken |= {normalized(row["prompt"]) for row in rows}
        held_out = hash_percent(task.name) < HELD_OUT
        for row in rows:
            splits["transfer" if held_out else hash_split(normalized(row["prompt"]))].append(row)
    for split, rows in splits.items():
        in_order = sorted(rows, key=lambda row: text_hash(normalized(row["prompt"])))
        write_rows(folder / f"{split}.jsonl", in_order)
    describe(folder, "evals-mixture", f"{tasks} tasks with short answers", None, "exact")


def _first_of(task: Path, taken: set[str]) -> list[dict]:
    rows, own = [], set()
    for prompt, answer in _pairs(task):
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
        if number == MOST:
            break
    return rows


def _pairs(task: Path) -> Iterator[tuple[str, str]]:
    """Prompts and answers that are short enough."""
    for file in sorted(task.rglob("*.jsonl")):
        for line in file.read_text(encoding="utf-8").splitlines():
            row = json.loads(line) if line.strip() else {}
            prompt, answer = _prompt(row.get("input")), _answer(row.get("ideal"))
            if prompt and answer and len(prompt) <= LONGEST_PROMPT:
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
    """The first of the answers that count as right; none if it is too long."""
    first = ideal[0] if isinstance(ideal, list) and ideal else ideal
    answer = first.strip() if isinstance(first, str) else ""
    return answer if len(answer) <= LONGEST_ANSWER else ""
