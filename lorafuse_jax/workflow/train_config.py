"""What decides over a training run, and what of it is written into the run folder."""

import math
from dataclasses import dataclass
from typing import Literal, TypeAlias

from lorafuse_jax.lora import ALL_LINEAR, LoraRule
from lorafuse_jax.models.decoder import Remat
from lorafuse_jax.models.hub import Model
from lorafuse_jax.models.quantized import Quantization
from lorafuse_jax.run_folder import versions
from lorafuse_jax.types import ENDS, UserError
from lorafuse_jax.workflow.inputs import EncodedTask

Stream = Literal["init", "order", "dropout", "subset"]

MethodName = Literal["lora", "dora", "dense", "full"]
Init = Literal["default", "pissa", "olora"]

_FUSED_IN_TRAINING = ("fuse_every", "average_last")
_OF_LOW_RANK = ("rank", "alpha", "dropout", "rslora", "init", "lora_plus")
NOT_OF: dict[MethodName, tuple[str, ...]] = {
    "lora": (),
    "dora": ("init", *_FUSED_IN_TRAINING),
    "dense": (*_OF_LOW_RANK, *_FUSED_IN_TRAINING),
    "full": (*_OF_LOW_RANK, *_FUSED_IN_TRAINING, "targets", "quantization"),
}
"""Settings that say nothing under a method, or that it cannot do."""

IntPerSeed: TypeAlias = int | tuple[int, ...]
FloatPerSeed: TypeAlias = float | tuple[float, ...]
"""One value for all seeds, or one a seed."""

NAMED_TARGETS = {"all-linear": ALL_LINEAR}


