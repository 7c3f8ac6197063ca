"""Verdicts kept on disk, under the hash of all that they depend on: a line each.

A program that was timed out is not kept: on a machine that is less busy it may end.
"""

import hashlib
import json
import platform
import threading
from dataclasses import asdict
from functools import cache
from importlib.metadata import version
from pathlib import Path

from lorafuse_jax.evaluation.sandbox.program import Limits, Program, Verdict

NAME = "verdicts.jsonl"


class Verdicts:
    """A folder's verdicts, or without a folder this object's own; threads may share it."""

    def __init__(self, folder: Path | None):
        self._path = None if folder is None else folder / NAME
        self._lock = threading.Lock()
        self._known: dict[str, Verdict] = {}
        data = self._path.read_bytes() if self._path and self._path.exists() else b""
        # A line that a killed process left unfinished, or that was damaged, decides nothing.
        self._torn = bool(data) and not data.endswith(b"\n")
        for line in data.split(b"\n"):
            try:
                row = json.loads(line)
                key = row.pop("key")
                self._known[key] = Verdict(**row)
            except (ValueError, TypeError, KeyError, AttributeError):
                continue

    def get(self, key: str) -> Verdict | None:
        """The verdict, if there is one."""
        return self._known.get(key)

    def add(self, key: str, verdict: Verdict) -> None:
        """Keep a verdict."""
        if verdict.outcome == "timed out":
            return
        line = json.dumps({"key": key, **asdict(verdict)}) + "\n"
        with self._lock:
            self._known[key] = verdict
            if self._path is not None:
                self._path.parent.mkdir(parents=True, exist_ok=True)
                with self._path.open("ab") as file:
                    file.write(("\n" if self._torn else "").encode() + line.encode())
                self._torn = False


def key_of(program: Program, limits: Limits, kind: str) -> str:
    """The hash of what a verdict depends on: also Python, NumPy and the sandbox's own code."""
    python = (platform.python_implementation(), platform.python_version(), version("numpy"))
    depends = [asdict(program), asdict(limits), kind, python, _own_code()]
    return hashlib.sha256(json.dumps(depends).encode()).hexdigest()


@cache
def _own_code() -> str:
    files = sorted(Path(__file__).parent.rglob("*.py"))
    return hashlib.sha256(b"\0".join(file.read_bytes() for file in files)).hexdigest()
