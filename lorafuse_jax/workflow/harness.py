"""``lorafuse evaluate --harness``: tasks of lm-eval on base, seeds and fused adapters of a run."""

import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path
from typing import Any

from rich.table import Table

from lorafuse_jax.bank import make_bank
from lorafuse_jax.generation.request import Answer, Engine, Request
from lorafuse_jax.generation.serve import serve
from lorafuse_jax.generation.stops import ends_at_stop_strings
from lorafuse_jax.models.hub import Model
from lorafuse_jax.run_folder import RunFolder, check_name, write_atomically
from lorafuse_jax.text_generation import ROW_BUDGET, make_engine
from lorafuse_jax.types import UserError
from lorafuse_jax.workflow.compared import Member, hash_of_update, lanes_for, load_evaluated
from lorafuse_jax.workflow.progress import console, meter, print_table


@dataclass(frozen=True, kw_only=True)
class HarnessRequest:
    """What the harness is to do.

    Attributes:
        tasks: its names for them.
        fewshot: examples before each question; None is as the task says.
        limit: the first so many examples of each task; None is all.
        rows: decoded at once, over all models; fewer take less memory.
        chat: put questions into the tokenizer's chat template.
        include: folder with further task files.
    """

    tasks: tuple[str, ...]
    fewshot: int | None = None
    limit: int | None = None
    rows: int = ROW_BUDGET
    chat: bool = False
    include: Path | None = None


def evaluate_with_harness(run: RunFolder, request: HarnessRequest) -> None:
    """Every model of the run on every task; results and samples go into ``harness/`` of the run.

    A task whose results are there, for the same models and settings, is not repeated.

    Raises:
        UserError: lm-eval is not installed or does not know a task, or something in the run is
            missing.
    """
    lm_eval = _import_harness()
    manager = lm_eval.tasks.TaskManager(
        include_path=None if request.include is None else str(request.include)
    )
    for task in request.tasks:
        if task not in manager.all_tasks:
            raise UserError(f"lm-eval has no task {task!r}; lm-eval ls tasks lists them")
    model, members = load_evaluated(run)
    if request.chat and not getattr(model.tokenizer, "chat_template", None):
        raise UserError(f"{model.path}: its tokenizer has no chat template; leave --chat out")
    if any(member.apart for member in members):
        raise UserError(
            f"{run.path} was trained with --method full: give its checkpoints in "
            f"{run.path / 'adapters'} to lm-eval themselves"
        )
    engine = make_engine(model)
    for task in request.tasks:
        file = run.path / "harness" / f"{check_name(task)}.json"
        asked = _asked(task, request, members)
        if not file.exists() or json.loads(file.read_text())["asked"] != asked:
            results = _run_task(lm_eval, manager, engine, model, members, task, request)
            file.parent.mkdir(exist_ok=True)
            content = {"asked": asked, "lm_eval": lm_eval.__version__, "results": results}
            write_atomically(file, json.dumps(content, indent=1, default=str) + "\n")
        for table in results_tables(json.loads(file.read_text())["results"]):
            print_table(table)
        console.print(f"{file}")


def results_tables(results: dict[str, Any]) -> list[Table]:
    """Models by metrics, each with its standard error; of a group, a table a task."""
    tables = []
    for task, shown in next(iter(results.values()))["metrics"].items():
        metrics = [name for name in shown if "," in name and "_stderr" not in name]
        table = Table(title=task)
        table.add_column("model")
        for name in metrics:
            table.add_column(name.removesuffix(",none"), justify="right")
        for model, result in results.items():
            values = result["metrics"][task]
            errors = [values.get(name.replace(",", "_stderr,")) for name in metrics]
            cells = [_cell(values[n], error) for n, error in zip(metrics, errors, strict=True)]
            table.add_row(model, *cells)
        if metrics:
            tables.append(table)
    return tables


def _asked(task: str, request: HarnessRequest, members: list[Member]) -> dict[str, Any]:
    """What a result depends on: settings, and each model's name and weights."""
    settings = {key: value for key, value in asdict(request).items() if key != "rows"}
    models = {member.name: hash_of_update(member.adapter) for member in members}
    return json.loads(json.dumps({**settings, "tasks": [task], "models": models}, default=str))


def _cell(value: float, error: Any) -> str:
    return f"{value:.4f} ± {error:.4f}" if isinstance(error, float) else f"{value:.4f}"


def _run_task(lm_eval, manager, engine, model, members, task, request) -> dict[str, Any]:
    from lorafuse_jax.workflow.harness_model import HarnessModel, SharedAnswers  # noqa: PLC0415

    ask = partial(_serve_all, engine, model, members, task, lanes_for(members, request.rows))
    answers, results = SharedAnswers(ask), {}
    for number, member in enumerate(members):
        found = lm_eval.simple_evaluate(
            model=HarnessModel(answers, number, model.tokenizer, model.config.context_length),
            tasks=[task],
            num_fewshot=request.fewshot,
            limit=request.limit,
            apply_chat_template=request.chat,
            task_manager=manager,
            bootstrap_iters=0,
        )
        results[member.name] = {"metrics": found["results"], "samples": found["samples"]}
    return results


def _serve_all(
    engine: Engine,
    model: Model,
    members: list[Member],
    task: str,
    lanes: int,
    requests: Sequence[Request],
) -> list[list[Answer]]:
    bank = make_bank([member.adapter for member in members])
    decode = partial(model.tokenizer.decode, skip_special_tokens=True)
    found: list[dict[int, Answer]] = [{} for _ in members]
    with meter(task, len(members) * len(requests)) as progress:
        for one in serve(
            engine,
            model.params,
            bank,
            [requests] * len(members),
            lanes=lanes,
            ended=ends_at_stop_strings(decode),
        ):
            found[one.member][one.request] = one
            progress.advance(1, members[one.member].name)
    return [[answers[n] for n in range(len(requests))] for answers in found]


def _import_harness() -> Any:
    try:
        import lm_eval  # noqa: PLC0415
        import lm_eval.tasks  # noqa: PLC0415
    except ImportError as error:
        raise UserError(
            f"lm-eval cannot be imported ({error}); pip install 'lorafuse-jax[eval]'"
        ) from None
    return lm_eval
