"""What a study's tests came out as: matrices of models and examples, a group each."""

from dataclasses import replace

import numpy as np

from experiments.areas.area import Area
from experiments.areas.asking import control_names
from experiments.areas.study import Study
from lorafuse_jax.evaluation.archive import Archive
from lorafuse_jax.evaluation.scores import Scores
from lorafuse_jax.run_folder import RunFolder
from lorafuse_jax.types import UserError
from lorafuse_jax.workflow.evaluate import archives_of


def archive_of(run: RunFolder, test: str) -> Archive:
    """The folder of a test's answers.

    Raises:
        UserError: it was not asked.
    """
    for archive in archives_of(run):
        if archive.asked()["asked_as"] == test:
            return archive
    raise UserError(f"{run.path} has no answers to {test} yet")


def scores_of(study: Study, run: RunFolder, test: str) -> Scores:
    """Of one run; fused adapters that are no row any more are left out."""
    archive = archive_of(run, test)
    rows = {row.name for row in study.area.rows}
    fused = {one.model for one in archive.answers().values() if one.kind == "fused"}
    return archive.scores(without=fused - rows)


def with_mean_controls(scores: Scores, area: Area) -> Scores:
    """Controls of several seeds a group as one row each: the mean of the seeds' values."""
    for control in area.controls:
        if control.seeds == "all":
            names = control_names(control.name, area.groups[0])
            rows = [scores.models.index(name) for name in names]
            scores = _as_one(scores, rows, control.name)
    return scores


def _as_one(scores: Scores, rows: list[int], name: str) -> Scores:
    """Some rows replaced by their mean, where the first of them stood; it has no answers."""
    first, rest = rows[0], set(rows[1:])
    kept = [n for n in range(len(scores.models)) if n not in rest]

    def averaged(values: np.ndarray) -> np.ndarray:
        mean = values[rows].mean(axis=0)
        return np.stack([mean if n == first else values[n] for n in kept])

    nothing: list[str | None] = [None] * len(scores.ids)
    likelihood = scores.log_likelihood
    return replace(
        scores,
        models=[name if n == first else scores.models[n] for n in kept],
        kinds=[scores.kinds[n] for n in kept],
        values={metric: averaged(values) for metric, values in scores.values.items()},
        log_likelihood=None if likelihood is None else averaged(likelihood),
        answers=[nothing if n == first else scores.answers[n] for n in kept],
        faults=[nothing if n == first else scores.faults[n] for n in kept],
    )
