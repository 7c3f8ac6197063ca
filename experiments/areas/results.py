"""All that is said of a study, as JSON: every row of every test, and what it was made from."""

from collections import defaultdict
from collections.abc import Sequence
from dataclasses import asdict
from typing import Any

from experiments.areas.answers import scores_of, with_mean_controls
from experiments.areas.contrasts import contrasts_of
from experiments.areas.study import Study, read
from experiments.areas.training import group_losses
from lorafuse_jax.evaluation.complementarity import complementarity
from lorafuse_jax.evaluation.lineup import Entrant, likelihoods_of, lineup
from lorafuse_jax.evaluation.scores import Scores
from lorafuse_jax.evaluation.seed_groups import GroupedSummary, summarize_groups
from lorafuse_jax.evaluation.statistics import crossed_estimate
from lorafuse_jax.evaluation.subsets import accuracy_by_size
from lorafuse_jax.run_folder import RunFolder, versions
from lorafuse_jax.workflow.cost import machine
from lorafuse_jax.workflow.members import best_seed

DIGITS = 6


def results_of(study: Study, command: str) -> tuple[dict[str, Any], list[GroupedSummary]]:
    """The content of ``AREA.json``, and the tables of its tests.

    Args:
        study: all of whose tests were asked.
        command: that made it.
    """
    area = study.area
    bests = [f"seed-{best_seed(run)}" for run in study.groups]
    names = [run.path.name for run in study.groups]
    tests, summaries = {}, []
    for test in area.tests:
        groups = [scores_of(study, run, test) for run in study.groups]
        groups = [with_mean_controls(one, area) for one in groups]
        summary = summarize_groups(groups, bests, names)
        summaries.append(summary)
        tests[test] = _test(study, summary, groups, bests)
    found = {
        "area": area.name,
        "command": command,
        "versions": versions(),
        "machine": machine(),
        "settings": asdict(area),
        "learning_rates": read(study.rates_path, ""),
        "chosen": _without_points(study),
        "best_on_validation": dict(zip(names, bests, strict=True)),
        "heldout_losses": {run.path.name: group_losses(run) for run in _runs(study)},
        "tests": tests,
        "curve": _curve(study),
        "costs": {run.path.name: _costs(run) for run in _runs(study)},
    }
    return _rounded(found), summaries


def _test(
    study: Study, summary: GroupedSummary, groups: Sequence[Scores], bests: Sequence[str]
) -> dict[str, Any]:
    lineups = [lineup(scores, best) for scores, best in zip(groups, bests, strict=True)]
    rows, by_name = [], {}
    for row in summary.rows:
        said = asdict(row)
        entrants = [_of_row(line, row.name, row.kind) for line in lineups]
        by_name[row.name] = entrants
        if all(one.log_likelihood is not None for one in entrants):
            likely = likelihoods_of(entrants)
            said["log_likelihood"] = asdict(crossed_estimate(likely, bounded=False).interval())
            said["log_likelihood_by_group"] = likely.mean(axis=1).tolist()
        rows.append(said)
    seeds = [{e.name: e.values.mean() for e in line if e.kind == "seed"} for line in lineups]
    return {
        "label": summary.task,
        "metric": summary.metric,
        "examples": summary.examples,
        "groups": summary.groups,
        "smallest_p": summary.smallest_p,
        "margin": summary.margin,
        "not_everywhere": summary.not_everywhere,
        "rows": rows,
        "contrasts": contrasts_of(study.area, by_name),
        "seeds": seeds,
        "other_metrics": _other_metrics(groups, bests),
        "overlap": [_overlap(s, line) for s, line in zip(groups, lineups, strict=True)],
    }


def _of_row(line: Sequence[Entrant], name: str, kind: str) -> Entrant:
    """The best seed has another name in every group."""
    return next(e for e in line if e.kind == kind and (kind == "best seed" or e.name == name))


def _other_metrics(groups: Sequence[Scores], bests: Sequence[str]) -> dict[str, Any]:
    """Means by group of what models are not compared by."""
    found: dict[str, dict[str, list[float]]] = {}
    for metric in list(groups[0].values)[1:]:
        by_row: dict[str, list[float]] = defaultdict(list)
        for scores, best in zip(groups, bests, strict=True):
            for one in lineup(scores, best, metric):
                if one.kind not in ("seed", "best seed"):
                    by_row[one.name].append(float(one.values.mean()))
        found[metric] = dict(by_row)
    return found


def _overlap(scores: Scores, line: list[Entrant]) -> dict[str, Any]:
    """What one group's models have right beyond one another; the examples are in the npz."""
    found = complementarity(scores, line)
    moved = {
        one.name: {
            "only_it": len(one.only_it),
            "lost_from_some": len(one.lost_from_some),
            "lost_from_all": len(one.lost_from_all),
        }
        for one in found.moved
    }
    kept = asdict(found)
    for matrix in ("models", "agree", "kappa", "same_answer"):
        del kept[matrix]
    return kept | {"moved": moved}


def _curve(study: Study) -> dict[str, Any]:
    """By number of seeds, a line a size."""
    curve = study.area.curve
    if curve is None:
        return {}
    return {
        test: [asdict(line) for line in accuracy_by_size(scores_of(study, study.curve, test), {})]
        for test in curve.tests
    }


def _without_points(study: Study) -> dict[str, Any]:
    """What was chosen, with the mean loss of everything that was tried."""
    chosen = study.chosen()
    rows = {
        name: own | {"tried": [[one["settings"], one["loss"]] for one in own["tried"]]}
        for name, own in chosen["rows"].items()
    }
    return {"rows": rows, "groups": chosen["groups"]}


def _runs(study: Study) -> list[RunFolder]:
    controls = [study.control(control) for control in study.area.controls]
    tuning = sorted(path for path in study.out.glob("tuning-*") if path.is_dir())
    curve = [] if study.area.curve is None else [study.curve]
    return [*map(RunFolder, tuning), *study.groups, *controls, *curve]


def _costs(run: RunFolder) -> dict[str, Any]:
    """By verb: seconds of the wall, the peak of memory, and what was counted."""
    found: dict[str, dict[str, Any]] = {}
    for line in run.costs():
        own = found.setdefault(line["verb"], {"seconds": 0.0, "peak_bytes": 0, "counts": {}})
        own["seconds"] += line["seconds"]
        own["peak_bytes"] = max(own["peak_bytes"], line["peak_bytes"])
        for name, count in line["counts"].items():
            own["counts"][name] = own["counts"].get(name, 0) + count
    return found


def _rounded(value: Any) -> Any:
    """Floats to so many digits, all the way down."""
    if isinstance(value, dict):
        return {str(key): _rounded(one) for key, one in value.items()}
    if isinstance(value, list | tuple):
        return [_rounded(one) for one in value]
    return float(f"{value:.{DIGITS}g}") if isinstance(value, float) else value