@dataclass(frozen=True, kw_only=True)
class TrainConfig:
    """What decides over a training run.

    Attributes:
        model: folder of a Hugging Face model, hub name, or a name that lorafuse fetch lists.
        data: JSONL or Parquet file with prompt and completion, or messages; folder with train.jsonl
            and validation.jsonl (or .parquet); a name that lorafuse fetch lists; or a recipe: NAME
            from the hub, NAME:/path from a local copy.
        seeds: one adapter each; distinct integers.
        rank: of the updates; one for all, or one a seed.
        alpha: an update is scaled by alpha / rank; one for all, or one a seed.
        dropout: on the input of an update.
        rslora: scale by alpha / sqrt(rank) instead.
        targets: what is adapted: all-linear (the default: all linear layers), regular expressions
            for projections of the layers, and, by name alone, embed_tokens and lm_head.
        learning_rate: peak, after a warm-up over 5 % of the steps; a cosine to a tenth follows. One
            for all, or one a seed.
        method: low-rank updates (lora; dora with a trained norm a column, arXiv 2402.09353), whole
            kernels of the targets (dense), or all parameters (full, a checkpoint a seed).
        init: of the updates: A random and B zero; or the base's principal directions (pissa,
            arXiv 2404.02948) or its QR (olora, arXiv 2406.01775), alike for all seeds, which then
            differ by order and dropout alone.
        lora_plus: B's learning rate over A's (LoRA+; its paper takes 16 and a smaller rate for A).
        subset: share of the training set, in (0, 1], that each seed draws and sees at all.
        examples: training examples of each seed, in its own endless order; one epoch by default.
        examples_per_step: examples of each seed in one optimiser step.
        micro_batches: parts that these are computed in, one after the other, for less memory.
        seeds_per_pass: seeds that are computed at once, for less memory; all by default.
        remat: what a backward pass computes again, for less memory: all between the matrix products
            with weights (projections), all but each layer's input (layers), or nothing.
        heldout_examples: validation examples of the held-out loss, the first of the split; the same
            for every seed.
        shared: what the seeds have in common instead of each its own: init, order, dropout, subset.
        max_length: longest example in tokens; the model's context by default.
        overlong: what happens to longer ones: training does not start, or they are left out.
        template: how prompts are put to the model: qa, chat, alpaca, metamath or function; by
            default as the data says, or else the tokenizer's chat template, or else qa.
        quantization: keep the frozen base in 8 bits a weight (int8) or 4 (nf4, as QLoRA).
        fuse_every: steps between evaluations, each of which measures the held-out loss of the fused
            adapter too; by default there are three evaluations, of the seeds alone.
        fuse_operator: how they are fused for that, with its default settings.
        patience: stop when so many evaluations in a row have not brought the fused loss below the
            lowest before; the adapters are those of the step that it stopped at. Never by default.
        average_last: also keep each seed's mean over its last so many evaluations, in fused/ as
            average-seed-K.
    """

    model: str
    data: str
    seeds: tuple[int, ...] = (11, 42, 202)
    rank: IntPerSeed = 8
    alpha: FloatPerSeed = 16.0
    dropout: float = 0.0
    rslora: bool = False
    targets: str | tuple[str, ...] = ALL_LINEAR
    learning_rate: FloatPerSeed = 1e-3
    method: MethodName = "lora"
    init: Init = "default"
    lora_plus: float = 1.0
    subset: float = 1.0
    examples: int | None = None
    examples_per_step: int = 8
    micro_batches: int = 1
    seeds_per_pass: int | None = None
    remat: Remat = "projections"
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
        for name in ("micro_batches", "seeds_per_pass", "fuse_every", "patience", "average_last"):
            if (value := getattr(self, name)) is not None and value < 1:
                raise UserError(f"--{name.replace('_', '-')} must be at least 1, it is {value}")
        if self.patience is not None and self.fuse_every is None:
            raise UserError("--patience watches the fused loss: say how often with --fuse-every")
        for name in ("rank", "alpha", "learning_rate"):
            self._check_count(name)
        for name in NOT_OF[self.method]:
            if getattr(self, name) != type(self).__dataclass_fields__[name].default:
                raise UserError(
                    f"--{name.replace('_', '-')} does not go with --method {self.method}; leave "
                    "one of them out"
                )
        self._check_ends()
        for rate in self.learning_rates:
            if not 0 < rate < math.inf:
                raise UserError(f"the learning rate must be above 0, it is {rate}")
        if not 0 < self.subset <= 1:
            raise UserError(f"--subset is a share in (0, 1], it is {self.subset}")
        if not 0 < self.lora_plus < math.inf:
            raise UserError(f"--lora-plus must be above 0, it is {self.lora_plus}")

    @property
    def rules(self) -> tuple[tuple[LoraRule, ...], ...]:
        """The LoRA rules of each seed; raises UserError for impossible values."""
        return tuple(
            tuple(
                LoraRule(
                    targets=NAMED_TARGETS.get(target, target),
                    rank=rank,
                    alpha=alpha,
                    dropout=self.dropout,
                    rslora=self.rslora,
                )
                for target in self._targets
            )
            for rank, alpha in zip(self._of_each("rank"), self._of_each("alpha"), strict=True)
        )

    @property
    def learning_rates(self) -> tuple[float, ...]:
        """One a seed."""
        return self._of_each("learning_rate")

    def stream_seeds(self, stream: Stream) -> tuple[int, ...]:
        """The integer that each member's randomness of one kind comes from."""
        return (self.seeds[0],) * len(self.seeds) if stream in self.shared else self.seeds

    @property
    def _targets(self) -> tuple[str, ...]:
        return (self.targets,) if isinstance(self.targets, str) else self.targets

    def _check_ends(self) -> None:
        """Only LoRA from its default start knows of the embedding and the head."""
        if not self._targets:
            raise UserError("no targets: name at least one, --targets all-linear")
        ends = [target for target in self._targets if target in ENDS]
        other = f"--method {self.method}" if self.method != "lora" else f"--init {self.init}"
        if ends and (self.method, self.init) != ("lora", "default"):
            raise UserError(
                f"--targets {ends[0]} does not go with {other}, which is for projections of the "
                "layers; leave one of them out"
            )

    def _of_each(self, name: str) -> tuple:
        given = getattr(self, name)
        values = given if isinstance(given, tuple) else (given,)
        return values * len(self.seeds) if len(values) == 1 else values

    def _check_count(self, name: str) -> None:
        count = len(self._of_each(name))
        if count != len(self.seeds):
            raise UserError(
                f"--{name.replace('_', '-')} has {count} values for {len(self.seeds)} seeds; give "
                "one for all or one a seed"
            )


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
