"""Settings of every row, chosen on validation, once, before a test is opened.

``chosen.json``: ``about`` is what was compared, on which examples; ``rows`` has for each row with a
grid its losses by point and group, and the point taken; ``groups`` what each group's greedy soup
and learned weights came out as.
"""

import json
from collections.abc import Iterator, Mapping
from typing import Any

import numpy as np

from experiments.areas.area import Row
from experiments.areas.members import GroupMembers, load_base, load_group
from experiments.areas.steps import Step
from experiments.areas.study import Study, read, write_json
from experiments.areas.validation import ValidationLoss
from lorafuse_jax.fusion import OPERATORS
from lorafuse_jax.fusion.learned.greedy_soup import greedy_soup
from lorafuse_jax.fusion.learned.learn_weights import learn_weights
from lorafuse_jax.models.hub import Model
from lorafuse_jax.names import for_model
from lorafuse_jax.run_folder import RunFolder
from lorafuse_jax.types import Adapter, UserError
from lorafuse_jax.workflow.landscape_losses import LossFile
from lorafuse_jax.workflow.progress import meter
from lorafuse_jax.workflow.run_examples import examples_of_run


def choosing_steps(study: Study) -> Iterator[Step]:
    """Losses of every group that counts, and what is chosen by them."""
    counted = _counted(study)
    for run in study.groups:
        yield Step(
            title=f"validation losses of {run.path.name}",
            run=lambda r=run: measure(study, r, grids=r in counted),
            inputs=lambda r=run: [_about(study), load_group(r).members.hashes],
            outputs=[study.losses_path(run)],
        )
    yield Step(
        title="choose settings",
        run=lambda: choose(study),
        inputs=lambda: _about(study),
        outputs=[study.chosen_path],
    )


def measure(study: Study, run: RunFolder, *, grids: bool) -> None:
    """Losses of one group's rows, at every point of their grids or without these alone.

    Also what is made by looking at losses: the greedy soup, and learned weights.

    Args:
        study: gives the rows.
        run: the group's.
        grids: whether this group counts in choosing settings.
    """
    group, model = load_group(run), load_base(run)
    examples = examples_of_run(run, model, "validation", study.area.validation_examples)
    loss = ValidationLoss(model, examples)
    path = study.losses_path(run)
    path.parent.mkdir(parents=True, exist_ok=True)
    about = {
        "members": list(group.members.hashes),
        "examples": [example.id for example in examples],
        "tokens": loss.tokens.tolist(),
    }
    file = LossFile(path, about)
    points = dict(_points(study, grids=grids))
    with meter(path.stem, len(points), len(points.keys() & file.losses.keys())) as progress:
        for name, (row, settings) in points.items():
            if name not in file.losses:
                adapter = group.fused(row.operator, settings, model)
                file.add([name], loss.losses(adapter)[None])
                progress.advance(1, name)
    found_path = path.with_suffix(".made.json")
    made = read(found_path, "") if found_path.exists() else {}
    for row in study.area.rows:
        if row.operator in MAKE and row.operator not in made:
            made[row.operator] = MAKE[row.operator](study, group, model, loss)
            write_json(found_path, made)


def choose(study: Study) -> None:
    """Write ``chosen.json``.

    Raises:
        UserError: something else was chosen before, and a test has been opened.
    """
    about = _about(study)
    if study.opened_path.exists() and study.chosen()["about"] != about:
        raise UserError(
            f"{study.chosen_path}: rows, grids or validation examples are others than those that "
            "were chosen from before the first test was opened, and what was chosen stays; go back "
            "to them, or start anew in another folder"
        )
    if study.opened_path.exists():
        return
    files = {run.path.name: read(study.losses_path(run), "") for run in _counted(study)}
    rows = {row.name: _chosen(row, files) for row in study.area.rows if row.grid}
    made = [study.losses_path(run).with_suffix(".made.json") for run in study.groups]
    groups = {
        run.path.name: read(path, "") if path.exists() else {}
        for run, path in zip(study.groups, made, strict=True)
    }
    write_json(study.chosen_path, {"about": about, "rows": rows, "groups": groups})


def settings_of(row: Row, chosen: Mapping[str, Any]) -> dict[str, Any]:
    """A row's settings, as they are or as they were chosen."""
    return chosen["rows"][row.name]["settings"] if row.grid else dict(row.settings)


def _about(study: Study) -> dict[str, Any]:
    """What the choice is made from."""
    area = study.area
    rows = [
        [row.name, row.operator, dict(row.settings), {k: list(v) for k, v in row.grid.items()}]
        for row in area.rows
    ]
    about = {
        "rows": rows,
        "validation_examples": area.validation_examples,
        "choose_on": area.choose_on,
        "learning_steps": area.learning_steps,
    }
    return json.loads(json.dumps(about))


def _counted(study: Study) -> list[RunFolder]:
    return study.groups[:1] if study.area.choose_on == "first" else study.groups


def _points(study: Study, *, grids: bool) -> Iterator[tuple[str, tuple[Row, dict[str, Any]]]]:
    """Name -> row and settings, of all that is not made by looking at losses or other data."""
    for row in study.area.rows:
        if not row.needs_data:
            for settings in row.points() if grids else [dict(row.settings)]:
                yield point_name(row.operator, settings), (row, settings)


def point_name(operator: str, settings: Mapping[str, Any]) -> str:
    """``ties(density=0.5, factor=1.5)``."""
    listed = ", ".join(f"{key}={value}" for key, value in sorted(settings.items()))
    return f"{operator}({listed})"


def _chosen(row: Row, files: Mapping[str, Mapping[str, Any]]) -> dict[str, Any]:
    """The point with the lowest loss a token, mean over groups."""
    tried, means = [], []
    for settings in row.points():
        name = point_name(row.operator, settings)
        losses = {
            group: float(np.sum(file["losses"][name]) / np.sum(file["about"]["tokens"]))
            for group, file in files.items()
        }
        means.append(float(np.mean(list(losses.values()))))
        tried.append({"settings": settings, "loss": means[-1], "by_group": losses})
    best = int(np.argmin(means))
    return {"settings": tried[best]["settings"], "loss": means[best], "tried": tried}


def _greedy_soup(
    study: Study, group: GroupMembers, model: Model, loss: ValidationLoss
) -> dict[str, Any]:
    def score(adapter: Adapter) -> float:
        return -loss.mean(loss.losses(for_model(adapter, model)))

    found = greedy_soup(group.members.stacked, score)
    weights = [0.0] * len(group.members.names)
    for member in found.members:
        weights[member] = 1 / len(found.members)
    return {"members": list(found.members), "weights": weights, "loss": -found.score}


def _learned_weights(
    study: Study, group: GroupMembers, model: Model, loss: ValidationLoss
) -> dict[str, Any]:
    """A weight a member and module, by gradient from their mean (arXiv 2410.13025)."""
    stacked = for_model(group.members.stacked, model)
    batches = [(batch, model.params) for batch in loss.batches]
    steps = study.area.learning_steps
    found = learn_weights(OPERATORS["mean"], stacked, loss.of_batch, batches, steps=steps)
    names = for_model({module: module for module in group.members.stacked}, model)
    weights = {names[module]: np.asarray(own).tolist() for module, own in found.weights.items()}
    return {"weights": weights, "loss": loss.mean(loss.losses(found.adapter))}


MAKE = {"greedy_soup": _greedy_soup, "learned_weights": _learned_weights}
"""What a group's own losses decide."""
