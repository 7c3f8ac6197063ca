"""``lorafuse train``: N seeds in one jitted step, into a run folder; it may be stopped anywhere."""

import json
import time
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import AbstractContextManager, ExitStack, contextmanager, nullcontext
from hashlib import sha256
from pathlib import Path
from typing import Any

from lorafuse_jax.formats.checkpoint import Checkpoints
from lorafuse_jax.formats.folder import is_disk_full
from lorafuse_jax.parallel import hosts
from lorafuse_jax.parallel.mesh import MeshShape
from lorafuse_jax.run_folder import RunFolder, versions
from lorafuse_jax.training.loop import Heldout, fit
from lorafuse_jax.training.patience import has_stalled, since_best
from lorafuse_jax.training.step import RUNNING, TrainState
from lorafuse_jax.training.trajectory import Trajectory, fresh_trajectory, keep
from lorafuse_jax.types import Params, UserError
from lorafuse_jax.workflow.contamination import report_contamination
from lorafuse_jax.workflow.cost import spending
from lorafuse_jax.workflow.inputs import load_inputs, resolve
from lorafuse_jax.workflow.loggers import LoggerName, check_loggers, open_loggers
from lorafuse_jax.workflow.metrics_file import MetricsFile
from lorafuse_jax.workflow.placement import placement_for
from lorafuse_jax.workflow.progress import console, meter
from lorafuse_jax.workflow.recorder import Recorder, frozen_note
from lorafuse_jax.workflow.run_lock import check_unlocked, locked
from lorafuse_jax.workflow.stopping import Stopped, StopRequest, stop_on_signals
from lorafuse_jax.workflow.throughput import Throughput
from lorafuse_jax.workflow.train_config import TrainConfig, run_config
from lorafuse_jax.workflow.trained import write_adapters
from lorafuse_jax.workflow.trainer import Trainer, make_trainer

SECONDS_TO_SEE = 30
"""A network's file system may take so long to show a new file to another host."""


def train(
    config: TrainConfig,
    out: Path,
    log: Sequence[LoggerName] = (),
    mesh: MeshShape | None = None,
) -> RunFolder:
    """Train all seeds into ``out``, or go on where an earlier call was stopped.

    However that one ended, even by kill -9, the result is bit for bit what one call would have
    made, on the same kind of device and the same mesh.

    Args:
        config: what decides over the result.
        out: the run folder.
        log: where metrics go besides ``metrics.jsonl``.
        mesh: how the devices share the work; by default all of them, seeds dealt out first.

    Raises:
        UserError: bad input, a folder with something else, another process at work on it, a full
            disk, or no seed left whose loss is finite; on every host what was wrong on one.
        HostLost: another host of the job is gone; the same command on all goes on from the last
            checkpoint.
        Stopped: a signal came; what was done is saved.
    """
    with _errors_said(out):
        return _train(config, out, log, mesh)


def _train(
    config: TrainConfig, out: Path, log: Sequence[LoggerName], mesh: MeshShape | None
) -> RunFolder:
    hosts.check_same({"out": str(out.absolute()), "mesh": str(mesh), **vars(config)} | versions())
    hosts.together(lambda: _prepare(config, out, log))
    at_once = config.examples_per_step // config.micro_batches
    placement = placement_for(mesh, seeds=len(config.seeds), examples=at_once)
    model, task = hosts.together(lambda: load_inputs(config, placement))
    run, described = RunFolder(out), run_config(config, model, task)
    hosts.check_same(described)
    trainer = make_trainer(config, model, task, placement)
    with ExitStack() as stack, stop_on_signals() as stop:
        hosts.together(lambda: _open(run, described, stack))
        hosts.together(lambda: _check_seen(run))
        if hosts.of_first(hosts.is_first() and _is_finished(run)):
            console.print(f"trained already: {len(config.seeds)} adapters in {out / 'adapters'}")
            return run
        if task.source is not None and hosts.is_first():
            report_contamination(task.source, run)
        with _spending(run, config) as counts:
            state, trajectory = _fit(trainer, run, stop, log, counts)
        write_adapters(run, state, trajectory, model=model, method=trainer.method)
        stop.settle(hosts.gather(stop.signal_number))
        console.print(f"wrote {len(run.trained_seeds())} adapters to {out / 'adapters'}")
        if stop():
            raise stop.stopped("the training itself is finished")
    return run


def _prepare(config: TrainConfig, out: Path, log: Sequence[LoggerName]) -> None:
    """The first host looks, and fetches what the others then find where they share a cache."""
    if hosts.is_first():
        check_loggers(log)
        check_unlocked(out)
        resolve(config.model)
        resolve(config.data)


def _open(run: RunFolder, described: dict[str, Any], stack: ExitStack) -> None:
    """The first host takes the run folder, and holds it as long as the stack is there."""
    if hosts.is_first():
        run.check_free_for(described)
        run.path.mkdir(parents=True, exist_ok=True)
        stack.enter_context(locked(run.path))
        run.open_for(described)


def _spending(run: RunFolder, config: TrainConfig) -> AbstractContextManager[Counter[str]]:
    if not hosts.is_first():
        return nullcontext(Counter())
    return spending(run, "train", f"{len(config.seeds)} seeds")


def _is_finished(run: RunFolder) -> bool:
    paths = [(run.adapter_path(s), run.frozen_path(s)) for s in run.config()["seeds"]]
    return all(trained.exists() or frozen.exists() for trained, frozen in paths)


