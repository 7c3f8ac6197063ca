"""Draws every table and figure of the study from the files in experiments/results/study.

    make study-report          # or .venv/bin/python -m experiments.study_report

A minute; no model is needed.
"""

from dataclasses import dataclass
from pathlib import Path

import tyro

from experiments.world.figures import world_figure
from experiments.world.language import TASKS
from experiments.world.tables import world_page
from lorafuse_jax.run_folder import write_atomically


@dataclass(frozen=True, kw_only=True)
class Report:
    """Tables and figures of what is there so far.

    Attributes:
        results: folder with the study's files; pages are written beside them.
    """

    results: Path = Path("experiments/results/study")


def main(report: Report) -> None:
    """Write ``world.md`` and a figure a task."""
    world = report.results / "world"
    write_atomically(report.results / "world.md", world_page(world))
    for task in TASKS:
        if (world / f"{task}-test.npz").exists():
            figure = world_figure(world, task)
            figure.savefig(report.results / f"world-{task}.png", dpi=110)


if __name__ == "__main__":
    main(tyro.cli(Report))
