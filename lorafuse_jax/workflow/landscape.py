"""``lorafuse landscape``: the held-out loss between a run's seeds, and by how many are fused."""

import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import jax
import numpy as np

from lorafuse_jax.data.encode import Encoded
from lorafuse_jax.formats.members import Members
from lorafuse_jax.full_rank import as_deltas
from lorafuse_jax.fusion import Operator
from lorafuse_jax.landscape.plan import make_plan
from lorafuse_jax.landscape.points import Subset
from lorafuse_jax.landscape.summary import Landscape, summarize_landscape
from lorafuse_jax.lora import check_fits
from lorafuse_jax.models.hub import Model
from lorafuse_jax.names import for_model
from lorafuse_jax.report.landscape import CAPTION, markdown, terminal_tables, verdict
from lorafuse_jax.report.landscape_figure import landscape_figure
from lorafuse_jax.run_folder import RunFolder, write_atomically
from lorafuse_jax.types import UserError
from lorafuse_jax.workflow.landscape_fused import FusedSubsets, default_operators
from lorafuse_jax.workflow.landscape_losses import LossFile, PointLosses, constant
from lorafuse_jax.workflow.members import base_of, members_of_run
from lorafuse_jax.workflow.progress import console, meter, print_table
from lorafuse_jax.workflow.run_examples import examples_of_run
from lorafuse_jax.workflow.run_lock import locked


@dataclass(frozen=True, kw_only=True)
class LandscapeRequest:
    """What to look at.

    Attributes:
        operators: whose fused adapters of every subset of the seeds.
        examples: of the validation split, the first so many; None is those of the run's own
            held-out loss.
        simplex: seeds of the triangle; None is the first three.
        subsets: of one size at most, and pairs for lines; beyond, so many are drawn.
        at_once: points computed together; None is as many as fit the memory.
    """

    operators: tuple[str, ...] = ("mean", "scaled_mean")
    examples: int | None = None
    simplex: tuple[int, ...] | None = None
    subsets: int = 20
    at_once: int | None = None


def landscape(run: RunFolder, request: LandscapeRequest) -> Landscape:
    """Measure, keep every example's loss in ``RUN/landscape/losses.json``, show, and draw.

    What was measured already is not measured again.

    Raises:
        UserError: the run has whole models or one seed alone, its data are not what they were, a
            wrong setting, or too little memory; before anything is measured.
    """
    members = members_of_run(run)
    seeds = run.trained_seeds()
    operators = _check(request, seeds)
    model = base_of(run)
    plan = make_plan(seeds, _corners(request, seeds), request.subsets)
    examples = _validation(run, model, request.examples)
    stacked = for_model(as_deltas(members.stacked) if members.full_rank else members.stacked, model)
    check_fits(jax.tree.map(lambda leaf: leaf[0], stacked), model.params)
    folder = run.path / "landscape"
    with locked(run.path):
        folder.mkdir(exist_ok=True)
        file = LossFile(folder / "losses.json", _about(run, members, examples))
        losses = PointLosses(model, stacked, examples, request.at_once)
        points = {name: constant(weights, stacked) for name, weights in plan.weights.items()}
        fused = [FusedSubsets(op, members, plan, points, model) for op in operators]
        total = {*points, *(name for one in fused for name in one.points.values())}
        for note in plan.notes():
            console.print(note)
        with meter("landscape", len(total), len(total & file.losses.keys())) as progress:

            def done(names: Sequence[str], found: np.ndarray) -> None:
                file.add(names, found)
                progress.advance(len(names), names[-1])

            missing = {n: point for n, point in points.items() if n not in file.losses}
            losses.mixtures(missing, done)
            for one in fused:
                open_names = [name for name in one.adapters if name not in file.losses]
                losses.adapters(open_names, one.adapter, done)
        tokens = np.array([float(example.loss_weight.sum()) for example in examples])
        by_operator = {one.op.name: one.points for one in fused}
        found = summarize_landscape(plan, by_operator, file.of, tokens)
        _write(found, run)
    _show(found, folder)
    return found


def _check(request: LandscapeRequest, seeds: Sequence[int]) -> list[Operator]:
    if len(seeds) < 2:
        raise UserError(f"seed {seeds[0]} is alone: there is no line to another; train more seeds")
    if request.subsets < 1 or (request.at_once or 1) < 1:
        raise UserError("--subsets and --at-once must be at least 1")
    if request.examples is not None and request.examples < 2:
        raise UserError("--examples must be at least 2, or there are no standard errors")
    return default_operators(request.operators)


def _corners(request: LandscapeRequest, seeds: Sequence[int]) -> Subset:
    if request.simplex is None:
        return (0, 1, 2) if len(seeds) > 2 else ()
    chosen = request.simplex
    if len(set(chosen)) != 3 or not set(chosen) <= set(seeds):
        raise UserError(
            f"--simplex {' '.join(map(str, chosen))}: name three different seeds of the run, of "
            f"{', '.join(map(str, seeds))}"
        )
    return tuple(seeds.index(seed) for seed in chosen)


def _validation(run: RunFolder, model: Model, count: int | None) -> list[Encoded]:
    """Examples of the run's validation split, the first as in its own held-out loss."""
    config = run.config()
    encoded = examples_of_run(run, model, "validation", count or config["heldout_examples"])
    if len(encoded) < 2:
        raise UserError(f"{config['data']} has one validation example; a landscape needs two")
    return encoded


def _about(run: RunFolder, members: Members, examples: Sequence[Encoded]) -> dict[str, Any]:
    """What losses depend on besides the point."""
    return {
        "model": run.config()["model_fingerprint"],
        "adapters": list(members.hashes),
        "template": run.config()["template"],
        "examples": [example.id for example in examples],
        "tokens": [float(example.loss_weight.sum()) for example in examples],
    }


def _write(found: Landscape, run: RunFolder) -> None:
    folder = run.path / "landscape"
    write_atomically(folder / "landscape.json", json.dumps(asdict(found)) + "\n")
    write_atomically(folder / "landscape.md", markdown(found))
    landscape_figure(found).savefig(folder / "landscape.png", dpi=130)


def _show(found: Landscape, folder: Path) -> None:
    for table in terminal_tables(found):
        print_table(table)
        console.print()
    console.print(CAPTION, style="dim", soft_wrap=False)
    for sentence in verdict(found):
        console.print(sentence)
    console.print(f"written: {folder}")
