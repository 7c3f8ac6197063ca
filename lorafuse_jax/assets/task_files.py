"""How a prepared task is written: a JSONL file a split, and task.json."""

import json
import re
from collections.abc import Iterable
from hashlib import sha256
from pathlib import Path


def normalized(text: str) -> str:
    """Text without case, punctuation and spacing."""
    return " ".join(re.findall(r"[^\W_]+", text.lower()))


def text_hash(text: str) -> int:
    """A number from nothing but the text."""
    return int.from_bytes(sha256(text.encode()).digest()[:8])


def hash_percent(text: str) -> int:
    """Likewise, in [0, 100)."""
    return text_hash(text) % 100


def hash_split(text: str) -> str:
    """The split that a text belongs to, 80 / 10 / 10."""
    percent = hash_percent(text)
    return "test" if percent < 10 else "validation" if percent < 20 else "train"


def mixed(rows: Iterable[dict]) -> list[dict]:
    """In an order that only the ids decide, so that the first so many are of every kind."""
    return sorted(rows, key=lambda row: sha256(row["id"].encode()).digest())


def write_rows(path: Path, rows: Iterable[dict]) -> None:
    """One JSON object a line."""
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))


def describe(
    folder: Path, name: str, about: str, template: str | None, checker: str | None = None
) -> None:
    """Write task.json; without a template, the model's own is taken, without a checker numbers."""
    task = {"name": name, "about": about, "template": template, "checker": checker}
    (folder / "task.json").write_text(json.dumps(task, indent=2) + "\n")
