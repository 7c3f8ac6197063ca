"""``lorafuse evaluate`` as the command line has it."""

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import tyro

from lorafuse_jax.evaluation.checkers import CHECKERS
from lorafuse_jax.evaluation.tasks import BENCHMARKS
from lorafuse_jax.parallel.mesh import parse_mesh
from lorafuse_jax.run_folder import RunFolder
from lorafuse_jax.text_generation import ROW_BUDGET
from lorafuse_jax.types import UserError
from lorafuse_jax.workflow.beside import parse_beside
from lorafuse_jax.workflow.evaluate import evaluate, rescore
from lorafuse_jax.workflow.harness import HarnessRequest, evaluate_with_harness
from lorafuse_jax.workflow.report import report

TASKS_HELP = (
    "Benchmarks, NAME, NAME@CONVENTION or NAME/SPLIT@CONVENTION, with :PATH for a local copy "
    f"({', '.join(BENCHMARKS)}; NAME@? lists the conventions); or data, NAME or NAME/SPLIT, a "
    "folder, a file or a name that lorafuse fetch lists; by default the run's own test split."
)
CHECKER_HELP = (
    f"How answers of data are compared: {', '.join(CHECKERS)}; by default as the data says."
)

MORE_MODELS = ("subsets", "beside", "ensemble", "known")


@dataclass(frozen=True, kw_only=True)
class Evaluate:
    """Let base, seeds and fused adapters of a run answer the same questions.

    lorafuse evaluate runs/my --tasks gsm-symbolic/test gsm8k@8-shot-cot humaneval --limit 100

    lorafuse evaluate runs/my --harness arc_easy gsm8k --fewshot 5

    Writes answers, scores and report.html into the run folder. What was answered already is not
    asked again.

    Attributes:
        run_folder: what lorafuse train wrote.
        tasks: what is asked.
        limit: ask only the first so many of each.
        rows: answers that are decoded at once, over all models; fewer take less memory.
        subsets: operators whose fused adapters of every subset of the seeds answer as well, for
            accuracy by number of seeds.
        beside: adapters of the same base, or whole models, from other runs, which answer as
            controls: FOLDER or NAME=FOLDER.
        ensemble: the seeds answer together as well, by the mean of their logits at every token.
        known: other runs over the same base; what they have answered with the same weights, such as
            the base itself, is taken over.
        rescore: score the answers that are there anew, without a model.
        unsafe: where programs that models wrote (humaneval, mbpp) cannot be isolated, run them with
            your own rights.
        mesh: how several devices share the work, as for lorafuse train; by default all of them.
        harness: tasks of EleutherAI's lm-eval instead; pip install 'lorafuse-jax[eval]' adds it.
        fewshot: with --harness, examples before each question; as the task says by default.
        chat: with --harness, put questions into the tokenizer's chat template.
        include: with --harness, a folder with further task files.
    """

    run_folder: Annotated[tyro.conf.Positional[Path], tyro.conf.arg(name="run", metavar="RUN")]
    tasks: Annotated[tuple[str, ...], tyro.conf.arg(help=TASKS_HELP)] = ()
    limit: int | None = None
    rows: int = ROW_BUDGET
    checker: Annotated[str | None, tyro.conf.arg(help=CHECKER_HELP)] = None
    subsets: tuple[str, ...] = ()
    beside: tuple[str, ...] = ()
    ensemble: bool = False
    known: tuple[Path, ...] = ()
    rescore: bool = False
    unsafe: bool = False
    mesh: str | None = None
    harness: tuple[str, ...] = ()
    fewshot: int | None = None
    chat: bool = False
    include: Path | None = None

    def run(self) -> None:
        """Ask, then show."""
        run = RunFolder(self.run_folder)
        self._check()
        if self.harness:
            settings = {k: vars(self)[k] for k in ("fewshot", "limit", "rows", "chat", "include")}
            evaluate_with_harness(run, HarnessRequest(tasks=self.harness, **settings))
            return
        if self.rescore:
            rescore(run, checker=self.checker, unsafe=self.unsafe)
        else:
            evaluate(
                run,
                self.tasks,
                self.limit,
                self.rows,
                checker=self.checker,
                subsets=self.subsets,
                unsafe=self.unsafe,
                mesh=None if self.mesh is None else parse_mesh(self.mesh),
                beside=parse_beside(self.beside),
                ensemble=self.ensemble,
                known=[RunFolder(path) for path in self.known],
            )
        report(run)

    def _check(self) -> None:
        """No option is silently of no use."""
        idle: tuple[str, ...] = ("fewshot", "chat", "include")
        verb = "without --harness"
        if self.harness:
            idle = ("tasks", "checker", "rescore", "unsafe", "mesh", *MORE_MODELS)
            verb = "with --harness"
        elif self.rescore:
            idle, verb = (*idle, "tasks", "limit", "mesh", *MORE_MODELS), "with --rescore"
        for name in idle:
            if getattr(self, name) not in (None, False, ()):
                raise UserError(f"--{name} means nothing {verb}")
