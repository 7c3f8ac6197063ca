"""IFEval and IFBench: prompts with instructions, in the originals' columns."""

import json
from pathlib import Path

from lorafuse_jax.assets.task_files import describe, write_rows

IFEVAL = "eval_framework/tasks/ifeval/data/input_data.jsonl"
IFBENCH = "ifbench/data/IFBench_test.jsonl"
DOWNLOADED = {"ratio:stop_words", "words:start_verb"}
"""Kinds of IFBench whose rules need data of NLTK's that no package has."""


def prepare_ifeval(source: Path, folder: Path) -> None:
    """All prompts, as they are."""
    _write(folder, "ifeval", _rows(source / IFEVAL))


def prepare_ifbench(source: Path, folder: Path) -> None:
    """The prompts whose instructions can be checked without a network."""
    rows = _rows(source / IFBENCH)
    _write(
        folder,
        "ifbench-276",
        [row for row in rows if not DOWNLOADED & set(row["instruction_id_list"])],
    )


def _rows(file: Path) -> list[dict]:
    return [json.loads(line) for line in file.read_text(encoding="utf-8").splitlines()]


def _write(folder: Path, name: str, rows: list[dict]) -> None:
    write_rows(folder / "train.jsonl", rows)
    describe(folder, name, f"{len(rows)} prompts with instructions", None)
