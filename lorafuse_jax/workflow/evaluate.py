"""``lorafuse evaluate``: base, seeds and fused adapters answer the same questions over one base."""

import re
from collections.abc import Sequence
from dataclasses import replace

from lorafuse_jax.evaluation.archive import Archive
from lorafuse_jax.generation.request import Engine
from lorafuse_jax.models.hub import Model
from lorafuse_jax.parallel.mesh import MeshShape
from lorafuse_jax.run_folder import RunFolder
from lorafuse_jax.text_generation import ROW_BUDGET, make_engine
from lorafuse_jax.types import UserError
from lorafuse_jax.workflow.answering import Asked, answer_all, answer_together
from lorafuse_jax.workflow.benchmarks import (
    Posed,
    benchmark_of,
    is_own,
    own_name,
    pose,
    pose_data,
)
from lorafuse_jax.workflow.beside import Beside, answers_elsewhere, check_beside
from lorafuse_jax.workflow.compared import by_weights, load_evaluated, load_member, read_all
from lorafuse_jax.workflow.compared_subsets import subset_members
from lorafuse_jax.workflow.cost import spending
from lorafuse_jax.workflow.method_full import is_whole_model
from lorafuse_jax.workflow.placement import placement_for_rows
from lorafuse_jax.workflow.programs import with_programs
from lorafuse_jax.workflow.progress import console
from lorafuse_jax.workflow.questions import requests_of
from lorafuse_jax.workflow.run_lock import locked


