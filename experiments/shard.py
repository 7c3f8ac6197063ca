"""Long work in pieces: steps that are kept when done, and an end between two of them."""

import json
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from lorafuse_jax.run_folder import write_atomically
from lorafuse_jax.workflow.progress import console

MORE_LEFT = 3
"""Exit status of a shard that stopped in time; the same command goes on."""


class MoreLeft(SystemExit):
    """The time of this shard is over."""

    def __init__(self, step: str) -> None:
        """Say what comes next."""
        console.print(f"this shard's time is over; repeat the command to go on with {step}")
        super().__init__(MORE_LEFT)


class Shard:
    """The time there is, and the steps that were done in it."""

    def __init__(self, hours: float | None) -> None:
        """None is no limit."""
        self._began, self._hours = time.monotonic(), hours

    def step(self, name: str) -> None:
        """Say what begins now.

        Raises:
            MoreLeft: instead, if the time is over.
        """
        passed = (time.monotonic() - self._began) / 3600
        if self._hours is not None and passed >= self._hours:
            raise MoreLeft(name)
        console.print(f"{60 * passed:.0f} min · {name}")

    def kept(self, file: Path, name: str, make: Callable[[], Any]) -> Any:
        """What a JSON file holds; it is made in a step of that name if it is not there."""
        if not file.exists():
            self.step(name)
            made = make()
            file.parent.mkdir(parents=True, exist_ok=True)
            write_atomically(file, json.dumps(made, indent=1) + "\n")
        return json.loads(file.read_text())