def _fit(
    trainer: Trainer,
    run: RunFolder,
    stop: StopRequest,
    log: Sequence[LoggerName],
    counts: Counter[str],
) -> tuple[TrainState, Trajectory | None]:
    """Train to the end.

    Raises:
        Stopped: there are steps left; the last one taken is saved.
    """
    config, plan = trainer.config, trainer.plan
    state = trainer.fresh_state()
    length = config.average_last
    trajectory = fresh_trajectory(state.adapter, length) if length else None
    checkpoints = Checkpoints(run.checkpoints_path, _written_by(run))
    restored = checkpoints.restore(_tree(state, trajectory), console.print)
    start, mark = 0, None
    if restored:
        start, mark = restored.step, restored.beside["metrics"]
        state, trajectory = restored.tree["state"], restored.tree.get("trajectory")
        console.print(f"going on from the checkpoint of step {start}")
        _say_frozen(config, state)
    console.print(
        f"training {len(config.seeds)} seeds · {plan.num_steps} steps of "
        f"{config.examples_per_step} examples a seed · batch {trainer.loader.shape.rows} x "
        f"{trainer.loader.shape.length} a seed{trainer.placement} · the first step compiles"
    )
    with (
        _metrics(run, mark) as metrics,
        open_loggers(log if hosts.is_first() else (), run.path, start) as logs,
        meter("train", plan.num_steps, start) as progress,
    ):

        def evaluate(state: TrainState, params: Params) -> Heldout:
            nonlocal trajectory
            if trajectory is not None:
                trajectory = keep(trajectory, state.adapter)
            return trainer.evaluate(state, params)

        def save(step: int, state: TrainState) -> None:
            checkpoints.save(step, _tree(state, trajectory), {"metrics": metrics.mark()})

        if not _stalled(config, metrics):  # else it was killed after its last step
            state = fit(
                state,
                trainer.method.base,
                seeds=config.seeds,
                plan=plan,
                step_fn=trainer.placement.on_mesh(trainer.step_fn),
                batches=trainer.batches(),
                member=trainer.member(),
                evaluate=evaluate,
                save=save,
                report=Recorder(
                    file=metrics,
                    progress=progress,
                    throughput=Throughput(trainer.model, state.adapter),
                    log=logs,
                    fused_name=config.fuse_operator,
                ),
                stop=lambda: stop() or _stalled(config, metrics),
            )
    stop.settle(hosts.gather(stop.signal_number))
    taken = int(hosts.fetch(state.step)[0])
    counts["steps"] = taken - start
    if _stalled(config, metrics):
        losses = _fused_losses(metrics)
        console.print(
            f"stopped after step {taken} of {plan.num_steps}: the fused loss has not fallen for "
            f"{since_best(losses)} evaluations below {min(losses):.3f}"
        )
    elif taken < plan.num_steps:
        raise stop.stopped(f"step {taken} of {plan.num_steps} is saved")
    return state, trajectory


def _check_seen(run: RunFolder) -> None:
    """Raise UserError on a host that does not see what the first has written."""
    for _ in range(SECONDS_TO_SEE):
        if run.config_path.exists():
            return
        time.sleep(1)
    raise UserError(
        f"{run.config_path}, which the first host wrote, is not to be seen here: --out must be a "
        "folder on a disk that all hosts share"
    )


def _metrics(run: RunFolder, mark: dict[str, Any] | None) -> MetricsFile:
    """The first host makes the file, and writes it; the others read what was there."""
    first = hosts.is_first()
    made = hosts.together(lambda: MetricsFile(run.metrics_path, mark) if first else None)
    others = lambda: made or MetricsFile(run.metrics_path, mark, writes=False)  # noqa: E731
    return hosts.together(others)


def _tree(state: TrainState, trajectory: Trajectory | None) -> dict[str, Any]:
    """What a checkpoint holds."""
    return {"state": state} | ({} if trajectory is None else {"trajectory": trajectory})


def _fused_losses(metrics: MetricsFile) -> list[float]:
    return [line["heldout_loss"] for line in metrics.lines if "fused" in line]


def _stalled(config: TrainConfig, metrics: MetricsFile) -> bool:
    patience = config.patience
    return patience is not None and has_stalled(_fused_losses(metrics), patience)


def _say_frozen(config: TrainConfig, state: TrainState) -> None:
    for seed, step in zip(config.seeds, hosts.fetch(state.frozen_at).tolist(), strict=True):
        if step != RUNNING:
            console.print(frozen_note(seed, step))


def _written_by(run: RunFolder) -> dict[str, str]:
    """What a checkpoint is of no use without: the configuration, and every version of then."""
    config = {key: value for key, value in run.config().items() if key != "versions"}
    digest = sha256(json.dumps(config, sort_keys=True).encode()).hexdigest()
    return {"config": digest, **versions()}


@contextmanager
def _errors_said(out: Path) -> Iterator[None]:
    """What a full disk or a lost host does to the code that meets it, as a UserError."""
    try:
        yield
    except Exception as error:
        if hosts.lost(error):
            raise hosts.HostLost(
                f"another host of this job is gone ({error}); repeat the same command on all "
                "hosts to go on from the last checkpoint"
            ) from error
        if isinstance(error, UserError | Stopped) or not is_disk_full(error):
            raise
        raise UserError(
            f"no space left on the disk of {out} ({error}); make room and repeat the command to go "
            "on from the last checkpoint"
        ) from error
