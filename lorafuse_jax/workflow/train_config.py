"""What decides over a training run, and what of it is written into the run folder."""

from dataclasses import dataclass
from typing import Literal

from lorafuse_jax.lora import ALL_LINEAR, LoraRule
from lorafuse_jax.models.hub import Model
from lorafuse_jax.models.quantized import Quantization
from lorafuse_jax.run_folder import versions
from lorafuse_jax.types import UserError
from lorafuse_jax.workflow.inputs import EncodedTask

Stream = Literal["init", "order", "dropout"]


@dataclass(frozen=True, kw_only=True)
class TrainConfig:
    """What decides over a training run.

    Attributes:
        model: HF folder, hub name, or the name of a fetched asset.
        data: JSONL or Parquet file, folder with train.jsonl and validation.jsonl (or .parquet), a
            fetched asset, or a recipe: NAME from the hub, NAME:/path from a local copy.
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
        fuse_every: steps between evaluations, each of which measures the held-out loss of the fused
            adapter too; None evaluates the members alone, three times.
        fuse_operator: how they are fused for that, with its default settings.
        patience: stop when this many evaluations in a row have not brought the fused loss below the
            lowest before; the adapters are those of the step that it stopped at. None never does.
        average_last: also keep each seed's mean over its last so many evaluations, as
            ``fused/average-seed-K``.
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
    fuse_every: int | None = None
    fuse_operator: str = "mean"
    patience: int | None = None
    average_last: int | None = None

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
        for name in ("fuse_every", "patience", "average_last"):
            if (value := getattr(self, name)) is not None and value < 1:
                raise UserError(f"--{name.replace('_', '-')} must be at least 1, it is {value}")
        if self.patience is not None and self.fuse_every is None:
            raise UserError("--patience watches the fused loss: say how often with --fuse-every")

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
