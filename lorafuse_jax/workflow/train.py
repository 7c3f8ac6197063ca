"""``lorafuse train``: N seeds in one jitted step, into a run folder."""

import json
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Literal

import jax
import jax.numpy as jnp
import optax

from lorafuse_jax.adapted import batch_log_probs
from lorafuse_jax.adapter import take
from lorafuse_jax.data.batches import Loader, full_batches
from lorafuse_jax.formats.checkpoint import Checkpoints
from lorafuse_jax.formats.peft import save_peft
from lorafuse_jax.formats.targets import last_parts
from lorafuse_jax.lora import (
    ALL_LINEAR,
    LoraRule,
    adaptable_modules,
    init_adapter,
    match_rules,
    scaled,
)
from lorafuse_jax.models.hub import Model
from lorafuse_jax.models.quantized import Quantization
from lorafuse_jax.names import fan_in_fan_out, for_files
from lorafuse_jax.run_folder import RunFolder, versions
from lorafuse_jax.training.loop import FitPlan, StepMetrics, fit
from lorafuse_jax.training.objective import answer_loss, heldout_loss
from lorafuse_jax.training.step import (
    Member,
    TrainState,
    adamw,
    init_state,
    make_train_step,
    seed_keys,
)
from lorafuse_jax.types import UserError
from lorafuse_jax.workflow.inputs import EncodedTask, load_inputs
from lorafuse_jax.workflow.progress import console, meter

Stream = Literal["init", "order", "dropout"]
STREAMS: dict[str, int] = {"init": 1, "order": 2, "dropout": 3}
HELDOUT_ROWS = 4


@dataclass(frozen=True, kw_only=True)
class TrainConfig:
    """What decides over a training run.

    Attributes:
        model: HF folder, hub name, or the name of a fetched asset.
        data: JSONL file, folder with train.jsonl and validation.jsonl, or a fetched asset.
        seeds: one adapter each; distinct integers.
        rank: R.
        alpha: the update is scaled by alpha / rank.
        dropout: on the input of the update.
        rslora: scale by alpha / sqrt(rank) instead.
        targets: regular expression for the adapted modules.
        learning_rate: peak, after a warm-up over 5 % of the steps; a cosine to a tenth follows.
        examples: training examples of each seed, in its own endless order; None is one epoch.
        examples_per_step: examples of each seed in one optimiser step.
        heldout_examples: validation examples that the held-out loss is measured on, the first of
            the split; the same for every seed.
        shared: what the seeds have in common instead of each its own.
        max_length: longest example in tokens; None is the model's context.
        overlong: what happens to longer ones.
        template: how a prompt is put to the model: qa, chat, alpaca or metamath; None is as the
            data says, or else the tokenizer's chat template, or else qa.
        quantization: keep the frozen base in 8 bits a weight (int8) or 4 (nf4, as QLoRA).
    """

    model: str
    data: str
    seeds: tuple[int, ...] = (11, 42, 202)
    rank: int = 8
    alpha: float = 16.0
    dropout: float = 0.0
    rslora: bool = False
    targets: str = ALL_LINEAR
    learning_rate: float = 1e-3
    examples: int | None = None
    examples_per_step: int = 8
    heldout_examples: int = 64
    shared: tuple[Stream, ...] = ()
    max_length: int | None = None
    overlong: Literal["error", "drop"] = "error"
    template: str | None = None
    quantization: Quantization | None = None

    def __post_init__(self) -> None:
        if not self.seeds:
            raise UserError("no seeds: name at least one, --seeds 11 42 202")
        repeated = sorted({seed for seed in self.seeds if self.seeds.count(seed) > 1})
        if repeated:
            raise UserError(f"seed {repeated[0]} is named twice; equal seeds give equal adapters")
        if min(self.seeds) < 0 or max(self.seeds) >= 2**31:
            raise UserError(f"seeds must be in [0, 2^31), these are {list(self.seeds)}")
        if self.examples_per_step < 1 or (self.examples is not None and self.examples < 1):
            raise UserError("--examples and --examples-per-step must be at least 1")
        if not self.learning_rate > 0:
            raise UserError(f"the learning rate must be above 0, it is {self.learning_rate}")

    @property
    def rules(self) -> tuple[LoraRule, ...]:
        """The LoRA rules; raises UserError for impossible values."""
        return (
            LoraRule(
                targets=self.targets,
                rank=self.rank,
                alpha=self.alpha,
                dropout=self.dropout,
                rslora=self.rslora,
            ),
        )

    def stream_seeds(self, stream: Stream) -> tuple[int, ...]:
        """The integer that each member's randomness of one kind comes from."""
        return (self.seeds[0],) * len(self.seeds) if stream in self.shared else self.seeds


@dataclass(frozen=True)
class Trainer:
    """The parts of one run, put together and not yet started."""

    config: TrainConfig
    model: Model
    loader: Loader
    plan: FitPlan
    tx: optax.GradientTransformation
    step_fn: Callable
    heldout: Callable

    def fresh_state(self) -> TrainState:
        """The state before the first step."""
        keys = seed_keys(self.config.stream_seeds("init"), STREAMS["init"])
        init = partial(init_adapter, params=self.model.params, rules=self.config.rules)
        return init_state(keys, init, self.tx)

    def member(self) -> Member:
        """What is each seed's own."""
        config = self.config
        return Member(
            learning_rate=jnp.full(len(config.seeds), config.learning_rate),
            dropout_key=seed_keys(config.stream_seeds("dropout"), STREAMS["dropout"]),
        )


def make_trainer(config: TrainConfig, model: Model, task: EncodedTask) -> Trainer:
    """Everything that training needs; all that can be wrong with the input is found here."""
    rules = config.rules
    match_rules(adaptable_modules(model.params), rules)
    examples = config.examples or len(task.train)
    num_steps = max(1, examples // config.examples_per_step)
    loader = Loader(
        task.train,
        order_seeds=config.stream_seeds("order"),
        examples_per_step=config.examples_per_step,
        num_steps=num_steps,
    )
    tx = adamw(num_steps=num_steps, warmup_steps=round(0.05 * num_steps))

    def log_probs(adapter, params, batch, dropout_key):
        return batch_log_probs(
            model.config, params, adapter, batch, rules=rules, dropout_key=dropout_key
        )

    every = max(1, num_steps // 3)
    return Trainer(
        config=config,
        model=model,
        loader=loader,
        plan=FitPlan(num_steps=num_steps, heldout_every=every, checkpoint_every=every),
        tx=tx,
        step_fn=make_train_step(answer_loss(log_probs), tx),
        heldout=heldout_loss(
            log_probs,
            full_batches(
                task.validation[: config.heldout_examples], loader.shape.length, HELDOUT_ROWS
            ),
        ),
    )


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


def run_config(config: TrainConfig, model: Model, task: EncodedTask) -> dict:
    """What ``config.json`` holds."""
    settings = {key: list(v) if isinstance(v, tuple) else v for key, v in vars(config).items()}
    return {
        **settings,
        "model": str(model.path),
        "data": str(task.path),
        "model_fingerprint": model.fingerprint,
        "data_fingerprint": task.fingerprint,
        "template": task.template,
        "dropped_overlong": task.dropped,
        "versions": versions(),
    }


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
