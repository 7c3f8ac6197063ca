"""What the command line of ``lorafuse train`` takes."""

from dataclasses import dataclass
from pathlib import Path

from lorafuse_jax.workflow.loggers import LoggerName
from lorafuse_jax.workflow.train import train
from lorafuse_jax.workflow.train_config import TrainConfig


@dataclass(frozen=True, kw_only=True)
class Train(TrainConfig):
    """Train one adapter a seed, all in one step, into a run folder.

    lorafuse train --model smollm2-135m-instruct --data my.jsonl --seeds 11 42 202 --out runs/my

    Repeating the command goes on where it was stopped.

    Attributes:
        model: folder of a Hugging Face model, hub name, or a name that lorafuse fetch lists.
        data: JSONL or Parquet file with prompt and completion, or messages; folder with train.jsonl
            and validation.jsonl; or a name that lorafuse fetch lists (gsm8k:/path is a local copy).
        out: the run folder.
        seeds: one adapter each.
        rank: of the updates.
        alpha: an update is scaled by alpha / rank.
        dropout: on the input of an update.
        rslora: scale by alpha / sqrt(rank) instead.
        targets: regular expression for the adapted modules; all linear layers by default.
        learning_rate: peak, after a warm-up over 5 % of the steps; a cosine to a tenth follows.
        examples: training examples of each seed; one epoch by default.
        examples_per_step: examples of each seed in one optimiser step.
        heldout_examples: validation examples of the held-out loss.
        shared: what the seeds have in common (init, order, dropout) instead of each its own.
        max_length: longest example in tokens; the model's context by default.
        overlong: what happens to longer ones.
        template: how prompts are put to the model: qa, chat, alpaca or metamath; by default as the
            data says, or else the tokenizer's chat template, or else qa.
        quantization: keep the frozen base in 8 bits a weight (int8) or 4 (nf4, as QLoRA).
        fuse_every: steps between evaluations, of the seeds and of them fused; three evaluations, of
            the seeds alone, by default.
        fuse_operator: how they are fused for that.
        patience: stop when so many evaluations in a row have not lowered the fused loss.
        average_last: keep each seed's mean over its last so many evaluations too, in fused/.
        log: where metrics go besides metrics.jsonl: tensorboard, wandb, trackio.
    """

    out: Path
    log: tuple[LoggerName, ...] = ()

    def run(self) -> None:
        """Train, or go on."""
        settings = {key: value for key, value in vars(self).items() if key not in ("out", "log")}
        train(TrainConfig(**settings), self.out, self.log)
