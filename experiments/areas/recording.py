"""``AREA.json``, ``AREA.md``, ``AREA-examples.npz``: small, and enough to redo the statistics."""

from collections.abc import Iterator
from pathlib import Path

from experiments.areas.answers import scores_of
from experiments.areas.examples_file import write_examples
from experiments.areas.results import results_of
from experiments.areas.steps import Step
from experiments.areas.study import Study, digest_of_file, write_json
from lorafuse_jax.report.sections.seed_groups import markdown
from lorafuse_jax.run_folder import write_atomically
from lorafuse_jax.workflow.progress import console


def recording_steps(study: Study, results: Path, command: str) -> Iterator[Step]:
    """The last step."""
    outputs = paths_of(study, results)
    yield Step(
        title="record",
        run=lambda: record(study, results, command),
        inputs=lambda: [digest_of_file(path) for path in sorted(_scored(study))],
        outputs=outputs,
    )


def record(study: Study, results: Path, command: str) -> None:
    """Write all three files.

    Args:
        study: all of whose tests were asked.
        results: the folder for them.
        command: that made it all.
    """
    results.mkdir(parents=True, exist_ok=True)
    data, table, examples = paths_of(study, results)
    found, summaries = results_of(study, command)
    write_json(data, found)
    text = "\n".join(f"## {one.task}\n\n{markdown(one)}" for one in summaries)
    write_atomically(table, f"# {study.area.name}\n\n`{command}`\n\n{text}")
    area = study.area
    matrices = {t: [scores_of(study, run, t) for run in study.groups] for t in area.tests}
    for test in area.curve.tests if area.curve is not None else ():
        matrices[f"curve/{test}"] = [scores_of(study, study.curve, test)]
    write_examples(examples, matrices)
    console.print(f"wrote {data}, {table.name} and {examples.name}")


def paths_of(study: Study, results: Path) -> list[Path]:
    """Results, tables, examples."""
    name = study.area.name
    return [results / f"{name}.json", results / f"{name}.md", results / f"{name}-examples.npz"]


def _scored(study: Study) -> list[Path]:
    runs = [*study.groups, *([] if study.area.curve is None else [study.curve])]
    return [path for run in runs for path in run.evaluations_path.glob("*/scores.jsonl")]
