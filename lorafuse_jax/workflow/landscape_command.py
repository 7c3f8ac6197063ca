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

    Tells a gain by scale from one by fusion, and whether a barrier lies between two seeds. Writes
    tables, numbers and a figure into the run folder.

    Attributes:
        run_folder: what lorafuse train wrote, with two seeds or more.
        operators: how every subset of the seeds is fused, each with its default settings.
        examples: of the validation split, the first so many; those of the run's own held-out loss
            by default.
        simplex: three seeds, on whose triangle points are measured; the first three by default.
        subsets: the most of one size, and the most pairs, that are measured; of more, so many are
            drawn.
        at_once: points computed together; as many as fit the memory by default, 8 at most.
    """

    run_folder: Annotated[tyro.conf.Positional[Path], tyro.conf.arg(name="run", metavar="RUN")]
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
