"""``lorafuse train``: N seeds in one jitted step, into a run folder; it may be stopped anywhere."""

import json
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from hashlib import sha256
from pathlib import Path
from typing import Any

import numpy as np

from lorafuse_jax.formats.checkpoint import Checkpoints
from lorafuse_jax.formats.folder import is_disk_full
from lorafuse_jax.parallel.mesh import MeshShape
from lorafuse_jax.run_folder import RunFolder, versions
from lorafuse_jax.training.loop import Heldout, fit
from lorafuse_jax.training.patience import has_stalled, since_best
from lorafuse_jax.training.step import RUNNING, TrainState
from lorafuse_jax.training.trajectory import Trajectory, fresh_trajectory, keep
from lorafuse_jax.types import Params, UserError
from lorafuse_jax.workflow.contamination import report_contamination
from lorafuse_jax.workflow.cost import spending
from lorafuse_jax.workflow.inputs import load_inputs
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
            disk, or no seed left whose loss is finite.
        Stopped: a signal came; what was done is saved.
    """
    check_loggers(log)
    check_unlocked(out)
    at_once = config.examples_per_step // config.micro_batches
    placement = placement_for(mesh, seeds=len(config.seeds), examples=at_once)
    model, task = load_inputs(config, placement)
    trainer = make_trainer(config, model, task, placement)
    run, described = RunFolder(out), run_config(config, model, task)
    run.check_free_for(described)
    out.mkdir(parents=True, exist_ok=True)
    with locked(out), _full_disk_said(out), stop_on_signals() as stop:
        run.open_for(described)
        if _is_finished(run):
            console.print(f"trained already: {len(config.seeds)} adapters in {out / 'adapters'}")
            return run
        if task.source is not None:
            report_contamination(task.source, run)
        with spending(run, "train", f"{len(config.seeds)} seeds") as counts, placement.active():
            state, trajectory = _fit(trainer, run, stop, log, counts)
        write_adapters(run, state, trajectory, model=model, method=trainer.method)
        console.print(f"wrote {len(run.trained_seeds())} adapters to {out / 'adapters'}")
        if stop():
            raise stop.stopped("the training itself is finished")
    return run


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
        MetricsFile(run.metrics_path, mark) as metrics,
        open_loggers(log, run.path, start) as logs,
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
                step_fn=trainer.step_fn,
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
    taken = int(state.step[0])
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


def _tree(state: TrainState, trajectory: Trajectory | None) -> dict[str, Any]:
    """What a checkpoint holds."""
    return {"state": state} | ({} if trajectory is None else {"trajectory": trajectory})


def _fused_losses(metrics: MetricsFile) -> list[float]:
    return [line["heldout_loss"] for line in metrics.lines if "fused" in line]


def _stalled(config: TrainConfig, metrics: MetricsFile) -> bool:
    patience = config.patience
    return patience is not None and has_stalled(_fused_losses(metrics), patience)


def _say_frozen(config: TrainConfig, state: TrainState) -> None:
    for seed, step in zip(config.seeds, np.asarray(state.frozen_at).tolist(), strict=True):
        if step != RUNNING:
            console.print(frozen_note(seed, step))


def _written_by(run: RunFolder) -> dict[str, str]:
    """What a checkpoint is of no use without: the configuration, and every version of then."""
    config = {key: value for key, value in run.config().items() if key != "versions"}
    digest = sha256(json.dumps(config, sort_keys=True).encode()).hexdigest()
    return {"config": digest, **versions()}


@contextmanager
def _full_disk_said(out: Path) -> Iterator[None]:
    try:
        yield
    except Exception as error:
        if isinstance(error, UserError | Stopped) or not is_disk_full(error):
            raise
        raise UserError(
            f"no space left on the disk of {out} ({error}); make room and repeat the command to go "
            "on from the last checkpoint"
        ) from error