def evaluate(
    run: RunFolder,
    tasks: Sequence[str],
    limit: int | None = None,
    rows: int = ROW_BUDGET,
    *,
    checker: str | None = None,
    subsets: Sequence[str] = (),
    unsafe: bool = False,
    mesh: MeshShape | None = None,
    beside: Sequence[Beside] = (),
    ensemble: bool = False,
    known: Sequence[RunFolder] = (),
) -> None:
    """Let every model of the run answer, score the answers, and keep both in ``evaluations/``.

    Args:
        run: with its adapters, and fused ones.
        tasks: benchmarks, or data sets; see ``benchmarks.pose``. Empty is the run's own task.
        limit: the first so many examples of each; None is all.
        rows: decoded at once, over all models; fewer take less memory.
        checker: how answers of data sets are compared; None is as they say, or as numbers.
        subsets: operators whose fused adapters of every subset of the seeds answer as well.
        unsafe: run programs that models wrote even where they cannot be isolated.
        mesh: how the devices share the work; by default all of them.
        beside: models from elsewhere that answer as well.
        ensemble: whether the seeds answer together as well, by the mean of their logits.
        known: other runs over the same base: what they have answered with the same weights, such
            as the base itself, is not asked again.

    Raises:
        UserError: something in the run or the tasks is missing or does not fit, programs cannot be
            isolated, or decoding would need more memory than there is; before anything is asked.
    """
    if limit is not None and limit < 2:
        raise UserError(f"--limit {limit} is too few for statistics: ask 2 or more")
    config = run.config()
    posed = [pose(name, limit, checker) for name in tasks]
    posed = posed or [pose_data(config["data"], limit, checker)]
    posed = [replace(one, benchmark=with_programs(one.benchmark, unsafe=unsafe)) for one in posed]
    _check(posed)
    check_beside(beside, run)
    if ensemble:
        _check_ensemble(run)
    compared = 1 + len(run.trained_seeds()) + len(run.fused_names()) + len(beside)
    placement = placement_for_rows(mesh, members=compared, rows=max(1, rows // compared))
    model, members = load_evaluated(run, placement, dense_apart=True)
    members += subset_members(run, model, subsets)
    members += [
        load_member(one.name, one.kind, one.folder, model, dense_apart=True) for one in beside
    ]
    asked = [prepare(run, one, model, config["template"]) for one in posed]
    with locked(run.path):
        for one in asked:
            one.archive.open_for(_about(one.posed, config["template"]), one.posed.questions)
            _note(one.archive, beside)
        for one in asked:
            one = replace(one, elsewhere=answers_elsewhere(one.archive, run, known))
            with spending(run, "evaluate", one.posed.label) as counts:
                for own_model, some in by_weights(model, members, placement):
                    answer_all(one, own_model, some, rows, counts, placement)
                if ensemble:
                    seeds = read_all([m for m in members if m.kind == "seed"], model)
                    answer_together(one, model, seeds, rows, counts, placement)
            one.archive.score(one.posed.benchmark)


def _check(posed: Sequence[Posed]) -> None:
    seen: dict[str, str] = {}
    for one in posed:
        if len(one.questions) < 2:
            raise UserError(f"{one.label}: one question is too few for statistics; ask two or more")
        if one.label in seen:
            raise UserError(
                f"{one.asked_as} and {seen[one.label]} are both called {one.label}, and their "
                "answers would be mixed: rename one"
            )
        seen[one.label] = one.asked_as


def _check_ensemble(run: RunFolder) -> None:
    seeds = run.trained_seeds()
    if len(seeds) < 2:
        raise UserError(f"{run.path} has one seed alone: an ensemble is of two or more")
    if any(is_whole_model(run.adapter_path(seed)) for seed in seeds):
        raise UserError(
            f"{run.path} was trained with --method full: its seeds have no base in common, over "
            "which they could answer together; leave --ensemble out"
        )


def _note(archive: Archive, beside: Sequence[Beside]) -> None:
    """Keep where controls came from, for the command that does all this again."""
    asked = archive.asked()
    folders = {one.name: str(one.folder) for one in beside if one.kind == "control"}
    if folders:
        archive.describe(asked | {"beside": asked.get("beside", {}) | folders})


def rescore(run: RunFolder, *, checker: str | None = None, unsafe: bool = False) -> None:
    """Score all answers of a run anew; no model is needed.

    Args:
        run: with answers.
        checker: by which the answers of data sets are compared from now on; None is as before.
        unsafe: as for ``evaluate``.

    Raises:
        UserError: there are none, or what a scorer needs is not there.
    """
    with locked(run.path):
        for archive in archives_of(run):
            asked = archive.asked()
            if checker is not None and is_own(asked):
                asked = asked | {"benchmark": own_name(checker, archive.questions())}
            benchmark = with_programs(benchmark_of(asked), unsafe=unsafe)
            count = archive.score(benchmark, anew=True)
            archive.describe(asked)
            console.print(f"{asked['label']}: {count} answers scored")


def archives_of(run: RunFolder) -> list[Archive]:
    """What was evaluated, the first first.

    Raises:
        UserError: nothing was.
    """
    folders = {file.parent for file in run.evaluations_path.glob("*/task.json")}
    if not folders:
        raise UserError(f"{run.path} has no answers yet; lorafuse evaluate makes them")
    age = lambda folder: ((folder / "task.json").stat().st_mtime_ns, folder.name)  # noqa: E731
    return [Archive(folder) for folder in sorted(folders, key=age)]


def prepare(run: RunFolder, posed: Posed, model: Model, template: str) -> Asked:
    """A benchmark's requests, and the folder for its answers.

    Raises:
        UserError: a question does not fit the model.
    """
    archive = Archive(run.evaluations_path / re.sub("[/:]", "-", posed.label))
    return Asked(posed, requests_of(posed, model, template), archive, _engine(posed, model), {})


def _engine(posed: Posed, model: Model) -> Engine:
    """Stop strings that are single special tokens end answers as tokens: no text shows them."""
    stops = posed.convention.decoding.stop_strings
    return make_engine(
        model, [stop for stop in stops if stop in model.tokenizer.all_special_tokens]
    )


def _about(posed: Posed, template: str) -> dict:
    convention = posed.convention
    framing = template if convention.framing == "trained" else convention.framing
    return {
        "label": posed.label,
        "benchmark": posed.benchmark.name,
        "asked_as": posed.asked_as,
        "framing": framing,
        "decoding": list(map(_jsonable, convention.decoding)),
        "likelihood": all(len(q.references) == 1 for q in posed.questions),
    }


def _jsonable(value):
    return list(value) if isinstance(value, tuple) else value
