"""The command line that all three areas have."""

import argparse
import shlex
import sys
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path

from experiments.areas.area import Area
from experiments.areas.asking import asking_steps
from experiments.areas.choosing import choosing_steps
from experiments.areas.fusing import fusing_steps
from experiments.areas.programs import kept_programs
from experiments.areas.recording import recording_steps
from experiments.areas.steps import Step, run_steps
from experiments.areas.study import Study
from experiments.areas.training import training_steps
from experiments.shard import MORE_LEFT
from lorafuse_jax.types import UserError
from lorafuse_jax.workflow.progress import console
from lorafuse_jax.workflow.run_lock import locked
from lorafuse_jax.workflow.stopping import Stopped

RESULTS = Path(__file__).parent.parent / "results" / "study"
KEPT = ("laptop", "paper")
"""Scales whose results go there; those of others stay in the study's own folder."""


def steps_of(study: Study, results: Path, command: str) -> list[Step]:
    """All of an area, in order."""
    return [
        *training_steps(study),
        *choosing_steps(study),
        *fusing_steps(study),
        *asking_steps(study),
        *recording_steps(study, results, command),
    ]


def run_area(study: Study, results: Path, command: str, hours: float | None = None) -> int:
    """Do what is left of an area.

    Args:
        study: what, and where.
        results: the folder for what is recorded.
        command: as it is recorded.
        hours: no step is begun after so much time.

    Returns:
        How many steps are left.

    Raises:
        UserError: something is missing or wrong, or another process is at work in the folder.
    """
    study.out.mkdir(parents=True, exist_ok=True)
    with locked(study.out), kept_programs(study.out / "compiled"):
        return run_steps(steps_of(study, results, command), study.out / "done.json", hours)


def main(
    config: Mapping[str, Area], script: str, about: str, arguments: Sequence[str] | None = None
) -> int:
    """Run an area from the command line.

    Args:
        config: scale -> the area.
        script: name of the module, for the recorded command.
        about: the module's docstring.
        arguments: of the command line; None is the process's own.

    Returns:
        The exit status: 0, ``MORE_LEFT`` where time was up, or 2 where something is wrong.
    """
    parser = argparse.ArgumentParser(description=about.partition("\n")[0])
    scale = parser.add_mutually_exclusive_group()
    scale.add_argument("--scale", choices=list(config), default="laptop")
    scale.add_argument("--smoke", action="store_const", dest="scale", const="smoke")
    parser.add_argument("--out", type=Path, help="the study's folder; runs/study/AREA by default")
    parser.add_argument("--model", help="folder or hub name, instead of the scale's own")
    parser.add_argument("--hours", type=float, help="begin no step after so much time")
    parser.add_argument("--results", type=Path, help="folder for what is recorded")
    given = parser.parse_args(arguments)
    area = config[given.scale]
    if given.model is not None:
        area = replace(area, single=replace(area.single, model=given.model))
    out = given.out or Path("runs") / "study" / area.name
    results = given.results or (RESULTS if given.scale.startswith(KEPT) else out / "results")
    words = ["python", "-m", f"experiments.{script}", "--scale", given.scale]
    command = shlex.join([*words, *(["--model", given.model] if given.model else [])])
    try:
        left = run_area(Study(area, out), results, command, given.hours)
    except UserError as error:
        print(f"{script}: {error}", file=sys.stderr)
        return 2
    except Stopped as stopped:
        console.print(str(stopped))
        return stopped.status
    return MORE_LEFT if left else 0
