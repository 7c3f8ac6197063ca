"""``lorafuse landscape`` as the command line has it."""

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import tyro

from lorafuse_jax.run_folder import RunFolder
from lorafuse_jax.workflow.landscape import LandscapeRequest, landscape


@dataclass(frozen=True, kw_only=True)
class Landscape:
    """Show the held-out loss between a run's seeds, by how many are fused, and by scale.

    lorafuse landscape runs/my --operators mean scaled_mean ties

    Attributes:
        run_folder: what lorafuse train wrote, with two seeds or more.
        operators: that fuse every subset of the seeds, with their default settings.
        examples: of the validation split, the first so many; those of the run's own held-out loss
            by default.
        simplex: three seeds to look among; the first three by default.
        subsets: of one size at most, and pairs for lines; beyond, so many are drawn.
        at_once: points computed together; as many as fit the memory by default, 8 at most.
    """

    run_folder: Annotated[tyro.conf.Positional[Path], tyro.conf.arg(name="run")]
    operators: tuple[str, ...] = ("mean", "scaled_mean")
    examples: int | None = None
    simplex: tuple[int, int, int] | None = None
    subsets: int = 20
    at_once: int | None = None

    def run(self) -> None:
        """Measure, then show."""
        request = LandscapeRequest(
            operators=self.operators,
            examples=self.examples,
            simplex=self.simplex,
            subsets=self.subsets,
            at_once=self.at_once,
        )
        landscape(RunFolder(self.run_folder), request)
