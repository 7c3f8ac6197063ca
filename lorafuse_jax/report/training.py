"""How the losses went while training: a figure, and the same in words."""

from matplotlib.figure import Figure
from matplotlib.ticker import LogLocator, MaxNLocator, ScalarFormatter

from lorafuse_jax.report.figure import clean

PALETTE = ("#4c78a8", "#d9622b", "#54a24b", "#7a52a3", "#b5892b", "#3a9ea5", "#c44e6b", "#777777")
FUSED = "#1d1f23"


def loss_figure(metrics: list[dict]) -> Figure:
    """Training loss (thin) and held-out loss (dots) of every seed, and of the seeds fused.

    The training loss is that of the step's batch up to 200 steps, beyond the mean of a hundredth of
    all steps, so that the curves stay readable. A cross is where a seed was frozen.

    Args:
        metrics: lines of ``metrics.jsonl``, at least one of a seed.
    """
    figure = Figure(figsize=(10, 3.6), layout="constrained")
    axes = figure.subplots()
    last = max(line["step"] for line in metrics)
    size = last // 100 if last > 200 else 1
    for number, seed in enumerate(_seeds(metrics)):
        colour = PALETTE[number % len(PALETTE)]
        own = [line for line in metrics if line.get("seed") == seed]
        points = [(float(x["step"]), x["train_loss"]) for x in own if "train_loss" in x]
        steps, losses = _smooth(points, size)
        axes.plot(steps, losses, color=colour, lw=0.7, alpha=0.5)
        held = [line for line in own if "heldout_loss" in line]
        frozen = [line for line in own if "frozen_at" in line]
        label = f"seed {seed}" + (f": {held[-1]['heldout_loss']:.3f}" if held else "")
        axes.plot(
            [line["step"] for line in held],
            [line["heldout_loss"] for line in held],
            color=colour,
            marker="o",
            ms=4,
            label=label + (f", frozen at step {frozen[0]['frozen_at']}" if frozen else ""),
        )
        if frozen and losses:
            axes.plot(steps[-1:], losses[-1:], color=colour, marker="X", ms=9, ls="")
    for name, held in _fused(metrics).items():
        axes.plot(
            [line["step"] for line in held],
            [line["heldout_loss"] for line in held],
            color=FUSED,
            marker="D",
            ms=4,
            ls="--",
            lw=1.2,
            label=f"{name} of the seeds: {held[-1]['heldout_loss']:.3f}",
        )
    axes.set_xlabel("step (thin: training batches; marks: held-out, the last in the legend)")
    axes.set_ylabel("nats per answer token")
    axes.set_yscale("log")
    axes.yaxis.set_major_formatter(ScalarFormatter())
    axes.yaxis.set_minor_locator(LogLocator(subs=(2, 3, 5)))
    axes.yaxis.set_minor_formatter(ScalarFormatter())
    axes.xaxis.set_major_locator(MaxNLocator(integer=True))
    axes.legend(frameon=False, fontsize=9)
    clean(axes)
    return figure


def loss_words(metrics: list[dict]) -> str:
    """What ``loss_figure`` shows, for who cannot see it: first and last held-out loss of each."""
    parts = []
    for seed in _seeds(metrics):
        own = [line for line in metrics if line.get("seed") == seed]
        held = [line["heldout_loss"] for line in own if "heldout_loss" in line]
        text = f"seed {seed} " + (_from_to(held) if held else "without a held-out loss")
        frozen = [line["frozen_at"] for line in own if "frozen_at" in line]
        parts.append(text + (f", frozen at step {frozen[0]}" if frozen else ""))
    for name, held in _fused(metrics).items():
        parts.append(f"{name} of the seeds {_from_to([line['heldout_loss'] for line in held])}")
    last = max(line["step"] for line in metrics)
    return f"held-out loss in nats per answer token over {last} steps: " + "; ".join(parts)


def _from_to(losses: list[float]) -> str:
    return f"from {losses[0]:.3f} to {losses[-1]:.3f}" if len(losses) > 1 else f"{losses[0]:.3f}"


def _seeds(metrics: list[dict]) -> list[int]:
    return list(dict.fromkeys(line["seed"] for line in metrics if "seed" in line))


def _fused(metrics: list[dict]) -> dict[str, list[dict]]:
    found: dict[str, list[dict]] = {}
    for line in metrics:
        if "fused" in line:
            found.setdefault(line["fused"], []).append(line)
    return found


def _smooth(points: list[tuple[float, float]], size: int) -> tuple[list[float], list[float]]:
    """Means of so many points after one another."""
    groups = [points[start : start + size] for start in range(0, len(points), size)]
    mean = lambda values: sum(values) / len(values)  # noqa: E731
    return [mean([p[0] for p in g]) for g in groups], [mean([p[1] for p in g]) for g in groups]
