"""What a step's metrics become: lines of ``metrics.jsonl``, progress, entries of the loggers."""

from typing import Any

from lorafuse_jax.training.loop import StepMetrics
from lorafuse_jax.workflow.loggers import Log, logged_values
from lorafuse_jax.workflow.metrics_file import MetricsFile
from lorafuse_jax.workflow.progress import Meter, console
from lorafuse_jax.workflow.throughput import Throughput


class Recorder:
    """Takes the metrics of every step."""

    def __init__(
        self,
        *,
        file: MetricsFile,
        progress: Meter,
        throughput: Throughput,
        log: Log,
        fused_name: str,
    ) -> None:
        self._file, self._progress, self._throughput = file, progress, throughput
        self._log, self._fused_name = log, fused_name

    def __call__(self, metrics: StepMetrics, batch: Any) -> None:
        """Write, show and log one step."""
        speed = self._throughput.of(batch, metrics.seconds)
        self._file.append(metrics_lines(metrics, speed, self._fused_name))
        self._log(metrics.step, logged_values(metrics, speed, self._fused_name))
        for seed in metrics.frozen:
            console.print(frozen_note(seed, metrics.step))
        if metrics.heldout is not None:
            console.print(f"step {metrics.step} · held-out {_losses(metrics.heldout)}", end="")
            fused = metrics.fused
            console.print("" if fused is None else f" · {self._fused_name} of them {fused:.3f}")
        note = f"{speed['tokens_per_s']:.0f} tokens/s · {speed['peak_share']:.0%} of peak · loss "
        self._progress.advance(1, note + _losses(metrics.train_losses))


def metrics_lines(metrics: StepMetrics, speed: dict[str, float], fused_name: str) -> list[dict]:
    """The lines of ``metrics.jsonl`` of one step."""
    lines: list[dict] = []
    for seed, loss in metrics.train_losses.items():
        line: dict = {"step": metrics.step, "seed": seed, "train_loss": loss}
        if metrics.heldout is not None:
            line["heldout_loss"] = metrics.heldout[seed]
        lines.append(line | speed)
    lines += [{"step": metrics.step, "seed": s, "frozen_at": metrics.step} for s in metrics.frozen]
    if metrics.fused is not None:
        lines.append({"step": metrics.step, "fused": fused_name, "heldout_loss": metrics.fused})
    return lines


def frozen_note(seed: int, step: int) -> str:
    """What is said of a seed that was frozen."""
    return (
        f"seed {seed} is frozen as it was before step {step}, where its loss or gradient was not "
        "finite; the others go on"
    )


def _losses(losses: dict[int, float]) -> str:
    return " ".join(f"{seed}:{loss:.3f}" for seed, loss in losses.items())
