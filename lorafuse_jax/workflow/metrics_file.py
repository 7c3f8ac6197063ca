"""``metrics.jsonl`` while it is written: a checkpoint knows how far it goes, and what it says.

A line a step and seed, ``{"step", "seed", "train_loss", "heldout_loss", "tokens", "tokens_per_s",
"peak_share"}``, without ``heldout_loss`` between evaluations; ``tokens`` are real ones, of all
seeds. The step at which a seed was frozen has ``{"step", "seed", "frozen_at"}`` for it, and no line
comes after. The fused adapter has ``{"step", "fused": operator, "heldout_loss"}``. All but
``tokens_per_s`` (over all seeds) and ``peak_share`` (needed matrix arithmetic over the machine's
peak) is the same in a resumed run.
"""

import hashlib
import json
import os
from pathlib import Path
from types import TracebackType
from typing import Any

from lorafuse_jax.types import UserError


class MetricsFile:
    """The file, open at its end."""

    def __init__(self, path: Path, mark: dict[str, Any] | None, *, writes: bool = True) -> None:
        """Cut the file back to a mark, and open it.

        Args:
            path: the file; made if it is not there.
            mark: from ``mark()``; None is the beginning.
            writes: of several hosts one does; the others keep in memory what it writes.

        Raises:
            UserError: what stands before the mark is not what was written.
        """
        length = mark["bytes"] if mark else 0
        self._writes = writes
        self._file = path.open("ab+" if writes else "rb", buffering=0)
        self._file.seek(0)
        before = _read_fully(self._file, length)
        self._digest = hashlib.sha256(before)
        if mark and self._digest.hexdigest() != mark["sha256"]:
            self._file.close()
            raise UserError(
                f"{path} is not what it was when the checkpoint was written; put it back, or "
                f"remove {path.parent / 'checkpoints'} and it to start this run again"
            )
        if writes:
            self._file.truncate(length)
        self._length = length
        self.lines: list[dict] = [json.loads(line) for line in before.splitlines()]

    def append(self, lines: list[dict]) -> None:
        """Write lines; they outlive this process as soon as this returns."""
        content = b"".join(json.dumps(line, allow_nan=False).encode() + b"\n" for line in lines)
        written = 0
        while self._writes and written < len(content):
            written += self._file.write(content[written:]) or 0
        self._digest.update(content)
        self._length += len(content)
        self.lines += lines

    def mark(self) -> dict[str, Any]:
        """Where the file ends, after all of it is on the disk."""
        os.fsync(self._file.fileno())
        return {"bytes": self._length, "sha256": self._digest.hexdigest()}

    def __enter__(self) -> "MetricsFile":
        return self

    def __exit__(
        self, kind: type | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._file.close()


def _read_fully(file: Any, length: int) -> bytes:
    content = b""
    while len(content) < length and (more := file.read(length - len(content))):
        content += more
    return content
