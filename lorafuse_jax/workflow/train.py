"""``lorafuse train``: N seeds in one jitted step, into a run folder."""

import json
from pathlib import Path

import jax

from lorafuse_jax.adapter import take
from lorafuse_jax.formats.checkpoint import Checkpoints
from lorafuse_jax.formats.peft import save_peft
from lorafuse_jax.formats.targets import last_parts
from lorafuse_jax.lora import scaled
from lorafuse_jax.names import fan_in_fan_out, for_files
from lorafuse_jax.run_folder import RunFolder
from lorafuse_jax.training.loop import StepMetrics, fit
from lorafuse_jax.training.step import TrainState
from lorafuse_jax.workflow.inputs import load_inputs
from lorafuse_jax.workflow.progress import console, meter
from lorafuse_jax.workflow.train_config import TrainConfig, run_config
from lorafuse_jax.workflow.trainer import Trainer, make_trainer


def train(config: TrainConfig, out: Path) -> RunFolder:
    """Train all seeds into ``out``, or go on where an earlier call was stopped."""
    rules = config.rules
    model, task = load_inputs(config)
    trainer = make_trainer(config, model, task)
    run = RunFolder(out)
    run.open_for(run_config(config, model, task))
    if all(run.adapter_path(seed).exists() for seed in config.seeds):
        console.print(f"trained already: {len(config.seeds)} adapters in {out / 'adapters'}")
        return run
    state = _fit(trainer, run)
    for k, seed in enumerate(config.seeds):
        if not run.adapter_path(seed).exists():
            adapter = for_files(scaled(take(state.adapter, k), rules), model)
            save_peft(
                run.adapter_path(seed),
                adapter,
                base_model=str(model.path),
                provenance={"seed": seed, "base_fingerprint": model.fingerprint, **run.config()},
                carried={
                    "target_modules": last_parts(adapter),
                    "fan_in_fan_out": fan_in_fan_out(model),
                },
            )
    console.print(f"wrote {len(config.seeds)} adapters to {out / 'adapters'}")
    return run


def _fit(trainer: Trainer, run: RunFolder) -> TrainState:
    config, plan = trainer.config, trainer.plan
    checkpoints = Checkpoints(run.checkpoints_path)
    state = trainer.fresh_state()
    start = checkpoints.latest() or 0
    if start:
        state = checkpoints.restore(start, state)
        console.print(f"going on from the checkpoint of step {start}")
    _keep_metrics_until(run, start)
    console.print(
        f"training {len(config.seeds)} seeds · {plan.num_steps} steps of "
        f"{config.examples_per_step} examples a seed · batch {trainer.loader.shape.rows} x "
        f"{trainer.loader.shape.length} a seed · the first step compiles"
    )
    with (
        run.metrics_path.open("a") as lines,
        meter("train", plan.num_steps, start) as progress,
    ):

        def report(metrics: list[StepMetrics]) -> None:
            for line in metrics:
                lines.write(json.dumps(line.to_dict()) + "\n")
            lines.flush()
            progress.advance(1, _note(metrics))

        state = fit(
            state,
            trainer.model.params,
            seeds=config.seeds,
            plan=plan,
            step_fn=trainer.step_fn,
            batches=trainer.loader,
            member=trainer.member(),
            heldout_loss=trainer.heldout,
            save=checkpoints.save,
            report=report,
        )
    checkpoints.close()
    return jax.block_until_ready(state)


def _note(metrics: list[StepMetrics]) -> str:
    losses = " ".join(f"{line.seed}:{line.train_loss:.3f}" for line in metrics)
    note = f"{metrics[0].tokens_per_s:.0f} tokens/s · loss {losses}"
    if metrics[0].heldout_loss is not None:
        note += " · held-out " + " ".join(f"{line.heldout_loss:.3f}" for line in metrics)
    return note


def _keep_metrics_until(run: RunFolder, step: int) -> None:
    """Forget the metrics of steps that will be taken again, a torn last line included."""
    if not run.metrics_path.exists():
        return
    kept = []
    for line in run.metrics_path.read_text().splitlines():
        try:
            if json.loads(line)["step"] > step:
                break
        except json.JSONDecodeError:
            break
        kept.append(line + "\n")
    run.metrics_path.write_text("".join(kept))
