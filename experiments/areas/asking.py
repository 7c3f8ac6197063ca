"""Tests: base, seeds, fused adapters, ensembles and controls of every group answer the same."""

from collections.abc import Iterator
from typing import Any

from experiments.areas.area import Group
from experiments.areas.fusing import subsets_of_curve
from experiments.areas.steps import Step
from experiments.areas.study import Study
from lorafuse_jax.run_folder import RunFolder
from lorafuse_jax.workflow.beside import Beside
from lorafuse_jax.workflow.evaluate import evaluate


def asking_steps(study: Study) -> Iterator[Step]:
    """A step a test and group; the first group's first, whose base the others take over."""
    for test in study.area.tests:
        for number, run in enumerate(study.groups):
            yield Step(
                title=f"ask {run.path.name}: {test}",
                run=lambda n=number, t=test: ask_group(study, n, t),
                inputs=lambda t=test, r=run: [study.chosen(), _asked(study, t), r.fused_names()],
                outputs=[run.evaluations_path],
            )
    curve = study.area.curve
    for test in curve.tests if curve is not None else ():
        yield Step(
            title=f"ask the curve: {test}",
            run=lambda t=test: ask_curve(study, t),
            inputs=lambda t=test: [study.chosen(), _asked(study, t), curve],
            outputs=[study.curve.evaluations_path],
        )


def ask_group(study: Study, number: int, test: str) -> None:
    """One test of one group, and of the controls that go with it.

    Args:
        study: where everything is.
        number: of the group, from 0.
        test: one of the area's.

    Raises:
        UserError: nothing was chosen on validation yet, or it was changed after a test was opened;
            something is not trained or fused yet.
    """
    study.open_tests()
    run = study.groups[number]
    beside = controls_of(study, number)
    others = [one for one in study.groups if one != run and one.evaluations_path.exists()]
    _evaluate(study, run, test, beside, others)


def ask_curve(study: Study, test: str) -> None:
    """One test of the larger group and its subsets' fused adapters; raises as ``ask_group``."""
    study.open_tests()
    beside = [Beside(path.name, path, "subset") for path, _, _ in subsets_of_curve(study)]
    _evaluate(study, study.curve, test, beside, [study.groups[0]])


def controls_of(study: Study, number: int) -> list[Beside]:
    """The controls' adapters or models that go with one group."""
    found = []
    for control in study.area.controls:
        seeds = study.area.control_seeds(control)[number]
        run = study.control(control)
        for name, seed in zip(control_names(control.name, seeds), seeds, strict=True):
            found.append(Beside(name, run.adapter_path(seed)))
    return found


def control_names(name: str, seeds: Group) -> list[str]:
    """The same in every group: ``rank-24`` of one seed, ``dora-1``, ``dora-2``, ... of several."""
    if len(seeds) == 1:
        return [name]
    return [f"{name}-{number}" for number in range(1, len(seeds) + 1)]


def _asked(study: Study, test: str) -> list[Any]:
    area = study.area
    controls = [[one.name, one.seeds] for one in area.controls]
    return [test, area.tests[test], area.ensemble, controls]


def _evaluate(
    study: Study, run: RunFolder, test: str, beside: list[Beside], others: list[RunFolder]
) -> None:
    area = study.area
    evaluate(
        run,
        [test],
        area.tests[test],
        area.rows_at_once,
        beside=beside,
        ensemble=area.ensemble,
        known=others,
    )
