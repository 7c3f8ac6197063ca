"""Steps that are done once: skipped where they are finished, resumed where they were stopped."""

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from experiments.areas.study import digest_of, read, write_json
from lorafuse_jax.workflow.progress import clock, console


@dataclass(frozen=True, kw_only=True)
class Step:
    """One piece of work.

    Attributes:
        title: what it is, once in all steps.
        inputs: what decides over its result; asked for when it is its turn.
        outputs: files and folders that are there when it is finished.
        run: does it, or goes on with it.
    """

    title: str
    run: Callable[[], None]
    inputs: Callable[[], Any]
    outputs: Sequence[Path] = field(default_factory=tuple)


def run_steps(steps: Sequence[Step], done_path: Path, hours: float | None) -> int:
    """Do what is not done yet, one after the other.

    Args:
        steps: in order.
        done_path: where it is kept what was done, with what inputs.
        hours: no step is begun after so much time.

    Returns:
        How many steps are left.
    """
    began = time.monotonic()
    done = read(done_path, "") if done_path.exists() else {}
    for number, step in enumerate(steps):
        inputs = digest_of(step.inputs())
        if done.get(step.title) == inputs and all(path.exists() for path in step.outputs):
            continue
        passed = time.monotonic() - began
        if hours is not None and passed > 3600 * hours:
            left = len(steps) - number
            console.print(
                f"{clock(passed)}: {left} of {len(steps)} steps are left; repeat to go on"
            )
            return left
        title = f"step {number + 1} of {len(steps)} · {step.title} · {clock(passed)}"
        console.rule(title, align="left")
        step.run()
        done |= {step.title: inputs}
        write_json(done_path, done)
    return 0
