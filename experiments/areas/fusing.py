"""Every row's fused adapter of every group, with what was chosen, into the groups' ``fused/``."""

from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

from experiments.areas.area import Row
from experiments.areas.choosing import settings_of
from experiments.areas.members import GroupMembers, load_base, load_group
from experiments.areas.statistics_of_data import fisher, regmean
from experiments.areas.steps import Step
from experiments.areas.study import Study
from lorafuse_jax.formats import is_adapter, load_members, save_adapter
from lorafuse_jax.fusion import OPERATORS
from lorafuse_jax.fusion.learned.learn_weights import fuse_weighted
from lorafuse_jax.run_folder import RunFolder, versions
from lorafuse_jax.types import Adapter
from lorafuse_jax.workflow.cost import spending
from lorafuse_jax.workflow.fuse import FuseRequest, fuse


def fusing_steps(study: Study) -> Iterator[Step]:
    """A step a group, and one of the larger group's subsets."""
    for run in study.groups:
        yield Step(
            title=f"fuse {run.path.name}",
            run=lambda r=run: fuse_group(study, r),
            inputs=lambda r=run: [study.chosen(), load_group(r).members.hashes, _statistic(study)],
            outputs=[run.fused_path(row.name) for row in study.area.rows],
        )
    if study.area.curve is not None:
        yield Step(
            title="fuse subsets of the curve",
            run=lambda: fuse_subsets(study),
            inputs=lambda: [study.chosen(), study.area.curve],
            outputs=[path for path, _, _ in subsets_of_curve(study)],
        )


def fuse_group(study: Study, run: RunFolder) -> None:
    """All rows of one group; those that are there stay."""
    chosen, group = study.chosen(), load_group(run)
    fingerprint = run.config()["model_fingerprint"]
    for row in study.area.rows:
        out = run.fused_path(row.name)
        if is_adapter(out):
            continue
        with spending(run, "fuse", row.name) as counts:
            if row.needs_data:
                _save(study, row, group, chosen, out)
            else:
                request = _request(row, group.settled(settings_of(row, chosen)))
                fuse(group.members, request, out, base_fingerprint=fingerprint)
            counts["members"] += len(group.members.names)


def fuse_subsets(study: Study) -> None:
    """The curve's rows of every subset of its seeds."""
    chosen, run = study.chosen(), study.curve
    config = run.config()
    for out, row, subset in subsets_of_curve(study):
        if not is_adapter(out):
            members = load_members(
                [run.adapter_path(s) for s in subset], base_model=config["model"]
            )
            about = {"base_fingerprint": config["model_fingerprint"]}
            fuse(members, _request(row, settings_of(row, chosen)), out, **about)


def subsets_of_curve(study: Study) -> list[tuple[Path, Row, tuple[int, ...]]]:
    """Folder, row and seeds of each: seeds dealt out in their order, what is left over left out."""
    curve = study.area.curve
    if curve is None:
        return []
    found = []
    for size in curve.sizes:
        for start in range(0, len(curve.seeds) - size + 1, size):
            subset = curve.seeds[start : start + size]
            for name in curve.rows:
                folder = f"{name}({'+'.join(map(str, subset))})"
                path = study.curve.path / "subsets" / folder
                found.append((path, study.area.row(name), subset))
    return found


def _request(row: Row, settings: Mapping[str, Any]) -> FuseRequest:
    return FuseRequest(
        operator=row.operator,
        settings=tuple(f"{key}={_said(value)}" for key, value in settings.items()),
    )


def _said(value: Any) -> str:
    """As on a command line."""
    if isinstance(value, bool):
        return str(value).lower()
    return "none" if value is None else str(value)


def _statistic(study: Study) -> int:
    return study.area.statistic_examples


def _save(
    study: Study, row: Row, group: GroupMembers, chosen: Mapping[str, Any], out: Path
) -> None:
    """A row that is made with the model and examples."""
    adapter, how = _MAKE[row.operator](study, row, group, chosen)
    provenance = {
        "operator": row.operator,
        "hyperparameters": dict(row.settings),
        "rank": None,
        "weights": None,
        "key_seed": None,
        "members": [
            {"name": Path(name).name, "sha256": digest}
            for name, digest in zip(group.members.names, group.members.hashes, strict=True)
        ],
        "versions": versions(),
        "base_fingerprint": group.run.config()["model_fingerprint"],
        **how,
    }
    save_adapter(
        out,
        adapter,
        base_model=group.members.base_model,
        provenance=provenance,
        carried=group.members.carried,
    )


Made = tuple[Adapter, dict[str, Any]]
"""An adapter with Hugging Face's module paths, and what decided over it."""


def _weighted(study: Study, row: Row, group: GroupMembers, chosen: Mapping[str, Any]) -> Made:
    """A mean with weights of its own, of each member, or of each member and module."""
    found = chosen["groups"][group.run.path.name][row.operator]
    weights = found["weights"]
    by_module = weights if isinstance(weights, dict) else {"": weights}
    arrays = {module: _array(own) for module, own in by_module.items()}
    adapter = fuse_weighted(OPERATORS["mean"], group.members.stacked, arrays)
    return adapter, {"chosen": found}


def _array(values: list[float]) -> Any:
    import jax.numpy as jnp  # noqa: PLC0415

    return jnp.asarray(values)


def _fisher(study: Study, row: Row, group: GroupMembers, chosen: Mapping[str, Any]) -> Made:
    model, count = load_base(group.run), study.area.statistic_examples
    return fisher(group, model, count, row.settings), {"examples": count}


def _regmean(study: Study, row: Row, group: GroupMembers, chosen: Mapping[str, Any]) -> Made:
    model, count = load_base(group.run), study.area.statistic_examples
    return regmean(group, model, count, row.settings), {"examples": count}


_MAKE: dict[str, Callable[[Study, Row, GroupMembers, Mapping[str, Any]], Made]] = {
    "greedy_soup": _weighted,
    "learned_weights": _weighted,
    "fisher": _fisher,
    "regmean": _regmean,
}
